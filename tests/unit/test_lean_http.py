"""Whatever the lean way reads, gunicorn would have read the same, and what it does not read reaches gunicorn
byte by byte. How their answers compare: `tests/integration/test_lean_http.py`."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import gevent
import pytest
from gevent import socket
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import given
from hypothesis import strategies as st

from gateway.client_socket import ClientSocket
from gateway.incoming import Incoming, Reply
from gateway.lean_http import MOST_HEAD_BYTES, LeanConnection
from gateway.serve import MODEL_ROUTES, Parse

CHAT = "/v1/chat/completions"
LINE = b"POST /v1/chat/completions HTTP/1.1"

ODD_LINES = st.sampled_from(
    [
        b"POST /v1/messages HTTP/1.1",
        b"POST /v1/chat/completions HTTP/1.0",
        b"POST  /v1/chat/completions HTTP/1.1",
        b"POST /v1/chat/completions  HTTP/1.1",
        b"POST /v1/chat/completions HTTP/1.1 ",
        b"POST /v1/chat/completions?a=b HTTP/1.1",
        b"POST http://x/v1/chat/completions HTTP/1.1",
        b"GET /v1/chat/completions HTTP/1.1",
        b"\r\n" + LINE,
    ]
)
ODD_HEADERS = st.sampled_from(
    [
        b"Content-Length: 0",
        b"Content-Length: 9",
        b"content-length:9",
        b"CONTENT-LENGTH:\t009 \t",
        b"Content-Length: +9",
        b"Content-Length: 9, 9",
        b"Content-Length: \xb2",
        b"Content-Length : 9",
        b"Content_Length: 0",
        b"Content-Length: 9\n",
        b"Content-Length: 9\r\n ",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer_Encoding: chunked",
        b"Transfer-Encoding: identity",
        b"Connection: close",
        b"Connection: Keep-Alive",
        b"Connection: close, te",
        b"Connection: upgrade",
        b"Expect: 100-continue",
        b"Upgrade: h2c",
        b"Authorization: Bearer a",
        b"Authorization: Bearer b",
        b"X-Empty:",
        b"X-Latin: \xe9\xff",
        b"X-Control: \x00\x7f\r",
        b" X-Folded: a",
        b"X Space: a",
        b"No colon",
        b": no name",
        b"X-Long: " + b"a" * (MOST_HEAD_BYTES - 100),
        b"X-Too-Long: " + b"a" * MOST_HEAD_BYTES,
        b"",
        b"GET /smuggled HTTP/1.1",
    ]
)
BODIES = st.sampled_from([b"", b'{"a": 1}\n', b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"0\r\n\r\n" + LINE])
ODD_BYTES = st.sampled_from([bytes([byte]) for byte in b"\0\t\n\r :;,_+-09Aa\x7f\x80\xff"])


class Text(str):
    """One to which there can be weak references."""


@dataclass(frozen=True)
class Heard:
    """A request as it was read."""

    path: str
    headers: dict[str, str]
    body: bytes
    closes: bool


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """One that is plain, but for a line or two."""
    body = draw(BODIES)
    lines = [LINE, b"Host: x", b"Content-Length: %d" % len(body)]
    for odd in draw(st.lists(ODD_HEADERS, max_size=2)):
        place = draw(st.integers(1, len(lines)))
        lines[place : place + draw(st.integers(0, 1))] = [odd]
    if draw(st.integers(0, 4)) == 4:
        lines[0] = draw(ODD_LINES)
    return b"\r\n".join([*lines, b"", body])


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Requests behind each other, perhaps with a byte more or another one here or there."""
    data = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(ODD_BYTES) + data[place + draw(st.integers(0, 1)) :]
    return data


def body_of(incoming: Incoming) -> bytes:
    body = b"".join(iter(lambda: incoming.body.read(7), b""))
    assert incoming.whole_body in (None, body)
    return body


@contextmanager
def connection(
    answer: Callable[[Incoming, Parse], Reply],
    idle: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[tuple[LeanConnection, socket.socket]]:
    """The gateway's end of a connection, and the client's."""
    ours, theirs = socket.socketpair()
    with theirs, ClientSocket(ours, 5) as client:
        yield LeanConnection(client, answer, idle, lambda: True), theirs


def read_by_lean(data: bytes) -> tuple[list[Heard], bytes]:
    """What is read of it, and what is left to gunicorn."""
    heard: list[Heard] = []

    def answer(incoming: Incoming, parse: Parse) -> Reply:
        assert parse is MODEL_ROUTES[incoming.path]
        headers = dict(incoming.headers._values)
        closes = headers.get("connection", "").lower() == "close"
        heard.append(Heard(incoming.path, headers, body_of(incoming), closes))
        return Reply.json(200, b"{}")

    with connection(answer) as (lean, client):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        rest = lean.serve()
        if not rest:
            return heard, b""
        while more := lean._connection.recv(65536):
            rest += more
        return heard, rest


def read_by_gunicorn(data: bytes, count: int) -> tuple[list[Heard], bytes]:
    """The first so many requests, and what is behind them."""
    parser = RequestParser(Config(), iter([data]), ("127.0.0.1", 1))
    heard = []
    for _ in range(count):
        request = next(parser)
        assert (request.method, request.version) == ("POST", (1, 1))
        assert request.body is not None
        headers = {name.lower(): value for name, value in request.headers}
        body = request.body.read()
        heard.append(Heard(request.uri or "", headers, body, request.should_close()))
    parser.finish_body()
    rest: bytes = parser.unreader.take_buffered()
    return heard, rest if count else data


@given(conversations())
def test_whatever_the_lean_way_reads_gunicorn_reads_alike(data: bytes) -> None:
    heard, rest = read_by_lean(data)
    alike, behind = read_by_gunicorn(data, len(heard))
    assert heard == alike
    if not (heard and heard[-1].closes):
        assert rest == behind


def test_a_plain_request_is_read_here() -> None:
    data = LINE + b"\r\nHost: x\r\nContent-Length: 2\r\nAuthorization: Bearer \xe9\r\nX-A:\r\n\r\n{}"
    headers = {"host": "x", "content-length": "2", "authorization": "Bearer é", "x-a": ""}
    assert read_by_lean(data * 3) == ([Heard(CHAT, headers, b"{}", False)] * 3, b"")


@pytest.mark.parametrize("header", [b"X: a\r\nX-Evil: 1", b"X: \0", "X: ☃".encode(), b"X: a\x7f"])
def test_a_header_that_no_answer_can_hold_is_never_sent(header: bytes) -> None:
    name, _, value = header.decode().partition(": ")

    def answer(incoming: Incoming, parse: Parse) -> Reply:
        return Reply.json(200, b"{}", {name: value})

    with connection(answer) as (lean, client):
        client.sendall(LINE + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(ValueError, match="cannot be sent"):
            lean.serve()
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)


def test_of_its_last_request_a_waiting_connection_keeps_nothing() -> None:
    asked: list[weakref.ref[object]] = []

    def answer(incoming: Incoming, parse: Parse) -> Reply:
        incoming.path = kept = Text(incoming.path)
        asked.append(weakref.ref(kept))
        return Reply.json(200, b"{}")

    gc.disable()
    try:
        with connection(answer) as (lean, client):
            serving = gevent.spawn(lean.serve)
            client.sendall(LINE + b"\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
            client.recv(65536)
            gevent.sleep(0.01)
            assert not serving.ready()
            assert [each() for each in asked] == [None]
            client.shutdown(socket.SHUT_WR)
            serving.join(5)
    finally:
        gc.enable()


def test_a_client_that_sends_ahead_what_is_refused_holds_up_nobody() -> None:
    request = LINE + b"\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    count, turns = 100, 0
    with connection(lambda incoming, parse: Reply.json(401, b"{}")) as (lean, client):
        client.sendall(request * count)
        client.shutdown(socket.SHUT_WR)
        serving = gevent.spawn(lean.serve)
        while not serving.ready():
            turns += 1
            gevent.sleep(0)
        assert client.recv(2**20).count(b"HTTP/1.1 401") == count
    assert turns > count / 2


@pytest.mark.parametrize("length", [10, 10_000, 1_000_000])
@pytest.mark.parametrize("wish", ["keep-alive", "close"])
def test_no_byte_of_a_body_that_nobody_read_is_taken_for_a_request(length: int, wish: str) -> None:
    smuggled = LINE + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    body = (smuggled * (length // len(smuggled) + 1))[:length]
    paths = []

    def answer(incoming: Incoming, parse: Parse) -> Reply:
        paths.append(incoming.path)
        return Reply.json(401, b"{}")

    head = LINE + b"\r\nHost: x\r\nConnection: %b\r\nContent-Length: %d\r\n\r\n" % (wish.encode(), length)
    with connection(answer) as (lean, client):
        serving = gevent.spawn(lean.serve)
        client.sendall(head)
        gevent.sleep(0.01)  # it is answered before its body comes
        client.settimeout(5)
        client.sendall(body + b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        serving.join(5)
    assert paths == ([CHAT, "/v1/messages"] if wish == "keep-alive" else [CHAT])
