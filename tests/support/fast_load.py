"""Many clients that cost next to nothing, so that what they measure is the gateway and not themselves.

They speak HTTP/1.1 over connections that they keep, from one event loop. What became of the requests is only
counted; `tests/support/load.py` keeps each.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

LEFT, LOST, LATE, BROKEN = "left", "lost", "late", "broken"
ERROR = re.compile(rb'"error": ?[{]')
CODE = re.compile(rb'"code": ?"(\w+)"')
LAST_CHUNK = b"0\r\n\r\n"
CONNECTION_LASTS = 100  # requests, after which a client makes a new one


@dataclass(frozen=True)
class Call:
    """A request as it goes over the wire. `leave_after`: the client closes its connection after so many
    pieces of the answer, with 0 after `patience` seconds without one."""

    sent: bytes
    leave_after: int | None = None
    patience: float = 0.01


@dataclass
class Tally:
    """How many requests ended how, by their status or by what became of them, and how long those took that
    were answered whole, in seconds. `on_answer` is told the number of each as it ends."""

    ends: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    keep_seconds: bool = True

    @property
    def total(self) -> int:
        return self.ends.total()

    def percentile(self, share: float) -> float:
        """The seconds within which this share of the whole answers came; 0 where there was none."""
        taken = sorted(self.seconds)
        return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else 0.0


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


async def run_calls(
    url: str,
    calls: Callable[[int], Call],
    numbers: Iterator[int],
    *,
    clients: int,
    tally: Tally,
    request_seconds: float = 60.0,
    pause: float = 0.0,
) -> None:
    """Make the call of each number, so many at once, and enter it in `tally` as it ends. Before each one a
    client waits for up to `pause` seconds, so that they do not all ask at the same moment."""
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)

    async def work() -> None:
        connection: _Connection | None = None
        for number in numbers:
            call = calls(number)
            if pause:
                await asyncio.sleep(random.uniform(0, pause))
            began = time.perf_counter()
            try:
                if connection is None or connection.is_used_up:
                    _close(connection)
                    connection = await _connect(address)
                async with asyncio.timeout(request_seconds):
                    end = await connection.make(call)
            except TimeoutError:
                end = LATE
            except OSError:
                end = LOST
            if end in (LATE, LOST, LEFT):
                _close(connection)
                connection = None
            tally.ends[end] += 1
            if end == "200" and tally.keep_seconds:
                tally.seconds.append(time.perf_counter() - began)
        _close(connection)

    await asyncio.gather(*(work() for _ in range(clients)))


async def _connect(address: tuple[str, int]) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, *address)
    return connection


def _close(connection: _Connection | None) -> None:
    if connection is not None:
        connection.close()


class _Connection(asyncio.Protocol):
    """One connection, on which one request is made after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[str] | None = None
        self._call = Call(b"")
        self._received = bytearray()
        self._body_at = 0
        self._length: int | None = None
        self._pieces = 0
        self._made = 0
        self._closing = False

    @property
    def is_used_up(self) -> bool:
        return self._closing or self._made >= CONNECTION_LASTS

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    async def make(self, call: Call) -> str:
        """Make one call; say how it ended.

        :raises ConnectionError: where the connection ends before the answer does
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()
        self._ended, self._call = ended, call
        self._received.clear()
        self._body_at, self._length, self._pieces = 0, None, 0
        self._made += 1
        cast("asyncio.Transport", self._transport).write(call.sent)
        if call.leave_after == 0:
            loop.call_later(call.patience, self._leave, ended)
        return await ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._pieces += 1
        if self._ended is None or self._ended.done():
            return
        if not self._body_at and not self._read_head():
            return
        if self._is_whole():
            self._end(self._said())
        elif self._call.leave_after and self._pieces >= self._call.leave_after:
            self._end(LEFT)

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(ConnectionResetError("the connection ended before its answer"))

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        self._body_at = end + 4
        head = bytes(self._received[:end]).lower()
        _, _, tail = head.partition(b"\r\ncontent-length:")
        self._length = int(tail.partition(b"\r\n")[0]) if tail else None
        if b"\r\nconnection: close" in head:
            self._closing = True
        return True

    def _is_whole(self) -> bool:
        if self._length is None:
            return self._received.endswith(LAST_CHUNK, self._body_at)
        return len(self._received) >= self._body_at + self._length

    def _said(self) -> str:
        """The answer's status, with the error's code where it is of no client's making, or that an answer
        which had begun ended with an error."""
        status = bytes(self._received[9:12]).decode()
        if status.startswith("5") and (code := CODE.search(self._received)):
            return f"{status} {code[1].decode()}"
        broken = status == "200" and self._length is None and ERROR.search(self._received) is not None
        return BROKEN if broken else status

    def _end(self, end: str) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(end)

    def _leave(self, ended: asyncio.Future[str]) -> None:
        if not ended.done():
            ended.set_result(LEFT)
