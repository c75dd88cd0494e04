"""A provider that gives away the key it was asked with, in every way that a careless one might.

How it answers is the first part of the path, so that one server plays all of them: a model with the base URL
`{url}/refuses/v1` has a provider that refuses.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from tests.support.echo_answers import stream_of, whole_answer

SILENT_SECONDS = 2
EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True)
class Asked:
    """One request as the provider got it."""

    path: str
    headers: Message[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """The key by which it was asked, however it came."""
        return (
            (self.headers["Authorization"] or "").removeprefix("Bearer ") or self.headers["x-api-key"] or ""
        )


@dataclass
class EchoProvider:
    """Where it listens, and what it was asked so far."""

    url: str
    asked: list[Asked] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """What an answer is made from. `api` is the path behind `/v1/`."""

    api: str
    key: str
    stream: bool


@dataclass(frozen=True)
class Reply:
    """An answer: pieces of its body, each written to the network by itself. `raw` replaces the whole head."""

    status: int
    pieces: list[bytes]
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes | None = None


def error_of(key: str) -> dict[str, Any]:
    """Fits OpenAI's and Anthropic's shape of an error."""
    message = f"Incorrect API key provided: {key}."
    detail = {"message": message, "type": "authentication_error", "param": key, "code": "invalid_api_key"}
    return {"type": "error", "error": detail}


def answers(call: Call) -> Reply:
    if call.stream:
        return Reply(200, [stream_of(call.api)], EVENT_STREAM)
    return Reply(200, [whole_answer(call.api)])


def refuses(call: Call) -> Reply:
    return Reply(401, [_json(error_of(call.key))])


def refuses_with_slashes_escaped(call: Call) -> Reply:
    return Reply(403, [_json(error_of(call.key)).replace(b"/", rb"\/")])


def refuses_with_signs_escaped(call: Call) -> Reply:
    """As encoders for HTML do that escape all but letters and digits."""
    escaped = "".join(letter if letter.isalnum() else f"\\u{ord(letter):04X}" for letter in call.key)
    return Reply(400, [_json(error_of("KEY")).replace(b"KEY", escaped.encode())])


def refuses_with_all_escaped(call: Call) -> Reply:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in call.key)
    return Reply(429, [_json(error_of("KEY")).replace(b"KEY", escaped.encode())])


def refuses_by_a_url(call: Call) -> Reply:
    return Reply(404, [_json(error_of(f"https://provider/?key={quote(call.key, safe='')}"))])


def refuses_within_an_error(call: Call) -> Reply:
    """The provider's own provider refused, and its words are JSON within JSON."""
    return Reply(422, [_json(error_of(json.dumps({"inner": json.dumps(error_of(call.key))})))])


def refuses_in_words(call: Call) -> Reply:
    return Reply(401, [f"No access with {call.key}".encode()], "text/plain")


def fails(call: Call) -> Reply:
    return Reply(500, [_json(error_of(call.key))])


def fails_in_words(call: Call) -> Reply:
    return Reply(503, [f"<html>{call.key}</html>".encode()], "text/html")


def redirects(call: Call) -> Reply:
    return Reply(307, [b""], headers=(("Location", f"/answers/v1/{call.api}?key={quote(call.key)}"),))


def errs_with_status_200(call: Call) -> Reply:
    return Reply(200, [_json(error_of(call.key))])


def breaks_off(call: Call) -> Reply:
    return Reply(200, [_json(error_of(call.key))[:-3]], headers=(("Content-Length", "9999"),))


def streams_an_error(call: Call) -> Reply:
    return Reply(200, _torn(_event(error_of(call.key)), call.key), EVENT_STREAM)


def streams_an_error_in_the_middle(call: Call) -> Reply:
    first, _, _ = stream_of(call.api).partition(b"\n\n")
    torn = _torn(_event(error_of(call.key)), call.key)
    return Reply(200, [first + b"\n\n", *torn], EVENT_STREAM)


def streams_a_failure_of_its_dialect(call: Call) -> Reply:
    """Responses end in an event of their own where they fail."""
    if call.api != "responses":
        return streams_an_error_in_the_middle(call)
    first, _, _ = stream_of(call.api).partition(b"\n\n")
    failed = {"status": "failed", "output": [], **error_of(call.key)}
    event = _event({"type": "response.failed", "sequence_number": 1, "response": failed}, "response.failed")
    return Reply(200, [first + b"\n\n", *_torn(event, call.key)], EVENT_STREAM)


def streams_no_json(call: Call) -> Reply:
    first, _, _ = stream_of(call.api).partition(b"\n\n")
    return Reply(200, [first + b"\n\n", b'data: {"error": "%s\n\n' % call.key.encode()], EVENT_STREAM)


def streams_half_an_error(call: Call) -> Reply:
    first, _, _ = stream_of(call.api).partition(b"\n\n")
    return Reply(200, [first + b"\n\n", b'data: {"error": "%s' % call.key.encode()], EVENT_STREAM)


def sends_no_status(call: Call) -> Reply:
    return Reply(200, [], raw=f"HTTP/1.1 {call.key}\r\n\r\n".encode())


def sends_no_http(call: Call) -> Reply:
    return Reply(200, [], raw=f"{call.key}\r\n\r\n".encode())


def sends_a_header_without_a_name(call: Call) -> Reply:
    lines = ("HTTP/1.1 401 Unauthorized", "X-One: 1", "no header", f"X-Key: {call.key}", "Content-Length: 0")
    return Reply(401, [], raw="\r\n".join((*lines, "", "")).encode())


def sends_no_chunks(call: Call) -> Reply:
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{call.key}\r\n{call.key}\r\n"
    return Reply(200, [], raw=head.encode())


def sends_no_gzip(call: Call) -> Reply:
    return Reply(200, [call.key.encode()], headers=(("Content-Encoding", "gzip"),))


def is_silent(call: Call) -> Reply:
    time.sleep(SILENT_SECONDS)
    return fails(call)


WAYS: dict[str, Callable[[Call], Reply]] = {
    way.__name__: way
    for way in (
        answers,
        refuses,
        refuses_with_slashes_escaped,
        refuses_with_signs_escaped,
        refuses_with_all_escaped,
        refuses_by_a_url,
        refuses_within_an_error,
        refuses_in_words,
        fails,
        fails_in_words,
        redirects,
        errs_with_status_200,
        breaks_off,
        streams_an_error,
        streams_an_error_in_the_middle,
        streams_a_failure_of_its_dialect,
        streams_no_json,
        streams_half_an_error,
        sends_no_status,
        sends_no_http,
        sends_a_header_without_a_name,
        sends_no_chunks,
        sends_no_gzip,
        is_silent,
    )
}


def echoing_headers(key: str) -> list[tuple[str, str]]:
    """Headers of an answer that hold the key, those that clients may get among them, and two that do not."""
    return [
        ("Authorization", f"Bearer {key}"),
        ("X-Api-Key", key),
        ("Set-Cookie", f"key={key}"),
        ("OpenAI-Organization", key),
        ("Warning", f'199 - "{key}"'),
        ("Retry-After", key),
        ("X-Should-Retry", f"not with {key}"),
        ("OpenAI-Version", quote(key, safe="")),
        ("X-RateLimit-Key", f"Bearer {key}"),
        ("X-RateLimit-Of", quote(key, safe="")),
        ("Anthropic-RateLimit-Key", key),
        ("X-Request-Id", f"req-{key}"),
        ("Request-Id", f"req-{quote(key, safe='')}"),
        ("OpenAI-Processing-Ms", "12"),
        ("X-RateLimit-Remaining-Requests", "59"),
    ]


@contextmanager
def echoing_provider() -> Iterator[EchoProvider]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked = Asked(self.path, self.headers, body)
            provider.asked.append(asked)
            way, _, api = self.path.lstrip("/").partition("/v1/")
            stream = json.loads(body).get("stream") is True
            self._send(WAYS[way](Call(api, asked.key, stream)), asked.key)

        def do_GET(self) -> None:
            provider.asked.append(Asked(self.path, self.headers, b""))
            self._send(Reply(200, [b"{}"]), "")

        def _send(self, reply: Reply, key: str) -> None:
            self.close_connection = True
            if reply.raw is not None:
                self.wfile.write(reply.raw)
                return
            self.send_response_only(reply.status)
            headers = [("Content-Type", reply.content_type), *reply.headers, *echoing_headers(key)]
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            for piece in reply.pieces:
                self.wfile.write(piece)
                self.wfile.flush()
                if len(reply.pieces) > 1:
                    time.sleep(0.01)  # so that each is read by itself

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # the gateway hangs up on some of this

    with Server(("127.0.0.1", 0), Handler) as server:
        provider = EchoProvider(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _event(value: dict[str, Any], name: str = "error") -> bytes:
    return f"event: {name}\ndata: {json.dumps(value)}\n\n".encode()


def _torn(data: bytes, key: str) -> list[bytes]:
    """`data` in two pieces, the first of which ends in the middle of the key."""
    at = data.index(key.encode()) + len(key) // 2
    return [data[:at], data[at:]]
