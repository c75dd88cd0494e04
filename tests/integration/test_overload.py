"""More work than a worker may have: the rest is refused soon and clearly, probes are answered, and whatever
clients and providers do, no slot and no room for bodies is lost."""

from __future__ import annotations

import json
import select
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.catalogs import write_catalog
from tests.support.gated import LONG_ANSWER, GatedProvider, gated_provider
from tests.support.ports import lasting_port
from tests.support.processes import running
from tests.support.waiting import eventually
from tests.support.wire import connected, head, post

pytestmark = [pytest.mark.heavy, pytest.mark.load]

SLOTS, QUEUED, QUEUE_SECONDS = 4, 2, 1.0
MEBIBYTE = 2**20
BODY_SECONDS = 2
SMALL: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
STREAM = SMALL | {"stream": True}
BIG: dict[str, Any] = {"messages": [{"role": "user", "content": "x" * (MEBIBYTE - 200)}]}
LONG_STREAM = {"messages": [{"role": "user", "content": LONG_ANSWER}], "stream": True}
SETTINGS = {
    "WEB_CONCURRENCY": "1",
    "FALLBACKS": "off",
    "UPSTREAM_RETRIES": "0",
    "CIRCUIT_BREAKER": "off",
    "MAX_REQUESTS_IN_WORK": str(SLOTS),
    "MAX_QUEUED_REQUESTS": str(QUEUED),
    "QUEUE_TIMEOUT_SECONDS": str(QUEUE_SECONDS),
    "MAX_REQUEST_BYTES": str(MEBIBYTE),
    "MAX_BODY_BYTES_IN_WORK": str(2 * MEBIBYTE),
    "REQUEST_BODY_TIMEOUT_SECONDS": str(BODY_SECONDS),
    "CLIENT_STALL_TIMEOUT_SECONDS": "1",
}
Answers = list[Future[requests.Response]]


@pytest.fixture(scope="module")
def provider() -> Iterator[GatedProvider]:
    with gated_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, provider: GatedProvider) -> GatewayUnderTest:
    return start_gateway(**SETTINGS, CHEAP_MODEL_URL=provider.url, EXPENSIVE_MODEL_URL=provider.url)


@pytest.fixture(autouse=True)
def nothing_is_held_afterwards(gateway: GatewayUnderTest, provider: GatedProvider) -> Iterator[None]:
    """Whatever a test does: behind it all slots are free, and all room for bodies."""
    yield
    with in_work(gateway, provider, SMALL, SLOTS):
        pass
    with in_work(gateway, provider, BIG, 2):
        pass


@contextmanager
def in_work(
    gateway: GatewayUnderTest, provider: GatedProvider, body: dict[str, Any], count: int = SLOTS
) -> Iterator[Answers]:
    """So many requests are in work in the block, and are answered behind it."""
    with ThreadPoolExecutor(count) as pool:
        assert provider.has(0)
        with provider.closed():
            answers = [pool.submit(gateway.post, body) for _ in range(count)]
            assert provider.has(count), [each.result().text for each in answers if each.done()]
            yield answers
        assert [answer.result().status_code for answer in answers] == [200] * count


def assert_overloaded(answer: requests.Response) -> None:
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded"), answer.text
    assert answer.headers["Retry-After"] == "1"


def test_past_slots_and_queue_a_request_is_refused_at_once_and_probes_are_answered(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    with ThreadPoolExecutor(QUEUED) as pool, in_work(gateway, provider, SMALL):
        queued = [pool.submit(gateway.post, SMALL) for _ in range(QUEUED)]
        time.sleep(QUEUE_SECONDS / 4)
        with requests.Session() as session:
            for path in ("/healthz", "/readyz", "/metrics"):
                answer = session.get(gateway.gateway_url + path, timeout=10)
                assert answer.status_code == 200
                assert answer.elapsed.total_seconds() < 2
            refused = [session.post(f"{gateway.gateway_url}/v1/chat/completions", json=SMALL, timeout=10)]
            while not any(answer.done() for answer in queued) and len(refused) < 40:
                refused.append(session.post(refused[0].url, json=SMALL, timeout=10))
        for answer in [*refused[:-1], *(each.result() for each in queued)]:
            assert_overloaded(answer)
    ids = {answer.headers["X-Request-Id"] for answer in refused[:-1]}
    taken = [line["duration_ms"] for line in gateway.service.log_lines if line.get("request_id") in ids]
    assert len(taken) == len(ids)
    # What one takes that the machine does not interrupt; a busy one may interrupt most.
    assert statistics.quantiles(taken, n=4)[0] < 5


def test_who_queues_is_served_once_a_slot_is_free(gateway: GatewayUnderTest, provider: GatedProvider) -> None:
    with ThreadPoolExecutor(1) as pool, in_work(gateway, provider, SMALL):
        queued = pool.submit(gateway.post, SMALL)
        time.sleep(QUEUE_SECONDS / 4)
        assert not queued.done()
        before = provider.come
        provider.let_one_through()
        assert eventually(lambda: provider.come == before + 1, QUEUE_SECONDS)
        assert not queued.done()
    assert queued.result().status_code == 200


def test_who_has_queued_too_long_is_refused(gateway: GatewayUnderTest, provider: GatedProvider) -> None:
    with in_work(gateway, provider, SMALL):
        began = time.monotonic()
        assert_overloaded(gateway.post(SMALL))
        assert QUEUE_SECONDS * 0.9 < time.monotonic() - began < QUEUE_SECONDS + 3


def test_who_is_refused_can_come_to_another_worker_next_time(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    with in_work(gateway, provider, SMALL), requests.Session() as session:
        refused = session.post(f"{gateway.gateway_url}/v1/chat/completions", json=SMALL, timeout=10)
        assert_overloaded(refused)
        assert refused.headers["Connection"] == "close"


def test_a_stream_has_its_slot_until_its_end(gateway: GatewayUnderTest, provider: GatedProvider) -> None:
    with provider.closed(), ExitStack() as streams:
        begun = [streams.enter_context(gateway.post(STREAM, stream=True)) for _ in range(SLOTS)]
        assert [answer.status_code for answer in begun] == [200] * SLOTS
        assert_overloaded(gateway.post(SMALL))
        provider.let_one_through()
        assert provider.has(SLOTS - 1)
        with gateway.post(STREAM, stream=True) as another:
            assert another.status_code == 200
            provider.open()
            for answer in [*begun, another]:
                assert answer.content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_clients_that_leave_give_their_places_back(
    gateway: GatewayUnderTest, provider: GatedProvider, stream: bool
) -> None:
    data = post(json.dumps(STREAM if stream else SMALL).encode())
    with provider.closed(), ExitStack() as connections:
        clients = [connections.enter_context(connected(gateway.gateway_url)) for _ in range(SLOTS + QUEUED)]
        for client in clients:
            client.send(data)
        assert provider.has(SLOTS)
        time.sleep(0.1)
        connections.close()
        # Those in the queue have left too, so this one is not refused for its length.
        with ThreadPoolExecutor(SLOTS) as pool:
            answers = [pool.submit(gateway.post, SMALL) for _ in range(SLOTS)]
            time.sleep(QUEUE_SECONDS / 2)
            provider.open()
        assert [answer.result().status_code for answer in answers] == [200] * SLOTS


def test_clients_that_do_not_read_give_their_places_back(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    with ExitStack() as connections:
        for _ in range(SLOTS):
            client = connections.enter_context(connected(gateway.gateway_url))
            client.send(post(json.dumps(LONG_STREAM).encode()))
        assert provider.has(SLOTS)
        assert provider.has(0, seconds=20)


def test_requests_that_come_to_nothing_take_no_place(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    big = json.dumps(BIG).encode()
    bad = [
        post(b"{"),
        post(json.dumps(SMALL | {"model": "nowhere"}).encode()),
        post(json.dumps(BIG | {"messages": 1, "x": "y" * 2**19}).encode()),
        head(f"Content-Length: {2 * MEBIBYTE}"),
        head("Transfer-Encoding: chunked") + b"80000\r\n" + big[:524288] + b"\r\nno chunk",
        post(big)[:-10],
        post(big[:-1] + b","),
    ]
    for _ in range(SLOTS):
        for data in bad:
            with connected(gateway.gateway_url) as connection:
                connection.send(data)
                connection.end()
                assert connection.answer().status in (400, 404, 413)
            with connected(gateway.gateway_url) as connection:
                connection.send(data)
                connection.reset_on_close()


def test_bodies_have_so_much_room_and_no_more_while_small_ones_always_find_some(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    with ThreadPoolExecutor(1) as pool, in_work(gateway, provider, BIG, 2):
        began = time.monotonic()
        assert_overloaded(gateway.post(BIG))
        assert time.monotonic() - began < QUEUE_SECONDS + 3
        small = pool.submit(gateway.post, SMALL)
        assert provider.has(3)
    assert small.result().status_code == 200


def test_the_bodies_of_requests_that_failed_are_let_go_at_once(
    start_gateway: StartGateway, provider: GatedProvider
) -> None:
    nowhere = f"http://127.0.0.1:{lasting_port()}/v1"
    urls = {"CHEAP_MODEL_URL": nowhere, "EXPENSIVE_MODEL_URL": nowhere}
    gateway = start_gateway(**SETTINGS | urls | {"UPSTREAM_RETRIES": "1", "MAX_REQUEST_BYTES": "2097152"})
    large = {"messages": [{"role": "user", "content": "x" * (2 * MEBIBYTE - 200)}]}
    (worker,) = gateway.service.workers
    for _ in range(2):
        assert gateway.post(large).status_code == 502
    before = worker.memory_info().rss
    for _ in range(8):  # too few for the garbage collector to come by
        assert gateway.post(large).status_code == 502
    assert worker.memory_info().rss - before < 12 * MEBIBYTE


def test_a_body_that_is_declared_and_not_sent_takes_no_room(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    with ExitStack() as connections:
        for _ in range(20):
            client = connections.enter_context(connected(gateway.gateway_url))
            client.send(head(f"Content-Length: {MEBIBYTE}") + b"{")
        with in_work(gateway, provider, BIG, 2):
            pass


def test_slow_bodies_hold_up_nobody_and_are_timed_out(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    with slow_clients(gateway.gateway_url, 500) as clients:
        trickle(clients, seconds=0.5)
        began = time.monotonic()
        assert requests.get(f"{gateway.gateway_url}/healthz", timeout=10).status_code == 200
        assert time.monotonic() - began < 2
        with in_work(gateway, provider, SMALL):
            pass
        answers = trickle(clients, seconds=BODY_SECONDS + 8)
    assert len(answers) == len(clients)
    assert {answer.split(b" ")[1] for answer in answers} == {b"408"}


@contextmanager
def slow_clients(url: str, count: int) -> Iterator[list[socket.socket]]:
    parts = urlsplit(url)
    with ExitStack() as opened:
        clients = []
        for _ in range(count):
            client = socket.create_connection((parts.hostname or "", parts.port or 80))
            clients.append(opened.enter_context(client))
            client.sendall(head("Content-Length: 10000"))
        yield clients


def trickle(clients: list[socket.socket], seconds: float) -> list[bytes]:
    """Send a byte on each connection five times a second, and give the answers that come meanwhile."""
    answers: dict[socket.socket, bytes] = {}
    deadline = time.monotonic() + seconds
    while len(answers) < len(clients) and time.monotonic() < deadline:
        for client in clients:
            if client not in answers:
                try:
                    client.sendall(b"x")
                except OSError:  # answered, and closed by now
                    continue
        poll = select.poll()
        waiting = {client.fileno(): client for client in clients if client not in answers}
        for number in waiting:
            poll.register(number, select.POLLIN)
        time.sleep(0.2)
        for number, _ in poll.poll(0):
            answers[waiting[number]] = waiting[number].recv(65536)
    return list(answers.values())


def test_a_model_has_slots_of_its_own_and_a_change_of_their_number_is_picked_up(
    start_gateway: StartGateway, provider: GatedProvider, tmp_path: Path
) -> None:
    file = Path(write_catalog(tmp_path))
    text = file.read_text()
    file.write_text(text.replace("[CheapModel]", "[CheapModel]\nmax_concurrency = 1"))
    urls = {"CHEAP_MODEL_URL": provider.url, "EXPENSIVE_MODEL_URL": provider.url}
    gateway = start_gateway(**SETTINGS | urls, MODELS_FILE=str(file))
    cheap, dear = SMALL | {"model": "CheapModel"}, SMALL | {"model": "ExpensiveModel"}
    with ThreadPoolExecutor(3) as pool, in_work(gateway, provider, cheap, 1):
        assert_overloaded(gateway.post(cheap))
        others = [pool.submit(gateway.post, dear)]
        assert provider.has(2)
        file.write_text(text.replace("[CheapModel]", "[CheapModel]\nmax_concurrency = 2"))
        time.sleep(2)
        others.append(pool.submit(gateway.post, cheap))
        assert provider.has(3)
        assert_overloaded(gateway.post(cheap))
    assert [answer.result().status_code for answer in others] == [200, 200]
    for body in (cheap, cheap | {"stream": True}, cheap):
        with in_work(gateway, provider, body, 2):
            pass


def test_a_limit_of_open_files_that_is_too_low_is_told_and_lived_with(
    gateway: GatewayUnderTest, tmp_path: Path
) -> None:
    port = lasting_port()
    url = f"http://127.0.0.1:{port}"
    command = ["sh", "-c", 'ulimit -n 300 && exec "$0" "$@"', *gateway.service.command]
    environ = gateway.service.environ | {
        "GATEWAY_PORT": str(port),
        "JOURNAL_DIR": str(tmp_path),
        "MAX_REQUESTS_IN_WORK": "2000",
    }
    with running(command, url, tmp_path / "gateway.log", "/healthz", environ) as service:
        assert requests.post(f"{url}/v1/chat/completions", json=SMALL, timeout=10).status_code == 200
        (warning,) = [line for line in service.log_lines if line["level"] == "WARNING"]
        assert "ulimit -n" in warning["message"]
