"""Clients that send or read too slowly hold no worker, and disturb nobody."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.recorder import recording_provider
from tests.support.stack import SHORT
from tests.support.waiting import eventually

STALL_SECONDS = 2
DRIBBLING_CLIENTS = 300
# Far more than the kernels of both sides buffer.
LONG_ANSWER_BYTES = 16_000_000


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> Iterator[GatewayUnderTest]:
    """One worker that is impatient, and a model with a long answer."""
    with recording_provider(content="word " * (LONG_ANSWER_BYTES // 5)) as provider:
        yield start_gateway(
            CHEAP_MODEL_URL=f"{provider.url}/v1",
            CLIENT_STALL_TIMEOUT_SECONDS=str(STALL_SECONDS),
            CLIENT_KEEPALIVE_SECONDS="3",
            WEB_CONCURRENCY="1",
        )


def port_of(gateway: GatewayUnderTest) -> int:
    return int(gateway.gateway_url.rsplit(":", 1)[1])


def clients_of(gateway: GatewayUnderTest) -> int:
    """How many clients' connections the worker has."""
    (worker,) = gateway.service.workers
    connections = worker.net_connections()
    return sum(
        each.laddr.port == port_of(gateway) and each.status != psutil.CONN_LISTEN for each in connections
    )


@contextmanager
def asking_client(gateway: GatewayUnderTest) -> Iterator[socket.socket]:
    """A client that has asked for the long answer, and whose side buffers little of it."""
    body = b'{"messages": [{"role": "user", "content": "hi"}]}'
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.settimeout(30)
        client.connect(("127.0.0.1", port_of(gateway)))
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        yield client


def test_a_client_that_stops_reading_is_given_up(gateway: GatewayUnderTest) -> None:
    before = gateway.counted("CheapModel").calls
    with asking_client(gateway):
        assert eventually(lambda: gateway.counted("CheapModel").calls == before + 1, 15)
        assert clients_of(gateway) == 1
        assert eventually(lambda: clients_of(gateway) == 0, 15)


def test_a_client_that_takes_a_little_now_and_then_is_given_up_too(gateway: GatewayUnderTest) -> None:
    with asking_client(gateway) as client:
        client.recv(1024)
        began = time.monotonic()
        while clients_of(gateway):
            assert time.monotonic() - began < 15, "the client still holds the worker"
            client.recv(20_000)
            time.sleep(0.3)
        assert time.monotonic() - began > 1


def test_a_client_that_reads_slowly_but_steadily_gets_all(gateway: GatewayUnderTest) -> None:
    received, began = bytearray(), time.monotonic()
    with asking_client(gateway) as client:
        while piece := client.recv(65536):
            received += piece
            # 4 MB a second, so that all takes twice as long as no progress may take.
            ahead = began + len(received) / 4_000_000 - time.monotonic()
            time.sleep(max(0.0, ahead))
    assert time.monotonic() - began > STALL_SECONDS * 1.5
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"


def test_heads_that_dribble_in_are_given_up_and_disturb_nobody(gateway: GatewayUnderTest) -> None:
    stop = threading.Event()
    with ExitStack() as opened:
        clients = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port_of(gateway)), 5))
            for _ in range(DRIBBLING_CLIENTS)
        ]
        began = time.monotonic()

        def dribble() -> None:
            for client in clients:
                client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            while not stop.wait(0.25):
                for client in clients:
                    try:
                        client.sendall(b"x")
                    except OSError:  # given up
                        continue

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            assert eventually(lambda: clients_of(gateway) >= DRIBBLING_CLIENTS)
            slowest = 0.0
            while clients_of(gateway) > 1 and time.monotonic() - began < 15:
                asked = time.monotonic()
                answer = requests.get(f"{gateway.gateway_url}/v1/models", timeout=10)
                assert answer.status_code == 200
                slowest = max(slowest, time.monotonic() - asked)
            took = time.monotonic() - began
        finally:
            stop.set()
            thread.join()
    print(f"given up after {took:.1f} s; the slowest answer meanwhile took {slowest * 1000:.0f} ms")
    assert 2 < took < 8
    assert slowest < 1
    assert gateway.chat(SHORT).status_code == 200
