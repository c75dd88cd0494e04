"""Many streamed answers at once, each compared with what the mock models say.

The clients run in one event loop. Each prompt begins with its number, so that an answer that went astray is
told from the right one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cheap_model.app import PROFILE as CHEAP
from expensive_model.app import PROFILE as EXPENSIVE
from model_server.completion import complete
from model_server.schema import parse_request

PROFILES = {profile.name: profile for profile in (CHEAP, EXPENSIVE)}
CONNECT_AT_ONCE = 256  # no more than a listener's backlog holds
LAST_EVENT = "data: [DONE]"


@dataclass(frozen=True)
class Request:
    """A streamed chat completion of so many chunks, one token each; `padding` characters precede its text."""

    number: int
    chunks: int
    model: str = CHEAP.name
    padding: int = 0

    @property
    def body(self) -> bytes:
        messages = [{"role": "user", "content": f"{self.number} [[write {self.chunks} tokens]]"}]
        if self.padding:
            messages.insert(0, {"role": "system", "content": "x" * self.padding})
        return json.dumps({"model": self.model, "messages": messages, "stream": True}).encode()

    @property
    def answer(self) -> str:
        """What the model says."""
        return complete(PROFILES[self.model], parse_request(self.body)).choices[0].text


@dataclass
class Streams:
    """What became of all: the number of each that was not whole, in order and right, and what was wrong;
    how many began to be answered; how many were in work at once at most; how long all took, in seconds."""

    count: int
    wrong: dict[int, str] = field(default_factory=dict)
    begun: int = 0
    in_work: int = 0
    most_in_work: int = 0
    seconds: float = 0.0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        self.in_work += 1
        self.most_in_work = max(self.most_in_work, self.in_work)
        try:
            yield
        finally:
            self.in_work -= 1


def run_streams(
    url: str,
    requests: list[Request],
    *,
    seconds: float = 120.0,
    all_begun: Callable[[], None] = lambda: None,
) -> Streams:
    """Open all of them at once and read them to their ends, none longer than `seconds`. `all_begun` is called
    when the last has begun."""
    streams = Streams(len(requests))
    asyncio.run(_run(url, requests, streams, seconds, all_begun))
    return streams


async def _run(
    url: str, requests: list[Request], streams: Streams, seconds: float, all_begun: Callable[[], None]
) -> None:
    connecting = asyncio.Semaphore(CONNECT_AT_ONCE)
    began = time.monotonic()

    async def stream(request: Request) -> None:
        try:
            async with asyncio.timeout(seconds):
                wrong = await _stream(url, request, streams, connecting, all_begun)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            wrong = repr(error)
        if wrong:
            streams.wrong[request.number] = wrong

    await asyncio.gather(*map(stream, requests))
    streams.seconds = time.monotonic() - began


async def _stream(
    url: str,
    request: Request,
    streams: Streams,
    connecting: asyncio.Semaphore,
    all_begun: Callable[[], None],
) -> str:
    """What is wrong with the answer, if anything is."""
    parts, body = urlsplit(url), request.body
    async with connecting:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        with streams.one_more():
            status = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode()
            if " 200 " not in status:
                return status
            streams.begun += 1
            if streams.begun == streams.count:
                all_begun()
            return _fault(await _chunked(reader), request)
    finally:
        writer.close()


async def _chunked(reader: asyncio.StreamReader) -> str:
    """A body in chunks, to its very end.

    :raises EOFError: where it ends early
    """
    received = b""
    while size := int((await reader.readuntil(b"\r\n")), 16):
        received += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return received.decode()


def _fault(text: str, request: Request) -> str:
    *events, last, rest = text.split("\n\n")
    if (last, rest) != (LAST_EVENT, ""):
        return f"ended with {last[-80:]!r}"
    deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in events]
    pieces = [delta["content"] for delta in deltas if delta.get("content")]
    if "".join(pieces) != request.answer:
        return f"said {''.join(pieces)[:80]!r}"
    return "" if len(pieces) == request.chunks else f"came in {len(pieces)} chunks"
