"""Responses and Messages of providers that serve them themselves: passed through unchanged, billed as the
provider bills them, broken off in the shape of the dialect."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from urllib.parse import urlsplit

import pytest

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.native import LAST_EVENTS, events_of, final_usage
from tests.support.native_stack import APIS, KINDS, Native, body_of, models_file
from tests.support.processes import running_model
from tests.support.stack import MODELS, ONE_CALL, SHORT, Bill
from tests.support.waiting import eventually
from tests.support.wire import post

SETTINGS = ONE_CALL

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def native(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Native:
    gateway = start_gateway(
        MODELS_FILE=models_file(tmp_path_factory.mktemp("native"), model_urls),
        FORWARD_MOCK_FAULTS="on",
        UPSTREAM_READ_TIMEOUT_SECONDS="1",
        WEB_CONCURRENCY="1",
    )
    return Native(**vars(gateway))


class Bills:
    """What the gateway counts and what the providers bill from here on."""

    def __init__(self, gateway: GatewayUnderTest) -> None:
        self._gateway = gateway
        self._before = self._both()

    def _both(self) -> list[tuple[Bill, Bill]]:
        return [(self._gateway.counted(model), self._gateway.billed(model)) for model in MODELS]

    @property
    def since(self) -> list[tuple[Bill, Bill]]:
        """For each model the gateway's bill and its own."""
        pairs = zip(self._both(), self._before, strict=True)
        return [
            ((ours - ours_before).rounded(), (theirs - theirs_before).rounded())
            for (ours, theirs), (ours_before, theirs_before) in pairs
        ]

    @property
    def agree(self) -> bool:
        return all(ours == theirs for ours, theirs in self.since)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("api", APIS)
def test_it_is_billed_as_the_provider_bills_it(native: Native, api: str, kind: str, stream: bool) -> None:
    bills = Bills(native)

    answer = native.ask(api, body_of(api, kind, stream=stream))

    assert answer.status_code == 200, answer.text
    assert bills.agree, bills.since
    counted = [ours for ours, _ in bills.since if ours.calls]
    assert [bill.calls for bill in counted] == [1]
    assert (counted[0].cached_input_tokens > 0) is (kind == "cached")
    if stream:
        usages = [usage for event in events_of(answer.content) if (usage := final_usage(event))]
        assert Decimal(str(usages[-1]["cost"])) == counted[0].cost_usd
    else:
        assert Decimal(answer.headers["X-Gateway-Cost-Usd"]) == counted[0].cost_usd


@pytest.mark.parametrize("fault", ["no_usage", "cut_midstream", "stall_midstream"])
@pytest.mark.parametrize("api", APIS)
def test_without_a_final_usage_what_was_delivered_is_billed_and_marked(
    native: Native, api: str, fault: str
) -> None:
    bills = Bills(native)
    body = body_of(api, "short", stream=True)

    native.ask(api, body, fault)

    assert eventually(lambda: bills.agree), bills.since
    counted = next(ours for ours, _ in bills.since if ours.calls)
    assert counted.input_tokens == 14
    assert 0 < counted.output_tokens <= 9
    assert native.service.log_lines[-1]["usage_estimated"] is True


@pytest.mark.parametrize("fault", ["cut_midstream", "stall_midstream", "malformed_json"])
@pytest.mark.parametrize("api", APIS)
def test_a_broken_stream_ends_in_an_error_of_its_dialect_and_looks_whole_to_nobody(
    native: Native, api: str, fault: str
) -> None:
    bills = Bills(native)

    answer = native.ask(api, body_of(api, "long", stream=True), fault)

    *events, last = events_of(answer.content)
    code = "upstream_timeout" if fault == "stall_midstream" else "upstream_error"
    assert last["type"] == "error"
    if api == "messages":
        assert set(last) == {"type", "error"}
        kind = "timeout_error" if code == "upstream_timeout" else "api_error"
        assert last["error"]["type"] == kind
    else:
        assert last["code"] == last["error"]["code"] == code
        assert last["message"] == last["error"]["message"]
    assert not {event["type"] for event in events} & {*LAST_EVENTS, "error"}
    assert eventually(lambda: all(ours.calls == theirs.calls for ours, theirs in bills.since))
    ours, theirs = bills.since[1]
    assert (ours.calls, ours.input_tokens) == (theirs.calls, theirs.input_tokens) == (1, 45)
    # A mock that sends a broken event bills it and those behind it that had left before it was left itself.
    assert 0 <= theirs.output_tokens - ours.output_tokens <= (14 if fault == "malformed_json" else 0)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429, 529])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("api", APIS)
def test_a_refusal_comes_in_the_providers_own_words(
    native: Native, api: str, stream: bool, status: int
) -> None:
    counters = native.counters()
    answer = native.ask(api, body_of(api, "short", stream=stream), f"status={status}")
    told = answer.json()
    if status == 529:  # a failure, and no refusal
        assert answer.status_code == 502
        assert told["error"]["type"] == ("api_error" if api == "messages" else "server_error")
    else:
        assert answer.status_code == status
        assert told["error"]["message"] == f"The mock was asked to answer with status {status}."
    assert set(told) - {"request_id"} == ({"type", "error"} if api == "messages" else {"error"})
    assert native.counters()["cost_usd"] == counters.get("cost_usd", "0")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("status=500", 502, "api_error"),
        ("connect_reset", 502, "api_error"),
        ("malformed_json", 502, "api_error"),
        ("cut_midstream", 502, "api_error"),
        ("stall_midstream", 504, "timeout_error"),
        ("stall_before_first_byte", 504, "timeout_error"),
    ],
)
@pytest.mark.parametrize("api", APIS)
def test_a_failure_before_the_answer_is_an_error_in_the_shape_of_the_dialect(
    native: Native, api: str, fault: str, status: int, kind: str
) -> None:
    answer = native.ask(api, body_of(api, "short", stream=False), fault)
    assert answer.status_code == status
    told = answer.json()
    if api == "messages":
        assert (told["type"], told["error"]["type"]) == ("error", kind)
    else:
        assert set(told["error"]) == {"message", "type", "param", "code"}
        assert told["error"]["type"] == "server_error"


def test_a_response_can_follow_another_where_the_provider_keeps_them(native: Native) -> None:
    first = native.ask("responses", {"input": SHORT, "model": "CheapModel"}).json()
    bills = Bills(native)
    follow = {"input": "And of Spain?", "previous_response_id": first["id"], "model": "CheapModel"}

    second = native.ask("responses", follow)

    assert second.status_code == 200, second.text
    assert second.json()["previous_response_id"] == first["id"]
    assert bills.agree
    assert bills.since[0][0].input_tokens > 14 + 9, "the earlier conversation was not billed"


def test_a_response_that_nobody_keeps_is_refused_as_openai_does(native: Native) -> None:
    body = {"input": SHORT, "previous_response_id": "resp_0", "model": "CheapModel"}
    answer = native.ask("responses", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "previous_response_not_found"


@pytest.mark.parametrize("kind", ["short", "cached", "conversation", "one tool", "image"])
def test_tokens_are_counted_by_the_provider_and_cost_nothing(native: Native, kind: str) -> None:
    body = body_of("messages", kind, stream=False)
    bills = Bills(native)
    counted = native.ask("messages/count_tokens", body).json()
    assert all(bill == Bill(0, 0, 0, 0, Decimal(0)) for pair in bills.since for bill in pair)
    native.ask("messages", body)
    assert {ours.input_tokens for ours, _ in bills.since} == {0, counted["input_tokens"]}


@pytest.mark.parametrize(
    "fault", ["status=503", "connect_reset", "cut_midstream", "malformed_json", "stall_before_first_byte"]
)
def test_tokens_are_estimated_where_the_provider_fails_to_count_them(native: Native, fault: str) -> None:
    body = body_of("messages", "conversation", stream=False)
    counted = native.ask("messages/count_tokens", body, fault)
    assert counted.status_code == 200
    assert 0 < counted.json()["input_tokens"] < 100


def test_what_the_provider_refuses_to_count_is_refused(native: Native) -> None:
    answer = native.ask("messages/count_tokens", body_of("messages", "short", stream=False), "status=403")
    assert (answer.status_code, answer.json()["type"]) == (403, "error")


@pytest.fixture(scope="module")
def steady(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Native]:
    """Before a model that takes its time, so that a client can leave between two tokens."""
    folder = tmp_path_factory.mktemp("steady")
    with running_model(
        "cheap_model", folder, FIRST_TOKEN_SECONDS="0.4", TOKEN_INTERVAL_SECONDS="0.1"
    ) as model:
        gateway = start_gateway(
            MODELS_FILE=models_file(folder, dict.fromkeys(MODELS, model.url)),
            CHEAP_MODEL_URL=f"{model.url}/v1",
            WEB_CONCURRENCY="1",
        )
        yield Native(**vars(replace(gateway, model_urls=dict.fromkeys(MODELS, model.url))))


@pytest.mark.parametrize("events", [0, 1, 3, 6, 9])
@pytest.mark.parametrize("api", APIS)
def test_a_client_that_leaves_ends_the_call_within_a_second_and_pays_what_was_delivered(
    steady: Native, api: str, events: int
) -> None:
    counted, billed = steady.counted("CheapModel"), steady.billed("CheapModel")
    request = post(json.dumps(body_of(api, "short", stream=True)).encode(), path=f"/v1/{api}")
    parts = urlsplit(steady.gateway_url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as client:
        client.sendall(request)
        received = b""
        while received.count(b"\n\n") < events:
            received += client.recv(65536)
        if not events:
            time.sleep(0.2)
    left = time.monotonic()

    assert eventually(lambda: upstream_connections(steady) == 0, 1)
    assert time.monotonic() - left < 1
    assert eventually(lambda: steady.billed("CheapModel").input_tokens == billed.input_tokens + 14)
    assert eventually(lambda: steady.counted("CheapModel").input_tokens == counted.input_tokens + 14)
    ours, theirs = steady.counted("CheapModel") - counted, steady.billed("CheapModel") - billed
    assert ours == theirs
    assert ours.calls == (1 if events else 0)
    assert ours.output_tokens <= events


def upstream_connections(gateway: GatewayUnderTest) -> int:
    """Connections of the gateway to the model that are open."""
    port = urlsplit(gateway.model_urls["CheapModel"]).port
    peers = [peer for worker in gateway.service.workers for peer in worker.net_connections()]
    return sum(
        bool(peer.raddr) and peer.raddr.port == port and peer.status == "ESTABLISHED" for peer in peers
    )
