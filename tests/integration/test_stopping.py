"""What happens to requests in work when a gateway stops."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import RedisServer, Service, running_model
from tests.support.sse import events_of
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually

QUICK_STOP = {"SHUTDOWN_TIMEOUT_SECONDS": "5", "WEB_CONCURRENCY": "1"}


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An expensive model that takes about 2.5 s for its answer to `LONG`."""
    with running_model(
        "expensive_model", tmp_path_factory.mktemp("slow"), TOKEN_INTERVAL_SECONDS="0.1"
    ) as service:
        yield service


def streamed(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "stream": True}


@contextlib.contextmanager
def stalled_stream(gateway: GatewayUnderTest) -> Iterator[requests.Response]:
    """A stream of which half has come, and that goes on until its client closes it."""
    with gateway.post(streamed(SHORT), headers={"X-Mock-Fault": "stall_midstream"}, stream=True) as answer:
        pieces = answer.iter_content(None)  # which closes the stream when it goes
        next(pieces)
        yield answer


def serves(gateway: GatewayUnderTest) -> bool:
    try:
        return gateway.chat(SHORT).ok
    except requests.ConnectionError:
        return False


def listens(worker: psutil.Process) -> bool:
    return any(each.status == psutil.CONN_LISTEN for each in worker.net_connections())


def stop_after(gateway: GatewayUnderTest, seconds: float) -> threading.Timer:
    timer = threading.Timer(seconds, gateway.service.process.terminate)
    timer.start()
    return timer


def test_a_stream_in_work_ends_whole_and_is_counted(start_gateway: StartGateway, slow_model: Service) -> None:
    gateway = start_gateway(EXPENSIVE_MODEL_URL=f"{slow_model.url}/v1")
    with gateway.post(streamed(LONG), stream=True) as answer:
        pieces = answer.iter_content(None)
        received = next(pieces)
        gateway.service.process.terminate()
        stopped = time.monotonic()
        received += b"".join(pieces)
    assert time.monotonic() - stopped > 1, "the stream was not in work when the stop came"
    assert received.endswith(b"data: [DONE]\n\n")
    assert gateway.service.process.wait(12) == 0
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
    # Far from the 20 s that an idle connection may wait otherwise; a second of it is courtesy.
    assert time.monotonic() - began < 8


def test_a_stop_without_work_takes_no_time(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    gateway.chat(SHORT)
    began = time.monotonic()
    assert gateway.service.stop() == 0
    took = time.monotonic() - began
    print(f"stopped after {took:.2f} s")
    assert took < 6


def test_while_streams_are_in_work_a_stopping_gateway_says_so_and_refuses_politely(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(FORWARD_MOCK_FAULTS="on", WEB_CONCURRENCY="2")
    url = gateway.gateway_url

    def get(path: str) -> requests.Response:
        return requests.get(url + path, timeout=10)

    with stalled_stream(gateway) as stream:
        assert get("/readyz").status_code == 200
        gateway.service.process.terminate()
        assert eventually(lambda: get("/readyz").status_code == 503, 2)
        ready = get("/readyz")
        assert ready.json()["status"] == "unavailable"
        assert ready.json()["reasons"][0].startswith("stopping: ")
        assert get("/healthz").status_code == get("/metrics").status_code == 200
        chat, message = gateway.chat(SHORT), requests.post(f"{url}/v1/messages", json={}, timeout=10)
        for refused in (chat, message, get("/v1/models")):
            assert refused.status_code == 503
            assert refused.headers["Retry-After"] == "1"
            assert refused.headers["Connection"] == "close"
        assert chat.json()["error"]["code"] == "overloaded"
        assert message.json()["error"]["type"] == "overloaded_error"
        stream.close()
    assert gateway.service.process.wait(12) == 0
    assert eventually(lambda: gateway.counted("CheapModel").calls == 1)


def test_clients_that_go_on_asking_do_not_delay_a_stop(start_gateway: StartGateway) -> None:
    gateway = start_gateway(FORWARD_MOCK_FAULTS="on", WEB_CONCURRENCY="2")
    stopped, refused = threading.Event(), []

    def go_on_asking() -> None:
        while not stopped.is_set():
            with contextlib.suppress(requests.ConnectionError):  # at last nobody listens any more
                refused.append(gateway.chat(SHORT).json()["error"]["code"])

    asking = [threading.Thread(target=go_on_asking) for _ in range(4)]
    try:
        with stalled_stream(gateway) as stream:
            gateway.service.process.terminate()
            assert eventually(lambda: gateway.chat(SHORT).status_code == 503)
            for thread in asking:
                thread.start()
            assert eventually(lambda: len(refused) > 20, 15)
            stream.close()
        # The time for stopping, in which they would go on, is 30 s.
        assert gateway.service.process.wait(12) == 0
    finally:
        stopped.set()
        for thread in asking:
            if thread.is_alive():
                thread.join()
    assert set(refused) == {"overloaded"}


def test_a_stop_is_told_at_once_also_while_replaced_workers_are_waited_for(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(FORWARD_MOCK_FAULTS="on", WEB_CONCURRENCY="1")
    (old,) = gateway.service.workers
    with stalled_stream(gateway) as stream:
        gateway.service.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: not listens(old), 20)
        assert gateway.chat(SHORT).status_code == 200
        gateway.service.process.terminate()
        assert eventually(lambda: not serves(gateway))
        assert old.is_running()
        stream.close()
    assert gateway.service.process.wait(12) == 0


def test_workers_are_replaced_only_when_others_serve(start_gateway: StartGateway) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="1")
    (old,) = gateway.service.workers
    gateway.service.process.send_signal(signal.SIGHUP)
    assert eventually(lambda: len(gateway.service.workers) == 2, 20)
    while gateway.service.workers[0] == old:
        asked = time.monotonic()
        assert requests.get(f"{gateway.gateway_url}/healthz", timeout=10).status_code == 200
        assert time.monotonic() - asked < 1, "nobody accepted for a while"


def test_whatever_the_stop_cuts_no_hold_is_left(start_gateway: StartGateway, slow_model: Service) -> None:
    gateway = start_gateway(
        EXPENSIVE_MODEL_URL=f"{slow_model.url}/v1",
        FORWARD_MOCK_FAULTS="on",
        GATEWAY_BUDGET_USD="1",
        **QUICK_STOP,
    )
    faults = ["slow=20", "stall_before_first_byte", "stall_midstream", "slow=20"]

    def ask(number: int) -> requests.Response:
        body = streamed(SHORT) if number % 2 else {"messages": [{"role": "user", "content": SHORT}]}
        return gateway.post(body, headers={"X-Mock-Fault": faults[number // 2 % 4]})

    def holds() -> list[str]:
        return [name for name in gateway.counters() if name.startswith("holds:")]

    with ThreadPoolExecutor(16) as clients:
        answers = [clients.submit(ask, number) for number in range(16)]
        assert eventually(lambda: bool(holds()))
        time.sleep(0.5)
        gateway.service.process.terminate()
        statuses = {answer.result().status_code for answer in answers}
        assert gateway.service.process.wait(10) == 0
    assert statuses == {200, 503}
    assert all("overloaded" in answer.result().text for answer in answers)
    assert holds() == []


def test_a_request_that_waits_for_redis_when_time_is_over_is_told_so(
    start_gateway: StartGateway, own_redis: RedisServer
) -> None:
    gateway = start_gateway(
        REDIS_URL=own_redis.url, GATEWAY_REQUIRE_KEYS="on", REDIS_TIMEOUT_SECONDS="20", **QUICK_STOP
    )
    own_redis.pause()
    try:
        timer = stop_after(gateway, 0.2)
        answer = requests.post(
            f"{gateway.gateway_url}/v1/messages",
            json={},
            headers={"Authorization": f"Bearer gw-{'0' * 12}-{'a' * 43}"},
            timeout=15,
        )
        timer.join()
    finally:
        own_redis.resume()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["error"]["type"] == "overloaded_error"
    gateway.service.process.wait(10)
