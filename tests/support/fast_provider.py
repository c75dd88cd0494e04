"""A provider that costs next to nothing: a process of its own that answers from prepared bytes.

`python -m tests.support.fast_provider PORT FAULT_EVERY [SECONDS]`. Chat completions, plain and streamed, and
embeddings, whoever asks and whatever. Every `FAULT_EVERY`-th request fails, in turn in each way of `FAULTS`;
0: none, 1: all, with 503 alone. `GET /counts` gives how many were answered and how many failed in which way,
and `/ledger/ID` says of every call that it was answered whole.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from tests.support.ports import lasting_port
from tests.support.processes import Service, running

PROMPT_TOKENS, OUTPUT_TOKENS = 14, 8
USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 22}
WORDS = ("The", " capital", " of", " France", " is", " Paris", ",", " yes")
BILL = {
    "state": "ended",
    "calls": 1,
    "input_tokens": PROMPT_TOKENS,
    "cached_input_tokens": 0,
    "output_tokens": OUTPUT_TOKENS,
    "cost_usd": 0.0000046,
}
ANSWERED = "answered"
FAULTS = ("status 503", "reset", "status 429", "cut", "no json")


def main(port: int, fault_every: int, seconds: float) -> None:
    asyncio.run(serve(port, fault_every, seconds))


async def serve(port: int, fault_every: int, seconds: float) -> None:
    counts: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(counts, fault_every, seconds), "127.0.0.1", port, backlog=2048
    )
    await server.serve_forever()


class Connection(asyncio.Protocol):
    """One connection: its requests are answered one after the other."""

    def __init__(self, counts: Counter[str], fault_every: int, seconds: float) -> None:
        self._counts = counts
        self._seconds = seconds
        self._fault_every = fault_every
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while request := self._next_request():
            if self._seconds:
                asyncio.get_running_loop().call_later(self._seconds, self._answer, *request)
            else:
                self._answer(*request)

    def _next_request(self) -> tuple[bytes, bytes] | None:
        """The head and the body of a request that has come whole."""
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        _, _, tail = head.lower().partition(b"\r\ncontent-length:")
        length = int(tail.partition(b"\r\n")[0]) if tail else 0
        if len(rest) < length:
            return None
        self._received = rest[length:]
        return head, rest[:length]

    def _answer(self, head: bytes, body: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if head.startswith(b"GET "):
            bill = b" /ledger/" in head
            transport.write(whole(200, json.dumps(BILL if bill else self._counts).encode()))
            return
        self._counts["asked"] += 1
        streamed = b'"stream":true' in body or b'"stream": true' in body
        turn, rest = divmod(self._counts["asked"], self._fault_every or sys.maxsize)
        if rest == 0:
            self._fail(transport, FAULTS[turn % len(FAULTS) if self._fault_every > 1 else 0], streamed)
            return
        self._counts[ANSWERED] += 1
        if b"/embeddings" in head:
            transport.write(EMBEDDINGS)
        elif not streamed:
            transport.write(ANSWER)
        else:
            for piece in STREAM:
                transport.write(piece)

    def _fail(self, transport: asyncio.Transport, fault: str, streamed: bool) -> None:
        self._counts[fault] += 1
        match fault:
            case "status 503":
                transport.write(whole(503, b'{"error": {"message": "Busy.", "type": "server_error"}}'))
            case "status 429":
                transport.write(whole(429, b'{"error": {"message": "Slowly.", "type": "rate_limit"}}'))
            case "reset":
                transport.abort()
            case "cut":
                for piece in STREAM[:4] if streamed else [ANSWER[:-20]]:
                    transport.write(piece)
                transport.close()
            case _:
                transport.write(whole(200, b'{"choices": ['))


def whole(status: int, body: bytes) -> bytes:
    """A plain answer with its head."""
    return (
        b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % (status, len(body))
    ) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(data: dict[str, object]) -> bytes:
    return _chunk(b"data: %s\n\n" % json.dumps(data).encode())


def _stream() -> list[bytes]:
    """A stream's head and events, as they are written one by one."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    base: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
    }
    pieces = [head]
    for word in WORDS:
        delta = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
        pieces.append(_event(base | {"choices": [delta]}))
    pieces.append(_event(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    pieces.append(_event(base | {"choices": [], "usage": USAGE}))
    pieces.append(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    return pieces


STREAM = _stream()
ANSWER = whole(
    200,
    json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(WORDS)},
                    "finish_reason": "stop",
                }
            ],
            "usage": USAGE,
        }
    ).encode(),
)
EMBEDDINGS = whole(
    200,
    json.dumps(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.25] * 16}],
            "model": "m",
            "usage": {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS},
        }
    ).encode(),
)


@contextmanager
def fast_provider(folder: Path, fault_every: int = 0, seconds: float = 0) -> Iterator[Service]:
    """One on a free port, until the block ends; it answers after so many seconds."""
    port = lasting_port()
    command = [sys.executable, "-m", "tests.support.fast_provider", str(port), str(fault_every), str(seconds)]
    with running(
        command, f"http://127.0.0.1:{port}", folder / f"provider-{port}.log", "/healthz", {}
    ) as service:
        yield service


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0)
