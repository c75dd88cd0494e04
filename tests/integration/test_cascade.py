"""A cascade: the cheapest model is asked, its answer is checked, the dearest is asked where that fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.answering import Providers, Told, answering
from tests.support.cascades import PRICES, TOLERANCE_USD, ask, attempts_of, counted_cost, requests_of, text_of
from tests.support.native import events_of
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.waiting import eventually

SMALL_USD, DEAR_USD = Decimal("0.0002"), Decimal("0.007")  # of 100 tokens of prompt and 50 of answer
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
AS_JSON: dict[str, Any] = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
}
TOOLS: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}]}
each_way = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def calling(name: str, arguments: str) -> Told:
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return Told(None, "tool_calls", {"tool_calls": [call]})


@pytest.fixture(scope="module")
def all_providers() -> Iterator[Providers]:
    with answering(Small=PRICES["Small"], Dear=PRICES["Dear"]) as providers:
        yield providers


@pytest.fixture
def providers(all_providers: Providers) -> Providers:
    all_providers.forget()
    all_providers["Small"].says("42")
    all_providers["Dear"].says("from the dear one")
    return all_providers


@pytest.fixture(scope="module")
def gateway(
    start_gateway: StartGateway, all_providers: Providers, tmp_path_factory: pytest.TempPathFactory
) -> GatewayUnderTest:
    return start_gateway(
        MODELS_FILE=all_providers.models_file(tmp_path_factory.mktemp("cascade")),
        ROUTING_POLICY="cascade",
        WEB_CONCURRENCY="1",
        UPSTREAM_RETRIES="0",
    )


@each_way
def test_an_answer_without_fault_is_given_and_nothing_dearer_asked(
    gateway: GatewayUnderTest, providers: Providers, stream: bool
) -> None:
    answer = ask(gateway, stream=stream)

    assert text_of(answer) == "42"
    assert providers.calls == [1, 0]
    assert answer.headers["X-Gateway-Model"] == "Small"
    assert answer.headers["X-Gateway-Policy"] == "cascade"
    assert answer.headers["X-Gateway-Reason"] == "asked first; its answer passed: structure"
    assert Decimal(answer.headers["X-Gateway-Cost-Usd"]) == SMALL_USD
    assert not providers["Small"].asked[0].get("stream")


@each_way
@pytest.mark.parametrize(
    ("told", "fields", "fault"),
    [
        (Told("  \n"), {}, "empty"),
        (Told(None), {}, "empty"),
        (Told("it is for", "length"), {}, "cut"),
        (Told(None, message={"refusal": "no"}), {}, "refused"),
        (Told("", "content_filter"), {}, "refused"),
        (Told("I'm sorry, but I can't help with that."), {}, "refused"),
        (Told("{n: 1"), AS_JSON, "not valid JSON"),
        (Told('```json\n{"n": 1}\n```'), AS_JSON, "not valid JSON"),
        (Told('{"n": "one"}'), AS_JSON, "not valid against its JSON schema"),
        (Told("[1]"), {"response_format": {"type": "json_object"}}, "no JSON object"),
        (calling("subtract", "{}"), TOOLS, "an unknown tool called"),
        (calling("add", "{"), TOOLS, "a tool's arguments are not valid JSON"),
        (calling("add", '{"n": "1"}'), TOOLS, "a tool's arguments do not fit its parameters"),
        (Told("42"), {**TOOLS, "tool_choice": "required"}, "no tool called"),
        (Told("42 END and more"), {"stop": "END"}, "not ended at its stop text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_with_a_fault_is_escalated_and_both_calls_are_billed(
    gateway: GatewayUnderTest, providers: Providers, told: Told, fields: Any, fault: str, stream: bool
) -> None:
    providers["Small"].answers = lambda asked: told
    before, requests_before = counted_cost(gateway), requests_of(gateway)
    baseline_before = Decimal(gateway.counters().get("baseline_cost_usd", "0"))

    answer = ask(gateway, stream=stream, **fields)

    assert text_of(answer) == "from the dear one"
    assert attempts_of(answer) == ["Small", "Dear"]
    assert answer.headers["X-Gateway-Model"] == "Dear"
    assert answer.headers["X-Gateway-Reason"] == f"Small's answer was checked: {fault}; escalated"
    if not stream:
        assert Decimal(answer.headers["X-Gateway-Cost-Usd"]) == SMALL_USD + DEAR_USD
    assert abs(counted_cost(gateway) - before - providers.cost_usd) <= TOLERANCE_USD
    assert providers.cost_usd == SMALL_USD + DEAR_USD
    # The request counts once, for the model whose answer the client has; what it is compared with as well.
    requests_since = requests_of(gateway)
    assert requests_since["Dear"] == requests_before.get("Dear", 0) + 1
    assert requests_since.get("Small", 0) == requests_before.get("Small", 0)
    baseline = Decimal(gateway.counters()["baseline_cost_usd"]) - baseline_before
    assert abs(baseline - DEAR_USD) <= TOLERANCE_USD


@pytest.mark.parametrize(
    ("told", "fields"),
    [
        (Told('{"n": 1}'), AS_JSON),
        (Told("{}"), {"response_format": {"type": "json_object"}}),
        (Told("cut where the client wants it", "length"), {"max_tokens": 50}),
        (calling("add", '{"n": 1}'), {**TOOLS, "tool_choice": "required"}),
        (Told("I can't help but smile."), {}),
        (Told("42"), {"stop": ["END"]}),
        # A schema that would keep a checker busy for years says nothing against an answer.
        (
            Told('{"n": "' + "a" * 5000 + '!"}'),
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "x",
                        "schema": {
                            "properties": {"n": {"$ref": "#/$defs/a0"}},
                            "$defs": {
                                f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(60)
                            }
                            | {"a60": {"pattern": "^(a+)+$"}},
                        },
                    },
                }
            },
        ),
    ],
)
def test_an_answer_that_is_as_asked_for_is_given(
    gateway: GatewayUnderTest, providers: Providers, told: Told, fields: Any
) -> None:
    providers["Small"].answers = lambda asked: told
    answer = ask(gateway, **fields)
    assert (answer.status_code, answer.headers["X-Gateway-Model"]) == (200, "Small")
    assert providers.calls == [1, 0]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("path", ["responses", "messages"])
def test_the_other_dialects_are_checked_and_answered_as_well(
    gateway: GatewayUnderTest, providers: Providers, path: str, stream: bool
) -> None:
    fields = {"input": "hi"} if path == "responses" else {"max_tokens": 900}
    given = ask(gateway, path, stream=stream, **fields)
    assert (given.status_code, given.headers["X-Gateway-Model"]) == (200, "Small")
    assert '"42"' in given.text

    providers["Small"].says("", "content_filter")
    escalated = ask(gateway, path, stream=stream, **fields)
    assert escalated.headers["X-Gateway-Reason"] == "Small's answer was checked: refused; escalated"
    assert "from the dear one" in escalated.text


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "x",
    "content": [{"type": "text", "text": "42"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 100, "output_tokens": 50},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "42", "annotations": [], "logprobs": []}],
        }
    ],
    "usage": {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150},
}


@pytest.mark.parametrize(
    ("path", "whole", "fields", "last"),
    [
        ("messages", MESSAGE, {"max_tokens": 900}, "message_stop"),
        ("responses", RESPONSE, {"input": "hi"}, "response.completed"),
    ],
)
def test_a_provider_of_the_dialect_is_checked_and_its_answer_streamed(
    start_gateway: StartGateway, tmp_path: Path, path: str, whole: Any, fields: Any, last: str
) -> None:
    with answering(Small=PRICES["Small"], Dear=PRICES["Dear"]) as providers:
        providers["Small"].apis = providers["Dear"].apis = (path,)
        providers["Small"].says(whole=whole)
        gateway = start_gateway(
            MODELS_FILE=providers.models_file(tmp_path), ROUTING_POLICY="cascade", WEB_CONCURRENCY="1"
        )

        plain = ask(gateway, path, **fields)
        assert plain.json() == whole
        streamed = ask(gateway, path, stream=True, **fields)

        events = events_of(streamed.content)
        assert events[-1]["type"] == last
        deltas = [event["delta"] for event in events if event["type"].endswith("delta") and "delta" in event]
        assert "42" in json.dumps(deltas)
        assert providers.calls == [2, 0]
        empty = {**whole, "content": []} if path == "messages" else {**whole, "output": []}
        providers["Small"].says(whole=empty)
        providers["Dear"].says(whole=whole)
        escalated = ask(gateway, path, **fields)
        assert (escalated.json(), attempts_of(escalated)) == (whole, ["Small", "Dear"])


def test_a_client_can_do_without(gateway: GatewayUnderTest, providers: Providers) -> None:
    providers["Small"].says("")
    answer = ask(gateway, headers={"X-Gateway-Cascade": "off"}, stream=True)
    assert answer.headers["X-Gateway-Policy"] == "prompt_length"
    assert attempts_of(answer) == ["Small"]
    assert providers["Small"].asked[0]["stream"] is True

    unclear = ask(gateway, headers={"X-Gateway-Cascade": "maybe"})
    assert (unclear.status_code, unclear.json()["error"]["param"]) == (400, "X-Gateway-Cascade")


def test_a_model_that_is_named_is_not_checked(gateway: GatewayUnderTest, providers: Providers) -> None:
    providers["Small"].says("")
    answer = ask(gateway, model="Small")
    assert (answer.status_code, attempts_of(answer)) == (200, ["Small"])


def test_the_request_can_ask_for_it(
    start_gateway: StartGateway, all_providers: Providers, tmp_path: Path, providers: Providers
) -> None:
    gateway = start_gateway(
        MODELS_FILE=all_providers.models_file(tmp_path), WEB_CONCURRENCY="1", GATEWAY_ADMIN_KEY=ADMIN_KEY
    )
    providers["Small"].says("")
    assert attempts_of(ask(gateway)) == ["Small"]
    assert attempts_of(ask(gateway, model="auto:cascade")) == ["Small", "Dear"]
    _, headers = create_key(gateway.gateway_url, policy="cascade")
    assert attempts_of(ask(gateway, headers=headers)) == ["Small", "Dear"]
    assert attempts_of(ask(gateway, headers=headers, model="auto:prompt_length")) == ["Small"]
    _, narrow = create_key(gateway.gateway_url, policy="cascade", models=["Small"])
    alone = ask(gateway, headers=narrow)
    assert (attempts_of(alone), alone.headers["X-Gateway-Model"]) == (["Small"], "Small")


def test_legacy_completions_are_checked_and_embeddings_are_not(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with answering(Small=PRICES["Small"], Dear=PRICES["Dear"]) as providers:
        for model in providers.models.values():
            model.apis = ("completions", "embeddings")
        gateway = start_gateway(
            MODELS_FILE=providers.models_file(tmp_path), ROUTING_POLICY="cascade", WEB_CONCURRENCY="1"
        )
        usage = {"prompt_tokens": 100, "completion_tokens": 50}
        for name, text in (("Small", " "), ("Dear", "more")):
            choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
            providers[name].says(whole={"object": "text_completion", "choices": [choice], "usage": usage})
        for stream in (False, True):
            answer = ask(gateway, "completions", prompt="hi", stream=stream)
            assert attempts_of(answer) == ["Small", "Dear"]
            assert '"more"' in answer.text
        providers["Small"].says(
            whole={"object": "list", "data": [{"index": 0, "embedding": []}], "usage": {"prompt_tokens": 1}}
        )
        embedded = ask(gateway, "embeddings", input="hi")
        assert (attempts_of(embedded), embedded.headers["X-Gateway-Policy"]) == (["Small"], "prompt_length")


def test_where_one_model_alone_can_answer_it_is_a_plain_call(
    start_gateway: StartGateway, all_providers: Providers, tmp_path: Path, providers: Providers
) -> None:
    gateway = start_gateway(
        MODELS_FILE=all_providers.models_file(tmp_path, Small="context_window = 120"),
        ROUTING_POLICY="cascade",
        WEB_CONCURRENCY="1",
    )
    providers["Dear"].says("")
    answer = ask(gateway, messages=[{"role": "user", "content": "long " * 200}], stream=True)
    assert attempts_of(answer) == ["Dear"]
    assert providers["Dear"].asked[0]["stream"] is True
    assert answer.headers["X-Gateway-Reason"].startswith("no dearer model can answer")


def test_a_first_model_that_fails_is_replaced_as_ever(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    providers["Small"].says("broken", status=501)
    answer = ask(gateway)
    assert text_of(answer) == "from the dear one"
    assert answer.headers["X-Gateway-Reason"].endswith("fell back from Small")


def test_the_text_of_a_fault_is_logged_without_the_answer(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    providers["Small"].says("{SECRETWORD")
    ask(gateway, **AS_JSON)
    reason = "Small's answer was checked: not valid JSON; escalated"

    def line() -> list[str]:
        lines = [line for line in gateway.service.log_lines if line.get("reason") == reason]
        return [attempt["model"] for attempt in lines[-1]["attempts"]] if lines else []

    assert eventually(lambda: line() == ["Small", "Dear"], 5)
    assert "SECRETWORD" not in gateway.service.log


def test_the_clients_key_of_idempotency_goes_to_one_call_alone(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    providers["Small"].says("")
    ask(gateway, headers={"Idempotency-Key": "once"})
    assert providers["Small"].headers[0]["Idempotency-Key"] == "once"
    assert providers["Dear"].headers[0]["Idempotency-Key"] is None
    calls = {providers[name].headers[0]["X-Client-Request-Id"] for name in ("Small", "Dear")}
    assert len(calls) == 2
