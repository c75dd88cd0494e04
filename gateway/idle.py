"""Connections that wait for their client's next request, and their end when that takes too long.

One look a second over all of them, instead of a timer for each wait, of which nearly none ever fires.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeAlias, cast

import gevent

Connection: TypeAlias = "gevent.Greenlet[..., Any]"


class IdleTooLong(BaseException):
    """Ends the wait of a connection. No `Exception`, as nothing on the way may take it for an error."""


class _Wait:
    """The context in which one connection waits; it ends in silence when that takes too long."""

    __slots__ = ("_connection", "_waits")

    def __init__(self, waits: dict[Connection, float]) -> None:
        self._waits = waits
        self._connection = cast("Connection", gevent.getcurrent())

    def __enter__(self) -> None:
        self._waits[self._connection] = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        del self._waits[self._connection]
        return kind is IdleTooLong


class Idle:
    """The connections of a worker that wait."""

    def __init__(self) -> None:
        self._waits: dict[Connection, float] = {}

    def wait(self) -> _Wait:
        """The context in which the connection of this greenlet waits."""
        return _Wait(self._waits)

    def end(self, seconds: float, may_end: Callable[[Connection], bool]) -> None:
        """End those that have waited for longer than so many seconds, and may end. It is done in a callback
        of the event loop, so that no request can begin between the look and the end."""
        gevent.get_hub().loop.run_callback(self._end, seconds, may_end)

    def _end(self, seconds: float, may_end: Callable[[Connection], bool]) -> None:
        now = time.monotonic()
        for connection, since in list(self._waits.items()):
            if now - since > seconds and connection in self._waits and may_end(connection):
                connection.throw(IdleTooLong)
