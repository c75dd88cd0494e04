"""What happens to requests in work when a gateway stops."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import running_model
from tests.support.recorder import recording_provider
from tests.support.sse import events_of
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually

QUICK_STOP = {"SHUTDOWN_TIMEOUT_SECONDS": "5", "WEB_CONCURRENCY": "1"}


def stop_after(gateway: GatewayUnderTest, seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, gateway.service.process.terminate)
    timer.start()
    return timer


def test_a_stream_in_work_ends_whole_and_is_counted(start_gateway: StartGateway, tmp_path: Path) -> None:
    with running_model("expensive_model", tmp_path, TOKEN_INTERVAL_SECONDS="0.1") as slow_model:
        gateway = start_gateway(EXPENSIVE_MODEL_URL=f"{slow_model.url}/v1")
        with gateway.post(
            {"messages": [{"role": "user", "content": LONG}], "stream": True}, stream=True
        ) as answer:
            pieces = answer.iter_content(None)
            received = next(pieces)
            gateway.service.process.terminate()
            stopped = time.monotonic()
            received += b"".join(pieces)
        assert time.monotonic() - stopped > 1, "the stream was not in work when the stop came"
        assert received.endswith(b"data: [DONE]\n\n")
        assert gateway.service.process.wait(10) == 0
    assert gateway.counted("ExpensiveModel").calls == 1


def test_a_stream_that_takes_longer_than_the_stop_is_told_so_and_billed(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    with running_model("expensive_model", tmp_path, TOKEN_INTERVAL_SECONDS="1") as slow_model:
        gateway = start_gateway(EXPENSIVE_MODEL_URL=f"{slow_model.url}/v1", **QUICK_STOP)
        timer = stop_after(gateway, 1)
        events = events_of(gateway.chat(LONG, stream=True))
        timer.join()
        assert gateway.service.process.wait(10) == 0
    assert events[-1]["error"]["code"] == "overloaded"
    assert "[DONE]" not in events
    counted = gateway.counted("ExpensiveModel")
    assert counted.calls == 1
    assert 0 < counted.output_tokens < 27


def test_a_plain_answer_that_takes_longer_than_the_stop_is_told_so_and_billed(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(FORWARD_MOCK_FAULTS="on", **QUICK_STOP)
    timer = stop_after(gateway, 0.5)
    answer = gateway.post(
        {"messages": [{"role": "user", "content": SHORT}]}, headers={"X-Mock-Fault": "slow=20"}
    )
    timer.join()
    assert gateway.service.process.wait(10) == 0
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "overloaded"
    assert answer.headers["Retry-After"] == "1"
    counted = gateway.counted("CheapModel")
    assert (counted.calls, counted.input_tokens, counted.output_tokens) == (0, 14, 0)
    assert [line["status"] for line in gateway.service.log_lines if line["message"] == "request"] == [503]


def test_an_answer_that_was_cut_is_never_followed_by_another(start_gateway: StartGateway) -> None:
    gateway = start_gateway(FORWARD_MOCK_FAULTS="on", **QUICK_STOP)
    body = b'{"messages": [{"role": "user", "content": "hi"}], "stream": true}'
    port = int(gateway.gateway_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), 15) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Mock-Fault: stall_midstream\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        received = client.recv(65536)
        gateway.service.process.terminate()
        with contextlib.suppress(ConnectionError):  # what is sent behind the end may be answered by a reset
            while piece := client.recv(65536):
                received += piece
                if b'"code": "overloaded"' in received:
                    client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b'"code": "overloaded"' in received
    assert received.count(b"HTTP/1.1") == 1


def test_idle_connections_do_not_delay_a_stop(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    with requests.Session() as first, requests.Session() as second:
        for session in (first, second):
            assert session.get(f"{gateway.gateway_url}/healthz", timeout=5).ok
        began = time.monotonic()
        assert gateway.service.stop() == 0
    # Far from the 20 s that an idle connection may wait otherwise.
    assert time.monotonic() - began < 8


def test_a_client_that_stops_reading_is_given_up(start_gateway: StartGateway) -> None:
    with recording_provider(content="word " * 8_000_000) as provider:
        gateway = start_gateway(
            CHEAP_MODEL_URL=f"{provider.url}/v1", CLIENT_STALL_TIMEOUT_SECONDS="2", WEB_CONCURRENCY="1"
        )
        port = int(gateway.gateway_url.rsplit(":", 1)[1])
        (worker,) = gateway.service.workers

        def clients() -> int:
            return sum(peer.laddr.port == port and bool(peer.raddr) for peer in worker.net_connections())

        body = b'{"messages": [{"role": "user", "content": "hi"}]}'
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            assert eventually(lambda: gateway.counted("CheapModel").calls == 1, 15)
            assert clients() == 1
            assert eventually(lambda: clients() == 0, 15)
