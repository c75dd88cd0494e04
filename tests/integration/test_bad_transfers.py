"""Bodies that come too large, too late, in part or not at all: refused in the shape of the route, they cost
nothing and hold up nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.refusals import MESSAGES, ROUTES, Route, assert_refused, unharmed
from tests.support.wire import CHAT, ask, chunked, connected, head, post

pytestmark = pytest.mark.heavy

LIMIT = 2**20
GOOD = b'{"messages":[{"role":"user","content":"hi"}]}'
PATHS = [route.path for route in ROUTES]
at_each_route = pytest.mark.parametrize("route", ROUTES, ids=PATHS)

HALF_SENT: dict[str, Callable[[Route], bytes]] = {
    "half": lambda route: route.request(route.good)[:-10],
    # What has come so far is whole JSON, but not all that the client meant to send.
    "all but one byte": lambda route: route.request(route.good + b" ")[:-1],
    "none": lambda route: head("Content-Length: 5", path=route.path),
    "half a chunk": lambda route: route.chunked_request(route.good)[:-20],
    "no last chunk": lambda route: route.chunked_request(route.good).removesuffix(b"0\r\n\r\n"),
    "no end of the last chunk": lambda route: route.chunked_request(route.good).removesuffix(b"\r\n"),
}


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway whose only worker has to survive all of it."""
    return start_gateway(WEB_CONCURRENCY="1", MAX_REQUEST_BYTES=str(LIMIT))


@pytest.fixture(scope="module")
def impatient(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway that waits for nobody longer than a second."""
    return start_gateway(WEB_CONCURRENCY="1", REQUEST_BODY_TIMEOUT_SECONDS="1", CLIENT_KEEPALIVE_SECONDS="1")


@pytest.mark.parametrize("length", [LIMIT + 1, 10**12, 10**30])
@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(
    gateway: GatewayUnderTest, path: str, length: int
) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, head(f"Content-Length: {length}", path=path) + GOOD)
        assert_refused(answer, 413, code="request_too_large", path=path)
        assert answer.seconds < 3


@pytest.mark.parametrize(("excess", "unfinished"), [(1, False), (100_000, False), (100_000, True)])
@at_each_route
def test_a_body_in_chunks_is_refused_once_it_is_too_large(
    gateway: GatewayUnderTest, route: Route, excess: int, unfinished: bool
) -> None:
    # What fits into the limit would be a good request.
    data = route.chunked_request(route.good.ljust(LIMIT + excess))
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, data.removesuffix(b"0\r\n\r\n") if unfinished else data)
        assert_refused(answer, 413, code="request_too_large", path=route.path)


def test_a_client_that_sends_all_of_a_body_too_large_gets_to_read_the_refusal(
    gateway: GatewayUnderTest,
) -> None:
    with unharmed(gateway), requests.Session() as session:
        url = f"{gateway.gateway_url}{CHAT}"
        for _ in range(2):
            answer = session.post(url, data=b" " * (16 * LIMIT), timeout=10)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("sent", HALF_SENT.values(), ids=HALF_SENT.keys())
@at_each_route
def test_a_half_sent_body_is_refused(
    gateway: GatewayUnderTest, route: Route, sent: Callable[[Route], bytes]
) -> None:
    with unharmed(gateway), connected(gateway.gateway_url) as connection:
        connection.send(sent(route))
        connection.end()
        answer = connection.answer()
        assert_refused(answer, 400, path=route.path)
        assert "ended early" in answer.json()["error"]["message"]


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("sent", [0, 20, len(head("Content-Length: 45")), -10])
def test_a_client_that_leaves_before_its_request_is_whole_costs_nothing(
    gateway: GatewayUnderTest, sent: int, reset: bool
) -> None:
    with unharmed(gateway):
        with connected(gateway.gateway_url) as connection:
            connection.send(post(GOOD)[:sent])
            if reset:
                connection.reset_on_close()
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        pytest.param(CHAT, post(GOOD)[:-10], id="length"),
        pytest.param(CHAT, chunked(GOOD)[:-10], id="chunks"),
        pytest.param(MESSAGES, post(GOOD, path=MESSAGES)[:-10], id="message"),
    ],
)
@pytest.mark.parametrize("pause", [None, 0.2], ids=["stalls", "trickles"])
def test_a_client_that_stalls_in_its_body_is_timed_out(
    impatient: GatewayUnderTest, path: str, data: bytes, pause: float | None
) -> None:
    with unharmed(impatient), connected(impatient.gateway_url) as connection:
        if pause is None:
            connection.send(data)
        else:
            connection.send(data[:-6])
            for byte in data[-6:]:
                connection.send(bytes([byte]))
                time.sleep(pause)
        answer = connection.answer()
        assert_refused(answer, 408, code="request_timeout", path=path)
        assert 0.9 < answer.seconds < 5
