"""Conversations of a client with the gateway, byte by byte, and what the client hears."""

from __future__ import annotations

import http.client
import re
import time
from dataclasses import dataclass

from tests.support.refusals import COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, ROUTES
from tests.support.wire import CHAT, Connection, chunked, connected, head, post

LIMIT = 2**20  # bytes of a body
GOOD = b'{"messages":[{"role":"user","content":"hi"}]}'
STREAM = (
    b'{"messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}'
)
LARGE = b'{"messages":[{"role":"user","content":"%b"}]}' % (b"x" * 300_000)
PLAIN = post(GOOD)
UNKNOWN_KEY = "Authorization: Bearer gw-unknown"
LAST = head("X-Request-Id: last", "Connection: close", method="GET", path="/healthz")
SMUGGLED = head(method="GET", path="/smuggled")

# What a client does besides sending bytes: it reads one answer, or says that it has sent its last byte.
READ, READ_HEAD, END = "read", "read a head", "end"
Step = bytes | str


def with_line(*lines: str | bytes, body: bytes = GOOD) -> bytes:
    """A plain request with these header lines in the place of its length."""
    return head(*lines) + body


def split(data: bytes, size: int) -> list[Step]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def refused(size: int, *lines: str, path: str = CHAT) -> bytes:
    """A request that is refused before its body is read, which is full of what must not be taken for one."""
    return post((SMUGGLED * (size // len(SMUGGLED) + 1))[:size], UNKNOWN_KEY, *lines, path=path)


CONVERSATIONS: dict[str, list[Step]] = {
    "plain": [PLAIN, READ],
    "stream": [post(STREAM), READ],
    **{route.path: [route.request(route.good), READ] for route in ROUTES},
    "streamed message": [post(ROUTES[2].with_member('"stream":true'), path=MESSAGES), READ],
    "streamed response": [post(ROUTES[1].with_member('"stream":true'), path=RESPONSES), READ],
    "no JSON": [post(b"no JSON"), READ],
    "no body": [post(b""), READ],
    "large": [post(LARGE), READ],
    "provider refuses": [post(GOOD, "X-Mock-Fault: status=418"), READ],
    "provider fails": [post(GOOD, "X-Mock-Fault: status=500"), READ],
    "stream breaks off": [post(STREAM, "X-Mock-Fault: cut_midstream"), READ],
    "one after another": [PLAIN, READ, post(STREAM), READ, post(b"no JSON"), READ, PLAIN, READ],
    "pipelined": [PLAIN * 3 + post(STREAM) + post(b"no JSON") * 2 + PLAIN],
    "pipelined and ended": [PLAIN * 2, END],
    "pipelined, then chunks": [PLAIN + chunked(GOOD) + PLAIN],
    "pipelined, then metrics": [PLAIN + head(method="GET", path="/healthz") + PLAIN],
    "100 refused ones ahead": [post(b"no JSON") * 100],
    "metrics between": [PLAIN, READ, head(method="GET", path="/v1/models"), READ, PLAIN, READ],
    "body later": [PLAIN[: -len(GOOD)], b"", PLAIN[-len(GOOD) :], READ],
    "body in pieces": [*split(PLAIN, len(PLAIN) - 30), READ, *split(PLAIN, len(PLAIN) - 10), READ],
    **{
        f"body of {size} KB at once": [
            post(GOOD.ljust(size * 1000)),
            READ,
            post(GOOD.ljust(size * 1000)),
            READ,
        ]
        for size in (15, 17, 30, 60, 64, 70)
    },
    "bodies of 20 KB ahead": [post(GOOD.ljust(20_000)) * 5],
    "large in pieces": [*split(post(LARGE), 70_000), READ],
    "head in pieces": [*split(PLAIN, 20), READ, *split(PLAIN, 20), READ],
    "byte by byte": [*split(PLAIN, 1), READ],
    "end of the head on its own": [PLAIN[: -len(GOOD) - 2], PLAIN[-len(GOOD) - 2 :], READ],
    "next request in two parts": [PLAIN + PLAIN[:50], READ, PLAIN[50:], READ],
    "end of line before": [b"\r\n" + PLAIN, READ],
    "end of line behind": [PLAIN + b"\r\n", READ, PLAIN, READ],
    "ends of line behind": [PLAIN + b"\r\n\r\n", READ],
    "small letters": [with_line("content-length: 45", "connection: KEEP-ALIVE"), READ],
    "capitals": [with_line("CONTENT-LENGTH: 45", "SEC-FETCH-SITE: same-origin"), READ],
    "spaces around the length": [with_line("Content-Length: \t 45 \t"), READ],
    "zeros before the length": [with_line("Content-Length: 0045"), READ],
    "no length": [head(), READ],
    "no length but a body": [head() + GOOD],
    **{
        f"length {length!r}": [with_line(b"Content-Length: " + length)]
        for length in (b"", b"+45", b"-1", b"0x2d", b"45,45", b"45 45", b"\xb2", b"4_5", b"45;")
    },
    "two lengths": [with_line("Content-Length: 45", "Content-Length: 45")],
    "two other lengths": [with_line("Content-Length: 45", "Content-Length: 5")],
    "a length with an underscore": [with_line("Content-Length: 45", "Content_Length: 5"), READ],
    "chunks": [chunked(GOOD), READ],
    "chunks in pieces": [*split(chunked(GOOD, 7), 10), READ],
    "a trailer": [chunked(GOOD)[:-2] + b"X-Trailer: a\r\n\r\n", READ],
    "length and chunks": [with_line("Content-Length: 45", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")],
    "chunks and length": [with_line("Transfer-Encoding: chunked", "Content-Length: 45", body=b"0\r\n\r\n")],
    **{
        f"coding {coding!r}": [with_line("Content-Length: 45", b"Transfer-Encoding: " + coding)]
        for coding in (b"", b"identity", b"gzip", b"magic", b"chunked, gzip", b"\x0bchunked", b'"chunked"')
    },
    "coding with an underscore": [with_line("Content-Length: 45", "Transfer_Encoding: chunked"), READ],
    "expectation": [post(GOOD, "Expect: 100-continue"), READ],
    "expectation on its own": [head("Content-Length: 45", "Expect: 100-continue"), GOOD, READ],
    "unknown expectation": [post(GOOD, "Expect: a-miracle")],
    # Read before more is sent, as what comes on a closed connection takes the answer back from its reader.
    "HTTP/1.0": [PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), READ],
    "HTTP/1.0 kept": [post(GOOD, "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0"), READ],
    "HTTP/1.0 stream": [post(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0"), READ],
    "HTTP/2.0": [PLAIN.replace(b"HTTP/1.1", b"HTTP/2.0")],
    "HTTP/2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    "upgrade": [post(GOOD, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAM")],
    "upgrade that nobody asks for": [post(GOOD, "Upgrade: h2c"), READ],
    "no host": [PLAIN.replace(b"Host: gateway\r\n", b"")],
    **{
        f"host {host!r}": [PLAIN.replace(b"Host: gateway", b"Host: " + host), READ]
        for host in (b"", b"a b", b"../x", b"\xe9", b"x:99999", b"[::1]:80", b"evil.example")
    },
    "two hosts": [post(GOOD, "Host: other")],
    **{
        f"target {target}": [post(GOOD, path=target), READ]
        for target in (
            f"http://gateway{CHAT}",
            f"{CHAT}?api-version=1",
            f"{CHAT}?",
            f"{CHAT}#part",
            f"{CHAT}/",
            "/v1/chat%2Fcompletions",
            "/v1/chat/complet%69ons",
            "/v1//chat/completions",
            "/v1/chat/completionsx",
            "/v1/unknown",
            "/unknown",
            "*",
        )
    },
    "two spaces": [PLAIN.replace(b"POST ", b"POST  ", 1)],
    "two spaces before the version": [PLAIN.replace(b" HTTP", b"  HTTP", 1)],
    "space behind the version": [PLAIN.replace(b"HTTP/1.1", b"HTTP/1.1 ", 1)],
    "small method": [PLAIN.replace(b"POST", b"post", 1)],
    **{
        f"{method} {path}": [head(method=method, path=path), READ]
        for method in ("GET", "PUT", "DELETE")
        for path in (CHAT, COMPLETIONS, EMBEDDINGS)
    },
    "HEAD": [head(method="HEAD", path=CHAT), READ_HEAD],
    "header with an underscore": [post(GOOD, "X_Request_Id: a", "Sec_Fetch_Site: cross-site"), READ],
    "empty value": [post(GOOD, "X-A:", "X-Request-Id: a"), READ],
    "odd name": [post(GOOD, "!#$%&'*+-.^`|~: a"), READ],
    "latin value": [post(GOOD, b"X-A: \xe9\xff\x80", b"X-Request-Id: \xe9"), READ],
    **{
        f"line {line!r}": [post(GOOD, line)]
        for line in (
            b"X A: b",
            b"X-A : b",
            b" X-A: b",
            b"X(A): b",
            b"X\xe9: b",
            b"X-A: b\r\n c",
            b"X-A: b\0c",
            b"X-A: b\x7f",
            b"X-A: b\rX-Request-Id: evil",
            b"X-A: b\nX-Request-Id: evil",
            b"X-A: b\r",
            b"no colon",
            b": no name",
            b"\tX-A: b",
            b"X-A: b\n",
        )
    },
    "line feeds alone": [PLAIN.replace(b"\r\n", b"\n")],
    "100 headers": [post(GOOD, *(f"X-{number}: a" for number in range(98))), READ],
    "101 headers": [post(GOOD, *(f"X-{number}: a" for number in range(99)))],
    **{
        f"a head of {size} KB": [post(GOOD, *(f"X-{number}: {'a' * 990}" for number in range(size)))]
        for size in (7, 8, 9, 16, 17, 70)
    },
    **{f"a header of {size:,} bytes": [post(GOOD, "X-A: " + "a" * size)] for size in (8000, 8190, 20_000)},
    "two keys": [post(GOOD, "Authorization: Bearer gw-a", "Authorization: Bearer gw-b"), READ],
    "two ids": [post(GOOD, "X-Request-Id: a", "X-Request-Id: b"), READ],
    "two wishes": [post(GOOD, "Connection: close", "Connection: keep-alive"), READ],
    **{
        f"id {wanted!r}": [post(GOOD, b"X-Request-Id: " + wanted), READ]
        for wanted in (b"mine", b"a b", b"<b>", b"a%0d%0aX: 1", b"x" * 128, b"x" * 129, b"a,b", b"\xc3\xa9")
    },
    **{
        f"connection {wish!r}": [post(GOOD, b"Connection: " + wish), READ]
        for wish in (b"close", b"Close", b"keep-alive", b"close, te", b"te, close", b"a", b"", b"upgrade")
    },
    "stream and close": [post(STREAM, "Connection: close")],
    "refused and close": [refused(1000, "Connection: close")],
    "asked by another site": [post(GOOD, "Sec-Fetch-Site: cross-site"), READ],
    "unknown key": [post(GOOD, UNKNOWN_KEY), READ, PLAIN, READ],
    **{
        f"refused with {size:,} bytes": [refused(size), READ, PLAIN, READ]
        for size in (100, 10_000, 60_000, 100_000, LIMIT, 10 * LIMIT)
    },
    "refused ones ahead": [refused(10_000) * 3 + PLAIN],
    "refused, in pieces": [*split(refused(100_000), 30_000), READ, PLAIN, READ],
    "refused message": [refused(100_000, path=MESSAGES), READ],
    "refused in chunks": [chunked(SMUGGLED * 900).replace(b"Host", UNKNOWN_KEY.encode() + b"\r\nHost", 1)],
    "too large": [post(b" " * (LIMIT + 1)), READ, PLAIN, READ],
    "ten times too large": [post(SMUGGLED * (10 * LIMIT // len(SMUGGLED))), READ, PLAIN, READ],
    "length of 50 digits": [with_line("Content-Length: " + "9" * 50), READ, END],
    "length of 5,000 digits": [with_line("Content-Length: " + "9" * 5000)],
    "far too large": [head("Content-Length: 10000000000"), READ, END],
    "too large in chunks": [chunked(b" " * (LIMIT + 100_000))],
    "half a head": [PLAIN[:60], END],
    "half a body": [PLAIN[:-10], END],
    "half a body of many": [post(LARGE)[:-10], END],
    "half a refused body": [refused(50_000)[:-10], END],
    "half of the second body": [PLAIN, READ, PLAIN[:-10], END],
    "forwarded": [post(GOOD, "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"), READ],
}


@dataclass(frozen=True)
class Heard:
    """What a client hears of one answer, without what differs from one to the next."""

    version: int
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


MASKS = (
    (re.compile(rb'"(id|created|created_at|completed_at|item_id)": ?("[^"]*"|\d+)'), rb"\1"),
    (re.compile(rb"duration_ms=[\d.]+"), b""),
    (re.compile(rb"[0-9a-f]{32}"), b""),
)


def masked(data: bytes) -> bytes:
    for pattern, mask in MASKS:
        data = pattern.sub(mask, data)
    return data


def heard(connection: Connection, method: str = "POST") -> Heard | str:
    try:
        answer = connection.answer(method)
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return "closed"
    except http.client.HTTPException as error:
        return repr(error)
    headers = [
        (name, masked(value.encode()).decode()) for name, value in answer.headers.items() if name != "Date"
    ]
    return Heard(answer.version, answer.status, tuple(sorted(headers)), masked(answer.body))


def told(url: str, steps: list[Step]) -> list[Heard | str]:
    """All that a client hears that takes these steps, to the end of its connection. Where it does not end
    that itself, it asks for something else at last, which tells whether the connection still serves."""
    answers = []
    with connected(url) as connection:
        for step in steps:
            if isinstance(step, bytes):
                connection.send(step)
                time.sleep(0.001)
            elif step == END:
                connection.end()
            else:
                answers.append(heard(connection, "HEAD" if step == READ_HEAD else "POST"))
        if END not in steps:
            connection.send(LAST)
        while not isinstance(answer := heard(connection), str):
            answers.append(answer)
    return [*answers, answer]
