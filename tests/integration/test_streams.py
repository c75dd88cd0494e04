"""Streamed answers: how they arrive, how they end, and what is counted for each end."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from decimal import Decimal

import pytest

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import running_model
from tests.support.sse import events_of, text_of
from tests.support.stack import LONG, ONE_CALL, SHORT
from tests.support.waiting import eventually

SETTINGS = ONE_CALL

FAULT = "X-Mock-Fault"
STREAM = {"messages": [{"role": "user", "content": SHORT}], "stream": True}
WITH_USAGE = STREAM | {"stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def faulty(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(FORWARD_MOCK_FAULTS="on", UPSTREAM_READ_TIMEOUT_SECONDS="1")


def test_a_stream_says_the_same_as_a_plain_answer(gateway: GatewayUnderTest) -> None:
    plain = gateway.chat("Grüße, 日本 and 👩‍👩‍👧")
    streamed = gateway.chat("Grüße, 日本 and 👩‍👩‍👧", stream=True)

    events = events_of(streamed)
    assert events[-1] == "[DONE]"
    assert text_of(events) == plain.json()["choices"][0]["message"]["content"]


def test_a_stream_tells_proxies_not_to_hold_it_back(gateway: GatewayUnderTest) -> None:
    answer = gateway.post(STREAM)
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Gateway-Model"] == "CheapModel"
    assert "X-Gateway-Cost-Usd" not in answer.headers


def test_the_usage_chunk_is_hidden_from_a_client_that_did_not_ask(gateway: GatewayUnderTest) -> None:
    events = events_of(gateway.post(STREAM))
    assert all(event == "[DONE]" or event["choices"] for event in events)
    assert not any(event.get("usage") for event in events[:-1])


def test_the_usage_chunk_carries_the_cost_for_a_client_that_asked(gateway: GatewayUnderTest) -> None:
    *_, usage, done = events_of(gateway.post(WITH_USAGE))
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens"] == 14
    assert usage["usage"]["completion_tokens"] == 9
    assert usage["usage"]["cost"] == 0.000005


def test_plain_and_streamed_answers_are_counted_alike(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    gateway.chat(SHORT)
    plain = gateway.counted("CheapModel")
    gateway.post(STREAM)
    assert gateway.counted("CheapModel") - plain == plain


def test_chunks_arrive_one_by_one_as_the_provider_sends_them(
    start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_model(
        "cheap_model", tmp_path_factory.mktemp("slow"), TOKEN_INTERVAL_SECONDS="0.3"
    ) as slow_model:
        gateway = start_gateway(CHEAP_MODEL_URL=f"{slow_model.url}/v1")
        arrived = []
        with gateway.post(STREAM, stream=True) as answer:
            for _ in answer.iter_content(None):
                arrived.append(time.monotonic())
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrived)]
    # 9 tokens lie 0.3 s apart; held back, they would all come at once.
    assert sum(gap > 0.1 for gap in gaps) >= 7


def test_an_answer_is_counted_before_its_last_byte_leaves(gateway: GatewayUnderTest) -> None:
    for _ in range(20):
        before = gateway.counted("CheapModel").calls
        with gateway.post(STREAM, stream=True) as answer:
            seen = b""
            for piece in answer.iter_content(None):
                seen += piece
                if b"[DONE]" in seen:
                    break
            assert gateway.counted("CheapModel").calls == before + 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("cut_midstream", "upstream_error"),
        ("malformed_json", "upstream_error"),
        ("stall_midstream", "upstream_timeout"),
    ],
)
def test_a_stream_that_breaks_ends_with_an_error_event_and_is_billed_for_what_came(
    faulty: GatewayUnderTest, fault: str, code: str
) -> None:
    before = faulty.counted("CheapModel")
    errors = int(faulty.counters().get("model:CheapModel:errors", "0"))

    answer = faulty.post(STREAM, headers={FAULT: fault})

    events = events_of(answer)
    assert answer.status_code == 200
    assert 0 < len(text_of(events)) < len("CheapModel: What is the capital of …")
    assert events[-1]["error"]["code"] == code
    assert "[DONE]" not in events
    # A provider that goes on after that notices in a moment that nobody listens, and then has a bill.
    assert eventually(lambda: faulty.counted("CheapModel").calls == before.calls + 1, 5)
    billed = faulty.counted("CheapModel") - before
    assert billed.input_tokens == 14
    assert 0 < billed.output_tokens <= 9
    assert billed.cost_usd == Decimal(14 * 100 + billed.output_tokens * 400) / 10**9
    assert int(faulty.counters()["model:CheapModel:errors"]) == errors + 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status=503", 502, "upstream_error"),
        ("connect_reset", 502, "upstream_error"),
        ("stall_before_first_byte", 504, "upstream_timeout"),
    ],
)
def test_a_stream_that_never_begins_is_answered_with_a_status(
    faulty: GatewayUnderTest, fault: str, status: int, code: str
) -> None:
    before = faulty.counted("CheapModel")
    answer = faulty.post(STREAM, headers={FAULT: fault})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert faulty.counted("CheapModel") == before


def test_a_client_that_leaves_in_the_middle_is_billed_for_what_came(
    start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_model(
        "expensive_model", tmp_path_factory.mktemp("slow"), TOKEN_INTERVAL_SECONDS="0.1"
    ) as slow_model:
        gateway = start_gateway(EXPENSIVE_MODEL_URL=f"{slow_model.url}/v1")
        gateway = replace(gateway, model_urls={"ExpensiveModel": slow_model.url})
        with gateway.post(STREAM | {"model": "ExpensiveModel"}, stream=True) as answer:
            pieces = answer.iter_content(None)
            for _ in range(4):
                next(pieces)

        assert eventually(lambda: gateway.counted("ExpensiveModel").calls == 1)
        assert eventually(lambda: gateway.billed("ExpensiveModel").output_tokens > 0)
        counted, billed = gateway.counted("ExpensiveModel"), gateway.billed("ExpensiveModel")
    assert counted.calls == billed.calls == 1
    assert counted.input_tokens == billed.input_tokens
    assert 2 <= counted.output_tokens < 12
    # The model may have a token or two on their way when its connection ends.
    assert 0 <= billed.output_tokens - counted.output_tokens <= 3
    assert gateway.metrics()["totalRequests"] == 1
    (line,) = [line for line in gateway.service.log_lines if line.get("stream")]
    assert line["client_left"] is True
    assert line["usage_estimated"] is True


def test_connections_to_the_provider_are_used_again_after_a_stream(start_gateway: StartGateway) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="1")
    for _ in range(5):
        gateway.post(STREAM)
    (worker,) = gateway.service.workers
    port = int(gateway.model_urls["CheapModel"].rsplit(":", 1)[1])
    upstream = [peer for peer in worker.net_connections() if peer.raddr and peer.raddr.port == port]
    assert len(upstream) == 1


def test_a_long_prompt_streams_from_the_expensive_model(gateway: GatewayUnderTest) -> None:
    answer = gateway.chat(LONG, stream=True)
    assert answer.headers["X-Gateway-Model"] == "ExpensiveModel"
    assert text_of(events_of(answer)).startswith("ExpensiveModel: Explain")
