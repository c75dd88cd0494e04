"""Clients that leave before their answer is whole: the provider is left within a second, and paid."""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from decimal import Decimal

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import running_model
from tests.support.stack import ONE_CALL, SHORT
from tests.support.waiting import eventually

SETTINGS = ONE_CALL

pytestmark = [pytest.mark.heavy, pytest.mark.load]

SLOW = {"X-Mock-Fault": "slow=20"}


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(FORWARD_MOCK_FAULTS="on", WEB_CONCURRENCY="1")


def upstream_connections(gateway: GatewayUnderTest) -> int:
    """Connections of the gateway to the cheap model that are in use or kept for use."""
    port = int(gateway.model_urls["CheapModel"].rsplit(":", 1)[1])
    peers = [peer for worker in gateway.service.workers for peer in worker.net_connections()]
    return sum(
        bool(peer.raddr) and peer.raddr.port == port and peer.status == "ESTABLISHED" for peer in peers
    )


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_client_that_leaves_before_its_answer_begins_ends_the_call_and_pays_for_the_prompt(
    gateway: GatewayUnderTest, stream: bool
) -> None:
    before, billed_before = gateway.counted("CheapModel"), gateway.billed("CheapModel")
    body = {"messages": [{"role": "user", "content": SHORT}], "stream": stream}

    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{gateway.gateway_url}/v1/chat/completions", json=body, headers=SLOW, timeout=0.5)
    left = time.monotonic()

    assert eventually(lambda: upstream_connections(gateway) == 0, 1)
    assert time.monotonic() - left < 1
    assert eventually(lambda: gateway.counted("CheapModel").input_tokens > before.input_tokens)
    assert eventually(lambda: gateway.billed("CheapModel").input_tokens > billed_before.input_tokens)
    counted = gateway.counted("CheapModel") - before
    assert (counted.calls, counted.input_tokens, counted.output_tokens) == (0, 14, 0)
    assert gateway.billed("CheapModel").calls == billed_before.calls
    assert counted.cost_usd == (gateway.billed("CheapModel") - billed_before).cost_usd == Decimal("0.0000014")
    assert gateway.metrics()["totalRequests"] == before.calls
    line = [line for line in gateway.service.log_lines if line.get("status") == 499][-1]
    assert line["client_left"] is True


def test_a_client_that_leaves_before_its_request_went_out_pays_nothing(start_gateway: StartGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never shakes hands
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/v1"
        gateway = start_gateway(CHEAP_MODEL_URL=url)
        with pytest.raises(requests.ReadTimeout):
            requests.post(
                f"{gateway.gateway_url}/v1/chat/completions",
                json={"messages": [{"role": "user", "content": SHORT}]},
                timeout=0.5,
            )
        assert eventually(lambda: any(line.get("status") == 499 for line in gateway.service.log_lines))
    assert set(gateway.counters().values()) == {"0"}


def test_a_client_that_leaves_in_a_pause_of_its_stream_ends_the_call_at_once(
    gateway: GatewayUnderTest,
) -> None:
    before = gateway.counted("CheapModel").calls
    body = {"messages": [{"role": "user", "content": SHORT}], "stream": True}
    headers = {"X-Mock-Fault": "stall_midstream"}
    with requests.post(
        f"{gateway.gateway_url}/v1/chat/completions", json=body, headers=headers, timeout=5, stream=True
    ) as answer:
        pieces = answer.iter_content(None)
        next(pieces)
        assert upstream_connections(gateway) == 1
    assert eventually(lambda: upstream_connections(gateway) == 0, 1)
    assert eventually(lambda: gateway.counted("CheapModel").calls == before + 1)


def test_a_client_that_sends_its_next_request_ahead_has_not_left(gateway: GatewayUnderTest) -> None:
    before = gateway.counted("CheapModel").calls
    body = b'{"messages": [{"role": "user", "content": "hi"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n" % len(body)
    port = int(gateway.gateway_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall((head + b"\r\n" + body) * 2 + head + b"Connection: close\r\n\r\n" + body)
        answers = b""
        while piece := client.recv(65536):
            answers += piece
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert gateway.counted("CheapModel").calls == before + 3


@pytest.mark.heavy
def test_fifty_clients_that_leave_at_any_point_cost_what_the_model_bills(
    start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_model(
        "cheap_model",
        tmp_path_factory.mktemp("slow"),
        FIRST_TOKEN_SECONDS="0.2",
        TOKEN_INTERVAL_SECONDS="0.05",
    ) as model:
        gateway = start_gateway(CHEAP_MODEL_URL=f"{model.url}/v1")
        gateway = replace(gateway, model_urls={"CheapModel": model.url})
        for number in range(50):
            body = {"messages": [{"role": "user", "content": SHORT}], "stream": number % 2 == 0}
            try:
                with requests.post(
                    f"{gateway.gateway_url}/v1/chat/completions", json=body, stream=True, timeout=5
                ) as answer:
                    for seen, _ in enumerate(answer.iter_content(None)):
                        if seen == number % 11:
                            break
            except requests.RequestException:
                pass

        def settled() -> bool:
            counted, billed = gateway.counted("CheapModel"), gateway.billed("CheapModel")
            return counted.calls == billed.calls == 50

        assert eventually(settled)
        counted, billed = gateway.counted("CheapModel"), gateway.billed("CheapModel")
    assert counted.input_tokens == billed.input_tokens
    assert counted.cost_usd == pytest.approx(billed.cost_usd, rel=Decimal("0.1"))
