"""`POST /v1/route` and the headers that explain a decision."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.refusals import assert_error_shape

SHORT, LONG = "What is 2 + 2?", "Explain it. " * 20


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway()


def ask(gateway: GatewayUnderTest, path: str, text: str, **fields: Any) -> requests.Response:
    body = {"messages": [{"role": "user", "content": text}], **fields}
    return requests.post(gateway.gateway_url + path, json=body, timeout=10)


@pytest.mark.parametrize(
    ("text", "model", "other"),
    [(SHORT, "CheapModel", "ExpensiveModel"), (LONG, "ExpensiveModel", "CheapModel")],
    ids=["short", "long"],
)
def test_it_says_where_a_request_would_go_and_calls_nobody(
    gateway: GatewayUnderTest, text: str, model: str, other: str
) -> None:
    before = requests.get(gateway.gateway_url + "/metrics", timeout=10).json()
    answer = ask(gateway, "/v1/route", text, max_tokens=100)
    told = answer.json()
    assert answer.status_code == 200
    assert (told["object"], told["model"], told["policy"]) == ("route", model, "prompt_length")
    assert (told["score"], told["threshold"], told["alternative"]["model"]) == (len(text), 150, other)
    assert str(len(text)) in told["flips"]
    assert "150" in told["flips"]
    assert answer.headers["X-Gateway-Model"] == model
    assert answer.headers["X-Gateway-Reason"] == told["reason"]
    assert requests.get(gateway.gateway_url + "/metrics", timeout=10).json() == before
    assert ask(gateway, "/v1/chat/completions", text).headers["X-Gateway-Model"] == model


def test_its_estimate_is_the_bill_of_an_answer_as_long_as_was_allowed(gateway: GatewayUnderTest) -> None:
    told = ask(gateway, "/v1/route", SHORT, max_tokens=3).json()
    assert told["assumed_output_tokens"] == 3
    answer = ask(gateway, "/v1/chat/completions", SHORT, max_tokens=3)
    usage = answer.json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (told["prompt_tokens"], 3)
    assert float(answer.headers["X-Gateway-Cost-Usd"]) == pytest.approx(told["estimated_cost_usd"])
    # The mock of the dear model takes ten times as much.
    assert told["alternative"]["estimated_cost_usd"] > told["estimated_cost_usd"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_names_the_model_that_was_not_chosen_and_its_price(
    gateway: GatewayUnderTest, stream: bool
) -> None:
    answer = ask(gateway, "/v1/chat/completions", SHORT, stream=stream)
    name, _, cost = answer.headers["X-Gateway-Alternative"].partition(";cost_usd=")
    assert name == "ExpensiveModel"
    if not stream:
        assert Decimal(cost) > Decimal(answer.headers["X-Gateway-Cost-Usd"])
    named = ask(gateway, "/v1/chat/completions", SHORT, model="CheapModel")
    assert "X-Gateway-Alternative" not in named.headers


def test_a_model_that_the_client_named_has_no_alternative(gateway: GatewayUnderTest) -> None:
    told = ask(gateway, "/v1/route", LONG, model="CheapModel").json()
    assert (told["model"], told["policy"]) == ("CheapModel", "requested")
    assert told["score"] is told["alternative"] is told["flips"] is None
    by_policy = ask(gateway, "/v1/route", LONG, model="auto:prompt_length").json()
    assert (by_policy["model"], by_policy["policy"]) == ("ExpensiveModel", "prompt_length")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"{}", 400, "messages"),
        (b'{"messages": [{"role": "user", "content": 1}]}', 400, "messages[0].content"),
        (b'{"model": "nobody", "messages": [{"role": "user", "content": "hi"}]}', 404, "model"),
        (b'{"model": "auto:by_mood", "messages": [{"role": "user", "content": "hi"}]}', 404, "model"),
    ],
)
def test_it_refuses_what_the_request_itself_would_be_refused_for(
    gateway: GatewayUnderTest, body: bytes, status: int, param: str | None
) -> None:
    answers = [
        requests.post(gateway.gateway_url + path, data=body, timeout=10)
        for path in ("/v1/route", "/v1/chat/completions")
    ]
    for answer in answers:
        assert answer.status_code == status
        assert_error_shape("/v1/route", answer.json(), own=True)
        assert answer.json()["error"]["param"] == param
    assert answers[0].json() == answers[1].json()


def test_it_says_of_a_cascade_what_would_escalate_it(gateway: GatewayUnderTest) -> None:
    told = ask(gateway, "/v1/route", LONG, model="auto:cascade").json()
    assert (told["model"], told["score"], told["flips"]) == (
        "CheapModel",
        None,
        "an answer that fails its check",
    )
    body = {"model": "auto:cascade", "messages": [{"role": "user", "content": LONG}]}
    without = requests.post(
        gateway.gateway_url + "/v1/route", json=body, headers={"X-Gateway-Cascade": "off"}, timeout=10
    ).json()
    assert (without["model"], without["policy"]) == ("ExpensiveModel", "prompt_length")


def test_other_methods_are_refused(gateway: GatewayUnderTest) -> None:
    answer = requests.get(gateway.gateway_url + "/v1/route", timeout=10)
    assert answer.status_code == 405
    assert_error_shape("/v1/route", answer.json(), own=True)
    assert "POST" in answer.headers["Allow"]


def run_flask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flask", "--app", "gateway.cli", "route", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_command_says_the_same_as_the_route(gateway: GatewayUnderTest) -> None:
    done = run_flask("--json", "--max-tokens", "100", SHORT)
    assert json.loads(done.stdout) == ask(gateway, "/v1/route", SHORT, max_tokens=100).json()
    in_words = run_flask(SHORT)
    assert in_words.returncode == 0
    for part in ("CheapModel", "prompt_length", f"{len(SHORT)} characters, at most 150", "ExpensiveModel"):
        assert part in in_words.stdout


def test_the_command_takes_several_turns_and_refuses_an_unknown_policy() -> None:
    turns = run_flask("--json", "x" * 100, "y" * 51)
    assert json.loads(turns.stdout)["score"] == 151
    unknown = run_flask("--model", "auto:by_mood", "hi")
    assert unknown.returncode != 0
    assert "not configured" in unknown.stderr
    assert "Traceback" not in unknown.stderr
