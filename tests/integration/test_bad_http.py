"""HTTP that a client can get wrong: refused in the shape of the route, it costs nothing and harms nobody
else. Bodies that come too large, too late or not at all: `test_bad_transfers.py`."""

from __future__ import annotations

import re
import time
from urllib.parse import unquote

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.refusals import ROUTES, SANE_ID, Route, assert_refused, unharmed
from tests.support.wire import ask, chunked, connected, head, post

pytestmark = pytest.mark.heavy

LIMIT = 2**20
GOOD = b'{"messages":[{"role":"user","content":"hi"}]}'
PATHS = [route.path for route in ROUTES]
at_each_route = pytest.mark.parametrize("route", ROUTES, ids=PATHS)
READ_PATHS = ("/v1/models", "/v1/models/auto", "/metrics", "/healthz", "/readyz", "/openapi.json")

NO_HTTP = {
    "no request line": (b"NONSENSE\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "unknown version": (b"GET /healthz HTTP/9.9\r\n\r\n", 400),
    "method in small letters": (head(method="get", path="/healthz"), 400),
    "raw byte in the path": (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
    "bare line feeds": (b"GET /healthz HTTP/1.1\nHost: gateway\n\n", 400),
    "header without a colon": (head("Nonsense"), 400),
    "space in a header's name": (head("Bad Name: x"), 400),
    "folded header": (head("X-A: b", " c"), 400),
    "NUL in a header": (head("X-A: b\0c"), 400),
    "two hosts": (head("Host: other"), 400),
    "header of 20,000 bytes": (head("X-A: " + "a" * 20_000), 431),
    "200 headers": (head(*(f"X-{number}: a" for number in range(200))), 431),
    "path of 20,000 bytes": (head(method="GET", path="/" + "a" * 20_000), 414),
    "negative length": (head("Content-Length: -5") + b"hello", 400),
    "length in words": (head("Content-Length: five") + b"hello", 400),
    "length with a sign": (head("Content-Length: +5") + b"hello", 400),
    "length of 5,000 digits": (head("Content-Length: " + "9" * 5000), 400),
    "two lengths": (head("Content-Length: 45", "Content-Length: 45") + GOOD, 400),
    "two lengths in one": (head("Content-Length: 45, 45") + GOOD, 400),
    "length and chunks": (head("Content-Length: 45", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "chunked twice": (head("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n", 400),
    "chunks before gzip": (head("Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n", 400),
    "unknown coding": (head("Transfer-Encoding: magic"), 501),
    "unknown expectation": (post(GOOD, "Expect: a-miracle"), 417),
    "chunk size in words": (head("Transfer-Encoding: chunked") + b"five\r\nhello\r\n0\r\n\r\n", 400),
    "negative chunk size": (head("Transfer-Encoding: chunked") + b"-5\r\nhello\r\n0\r\n\r\n", 400),
    "empty chunk size": (head("Transfer-Encoding: chunked") + b"\r\nhello\r\n0\r\n\r\n", 400),
    "chunk longer than its size": (head("Transfer-Encoding: chunked") + b"5\r\nhello!\r\n0\r\n\r\n", 400),
    "length as a trailer": (chunked(GOOD)[:-2] + b"Content-Length: 5\r\n\r\n", 400),
}

UNKNOWN_PATHS = (
    "/",
    "/v1",
    "/v1/chat",
    "//v1//chat/completions",
    "/v1/chat/completions/",
    "/V1/chat/completions",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0d%0aX-Evil:1",
    "/v1/../v1/chat/completions",
    "/v1/models/",
    "/v1/messages/",
    "/v1/messages/count_tokens/",
    "/v1/messages/batches",
    "/v1/messages%2fx",
    "/v1/messages%00",
    "/v1/messagesx",
    "/v1/responses/resp_1",
    "/%ff",
    "/%",
    "/%ed%a0%80",
    "/" + "a" * 4000,
)


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway whose only worker has to survive all of it."""
    return start_gateway(WEB_CONCURRENCY="1", MAX_REQUEST_BYTES=str(LIMIT))


@pytest.fixture(scope="module")
def impatient(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway that waits for nobody longer than a second."""
    return start_gateway(WEB_CONCURRENCY="1", REQUEST_BODY_TIMEOUT_SECONDS="1", CLIENT_KEEPALIVE_SECONDS="1")


@pytest.mark.parametrize(("data", "status"), NO_HTTP.values(), ids=NO_HTTP.keys())
def test_what_is_no_http_is_refused_in_the_same_shape(
    gateway: GatewayUnderTest, data: bytes, status: int
) -> None:
    with unharmed(gateway), connected(gateway.gateway_url) as connection:
        connection.send(data)
        assert_refused(connection.answer(), status)
        # Where the next request would begin is unknown.
        assert connection.rest() == b""


def test_expect_100_continue_is_told_to_go_on(gateway: GatewayUnderTest) -> None:
    with connected(gateway.gateway_url) as connection:
        connection.send(head(f"Content-Length: {len(GOOD)}", "Expect: 100-continue", "Connection: close"))
        time.sleep(0.1)
        connection.send(GOOD)
        statuses = re.findall(rb"HTTP/1.1 (\d+)", connection.rest())
    assert statuses == [b"100", b"200"]


@pytest.mark.parametrize("path", UNKNOWN_PATHS)
def test_an_unknown_path_is_not_found(gateway: GatewayUnderTest, path: str) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, post(GOOD, path=path))
        assert_refused(answer, 404, code="not_found", path=unquote(path))
        assert answer.headers["X-Evil"] is None


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        *(
            (path, method, "OPTIONS, POST")
            for path in PATHS
            for method in ("GET", "PUT", "PATCH", "DELETE", "TRACE", "BREW")
        ),
        *(
            (path, method, "GET, HEAD, OPTIONS")
            for path in READ_PATHS
            for method in ("POST", "PUT", "DELETE")
        ),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    gateway: GatewayUnderTest, path: str, method: str, allowed: str
) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, head(method=method, path=path), method)
        assert_refused(answer, 405, code="method_not_allowed", path=path)
        assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    ("path", "status"), [*((path, 200) for path in READ_PATHS), *((path, 405) for path in PATHS), ("/x", 404)]
)
def test_head_gives_a_head_alone(gateway: GatewayUnderTest, path: str, status: int) -> None:
    with unharmed(gateway), connected(gateway.gateway_url) as connection:
        connection.send(head("Connection: close", method="HEAD", path=path))
        start, _, body = connection.rest().partition(b"\r\n\r\n")
        assert start.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nX-Request-Id: " in start
        assert b"\r\nContent-Type: application/json" in start
        assert body == b""


@pytest.mark.parametrize("path", [*PATHS, *READ_PATHS])
def test_options_names_the_methods(gateway: GatewayUnderTest, path: str) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, head(method="OPTIONS", path=path))
        assert (answer.status, answer.body) == (200, b"")
        allowed = {"POST"} if path in PATHS else {"GET", "HEAD"}
        assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", *allowed}
        assert SANE_ID.fullmatch(answer.headers["X-Request-Id"])


@at_each_route
def test_a_web_page_of_another_site_is_refused(gateway: GatewayUnderTest, route: Route) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, route.request(route.good, "Sec-Fetch-Site: cross-site"))
        assert_refused(answer, 403, code="cross_site_request", path=route.path)


@pytest.mark.parametrize("body", [GOOD, b"no JSON"], ids=["answered", "refused"])
@pytest.mark.parametrize("wanted", ["a", "req-1:2/3=4+5@6.7_8", "x" * 128])
def test_a_sane_request_id_is_the_answers_own(gateway: GatewayUnderTest, wanted: str, body: bytes) -> None:
    assert ask(gateway.gateway_url, post(body, f"X-Request-Id: {wanted}")).headers["X-Request-Id"] == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        b"",
        b"a b",
        b"x" * 129,
        b"x" * 8000,
        b"\xe9",
        "é".encode(),
        b"a%0d%0aX-Evil: 1",
        b"<b>",
        b'"',
        b"a\tb",
        b"a, a",
    ],
)
def test_any_other_request_id_is_replaced(gateway: GatewayUnderTest, wanted: bytes) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, post(b"no JSON", b"X-Request-Id: " + wanted))
        assert_refused(answer, 400)
        assert answer.headers["X-Request-Id"].encode() != wanted
        assert answer.headers["X-Evil"] is None


def test_a_request_id_given_twice_is_replaced(gateway: GatewayUnderTest) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, post(b"no JSON", "X-Request-Id: a", "X-Request-Id: b"))
        assert_refused(answer, 400)
        assert answer.headers["X-Request-Id"] not in ("a", "b")


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        (b"a\nX-Evil: 1", 400),
        (b"a\rX-Evil: 1", 400),
        (b"a\r\n X-Evil: 1", 400),
        (b"a\0b", 400),
        (b"a\x07b", 400),
        (b"a\x7fb", 400),
        (b"x" * 10_000, 431),
    ],
)
def test_a_request_id_that_no_header_can_hold_is_refused(
    gateway: GatewayUnderTest, wanted: bytes, status: int
) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, post(GOOD, b"X-Request-Id: " + wanted))
        assert_refused(answer, status)
        assert answer.headers["X-Evil"] is None


def test_a_client_that_stalls_in_its_head_is_cut_off_and_holds_up_nobody(
    impatient: GatewayUnderTest,
) -> None:
    started = time.monotonic()
    with (
        unharmed(impatient),
        connected(impatient.gateway_url) as silent,
        connected(impatient.gateway_url) as halfway,
        connected(impatient.gateway_url) as trickling,
    ):
        halfway.send(head()[:-2])
        for byte in head()[:8]:
            trickling.send(bytes([byte]))
            time.sleep(0.1)
        assert requests.get(f"{impatient.gateway_url}/healthz", timeout=1).status_code == 200
        assert [client.rest() for client in (silent, halfway, trickling)] == [b"", b"", b""]
        assert 0.9 < time.monotonic() - started < 5


def test_pipelined_requests_are_answered_in_their_order(gateway: GatewayUnderTest) -> None:
    answered = int(gateway.counters().get("requests", 0))
    with connected(gateway.gateway_url) as connection:
        connection.send(
            post(GOOD)
            + post(b"no JSON")
            + head(method="GET", path="/healthz")
            + post(GOOD, path="/x")
            + chunked(GOOD)
            + b"NONSENSE\r\n\r\n"
        )
        statuses = re.findall(rb"HTTP/1.1 (\d+)", connection.rest())
    assert statuses == [b"200", b"400", b"200", b"404", b"200", b"400"]
    assert int(gateway.counters()["requests"]) == answered + 2
