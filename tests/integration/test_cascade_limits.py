"""What a cascade may take of time and money, and what becomes of it where something breaks on the way: the
cheap answer stands, and everything that was asked is billed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.answering import Providers, Told, answering
from tests.support.cascades import (
    PRICES,
    PROMPT,
    TOLERANCE_USD,
    ask,
    attempts_of,
    counted_cost,
    requests_of,
    text_of,
)
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.waiting import eventually
from tests.support.wire import post

SMALL_USD, DEAR_USD = Decimal("0.0002"), Decimal("0.007")  # of 100 tokens of prompt and 50 of answer
CHECKED = "Small's answer was checked: "
JSON_OBJECT: dict[str, Any] = {"response_format": {"type": "json_object"}}
each_way = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@pytest.fixture
def providers() -> Iterator[Providers]:
    with answering(Small=PRICES["Small"], Dear=PRICES["Dear"]) as providers:
        providers["Small"].says("no JSON")
        providers["Dear"].says('{"from": "the dear one"}')
        yield providers


@pytest.fixture
def gateway(start_gateway: StartGateway, providers: Providers, tmp_path: Path) -> GatewayUnderTest:
    return start_gateway(
        MODELS_FILE=providers.models_file(tmp_path),
        ROUTING_POLICY="cascade",
        WEB_CONCURRENCY="1",
        UPSTREAM_RETRIES="0",
        CASCADE_MAX_SECONDS="1",
        GATEWAY_ADMIN_KEY=ADMIN_KEY,
    )


def test_what_stands_where_no_dearer_answer_can_be_had(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    """One gateway for all of it, as each takes a second to start."""
    for told, words in (
        (Told("broken", status=500), "Dear gave no answer"),
        (Told("too long", status=400), "Dear refused"),
    ):
        for stream in (False, True):
            providers["Dear"].answers = lambda asked, told=told: told  # type: ignore[misc]
            providers.forget()
            cost, counted = counted_cost(gateway), requests_of(gateway)
            baseline = Decimal(gateway.counters().get("baseline_cost_usd", "0"))

            answer = ask(gateway, stream=stream, **JSON_OBJECT)

            assert text_of(answer) == "no JSON"
            assert attempts_of(answer) == ["Small", "Dear"]
            assert answer.headers["X-Gateway-Model"] == "Small"
            assert answer.headers[
                "X-Gateway-Reason"
            ] == f"{CHECKED}no JSON object; not escalated: {words}" or (
                answer.headers["X-Gateway-Reason"] == f"{CHECKED}not valid JSON; not escalated: {words}"
            )
            assert abs(counted_cost(gateway) - cost - SMALL_USD) <= TOLERANCE_USD
            assert requests_of(gateway) == {"Small": counted.get("Small", 0) + 1}
            since = Decimal(gateway.counters()["baseline_cost_usd"]) - baseline
            assert abs(since - DEAR_USD) <= TOLERANCE_USD

    # Where there is no answer at all, the failure of the dearer model is what is left to tell.
    providers["Small"].says("")
    providers["Dear"].says("broken", status=500)
    failed = ask(gateway)
    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "upstream_error")


@each_way
def test_past_the_bound_on_time_the_cheap_answer_stands(
    gateway: GatewayUnderTest, providers: Providers, stream: bool
) -> None:
    providers["Small"].says("no JSON", seconds=1.1)
    answer = ask(gateway, stream=stream, **JSON_OBJECT)
    assert text_of(answer) == "no JSON"
    assert attempts_of(answer) == ["Small"]
    assert answer.headers["X-Gateway-Reason"] == (
        f"{CHECKED}not valid JSON; not escalated: 1 seconds have passed"
    )
    # Better late than empty.
    providers["Small"].says("", seconds=1.1)
    assert text_of(ask(gateway, stream=stream)) == '{"from": "the dear one"}'


def test_a_dear_answer_that_takes_longer_than_the_request_has_is_not_waited_for(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    providers["Dear"].says("late", seconds=5)
    began = time.monotonic()
    answer = ask(gateway, headers={"X-Request-Timeout": "1.5"}, **JSON_OBJECT)
    assert text_of(answer) == "no JSON"
    assert time.monotonic() - began < 3
    assert answer.headers["X-Gateway-Reason"].endswith("not escalated: Dear gave no answer")


def test_the_cheap_answer_stands_where_the_request_may_not_cost_more(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    answer = ask(gateway, headers={"X-Gateway-Max-Cost-Usd": "0.009"}, max_tokens=100, **JSON_OBJECT)
    assert text_of(answer) == "no JSON"
    assert providers.calls == [1, 0]
    assert answer.headers["X-Gateway-Reason"].endswith(
        "not escalated: the request's cost limit does not allow it"
    )
    enough = ask(gateway, headers={"X-Gateway-Max-Cost-Usd": "0.02"}, max_tokens=100, **JSON_OBJECT)
    assert attempts_of(enough) == ["Small", "Dear"]


def test_the_cheap_answer_stands_where_the_budget_affords_no_more_and_is_never_overdrawn(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    key_id, headers = create_key(gateway.gateway_url, budget_usd="0.01", period="total")
    first = ask(gateway, headers=headers, max_tokens=60, **JSON_OBJECT)
    assert attempts_of(first) == ["Small", "Dear"]

    second = ask(gateway, headers=headers, max_tokens=60, **JSON_OBJECT)

    assert text_of(second) == "no JSON"
    assert second.headers["X-Gateway-Reason"].endswith("not escalated: the budget does not allow it")
    key = requests.get(
        f"{gateway.gateway_url}/admin/keys/{key_id}",
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        timeout=10,
    ).json()
    spent = 2 * SMALL_USD + DEAR_USD
    assert abs(Decimal(str(key["budget_spent_usd"])) - spent) <= TOLERANCE_USD, key
    assert abs(counted_cost(gateway) - spent) <= TOLERANCE_USD
    assert (key["usage"]["requests"], key["budget_held_usd"]) == (2, 0), key


def test_a_client_that_leaves_while_the_dear_model_is_asked_pays_for_the_cheap_one(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    providers["Dear"].says("{}", seconds=3)
    address = urlsplit(gateway.gateway_url)
    body = json.dumps({"messages": PROMPT, **JSON_OBJECT}).encode()
    with socket.create_connection((address.hostname or "", address.port or 0)) as client:
        client.sendall(post(body))
        assert eventually(lambda: providers.calls == [1, 1], 5)
        # The first is billed by then, whatever becomes of the second.
        assert eventually(lambda: abs(counted_cost(gateway) - SMALL_USD) <= TOLERANCE_USD, 2)
    lines = gateway.service.log_lines
    assert eventually(lambda: any(line.get("client_left") for line in gateway.service.log_lines), 5), lines
    line = next(line for line in gateway.service.log_lines if line.get("client_left"))
    assert [attempt["status"] for attempt in line["attempts"]] == [200, 499]
    assert requests_of(gateway) == {}
    counters = gateway.counters()
    assert int(counters["model:Small:output_tokens"]) == 50


def test_a_worker_that_stops_while_the_dear_model_is_asked_has_billed_the_cheap_one(
    start_gateway: StartGateway, providers: Providers, tmp_path: Path
) -> None:
    gateway = start_gateway(
        MODELS_FILE=providers.models_file(tmp_path),
        ROUTING_POLICY="cascade",
        WEB_CONCURRENCY="1",
        SHUTDOWN_TIMEOUT_SECONDS="5",
    )
    providers["Dear"].says("{}", seconds=8)
    told: list[int] = []
    client = threading.Thread(target=lambda: told.append(ask(gateway, **JSON_OBJECT).status_code))
    client.start()
    assert eventually(lambda: providers.calls == [1, 1], 5)
    gateway.service.stop()
    client.join()
    assert told == [503]
    counters = gateway.counters()
    assert int(counters["model:Small:output_tokens"]) == 50
    assert counted_cost(gateway) >= SMALL_USD
    assert int(counters.get("requests", "0")) == 0


def test_a_worker_that_dies_while_another_model_is_asked_leaves_a_bill_and_no_request(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path: Path
) -> None:
    tables = (("Cheap", "CheapModel", 1), ("Middle", "ExpensiveModel", 2), ("Dear", "ExpensiveModel", 3))
    (tmp_path / "models.toml").write_text(
        "\n".join(
            f'[{name}]\nbase_url = "{model_urls[mock]}/v1"\nupstream_name = "{mock}"\n'
            f'bill_path = "/ledger/{{call_id}}"\n'
            f"usd_per_million_tokens = {{input = {usd}, cached_input = {usd}, output = {usd}}}"
            for name, mock, usd in tables
        )
    )
    gateway = start_gateway(
        MODELS_FILE=str(tmp_path / "models.toml"),
        ROUTING_POLICY="cascade",
        CASCADE_CHECKS="agreement",
        WEB_CONCURRENCY="1",
        FORWARD_MOCK_FAULTS="on",
    )
    headers = {"X-Mock-Fault": "slow=5,model=ExpensiveModel"}

    def leave_quietly() -> None:
        with suppress(requests.RequestException):
            ask(gateway, headers=headers)

    client = threading.Thread(target=leave_quietly)
    client.start()
    time.sleep(1.5)  # the first has answered, the second is thinking
    gateway.service.kill_worker()
    client.join()

    assert eventually(lambda: int(gateway.counters().get("model:Cheap:output_tokens", "0")) > 0, 20)
    assert eventually(lambda: Decimal(gateway.counters().get("model:Middle:cost_usd", "0")) > 0, 20)
    assert gateway.metrics()["totalRequests"] == 0
    assert Decimal(gateway.counters()["baseline_cost_usd"]) == 0
