"""How long things may take. gunicorn's own `timeout` does not bound a request under gevent, so this does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gevent

from gateway.errors import RequestTimeUp, UpstreamTimeout
from gateway.rounds import ROUNDS, SECONDS_BETWEEN_ROUNDS

SOON = 2 * SECONDS_BETWEEN_ROUNDS  # what is over by then has a timer of its own, lest it be late
TOO_LATE = "The time for this request was over before its answer was whole."


@dataclass(frozen=True)
class Timeouts:
    """Of one call of a model, in seconds: until there is a connection, until its answer begins, the longest
    silence within the answer, and for all of it."""

    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 300.0
    total: float = 600.0


USUAL = Timeouts()


class Deadline:
    """A moment by which something has to be over, on the monotonic clock; `error` is what it is not to be."""

    def __init__(self, at: float, error: type[UpstreamTimeout] = RequestTimeUp) -> None:
        self.at = at
        self.error = error

    @classmethod
    def in_seconds(cls, seconds: float, since: float | None = None) -> Deadline:
        """So many seconds from now, or from the moment `since` of the monotonic clock."""
        return cls((time.monotonic() if since is None else since) + seconds)

    @property
    def remaining(self) -> float:
        """Seconds, negative once it has passed."""
        return self.at - time.monotonic()

    def or_in(self, seconds: float) -> Deadline:
        """This, or so many seconds from now, which a model may take, where that is sooner."""
        at = time.monotonic() + seconds
        return Deadline(at, UpstreamTimeout) if at < self.at else self


class _TimeUp(BaseException):
    """Thrown into a block whose `limit` is over. Like `gevent.Timeout` no `Exception`, since no library on
    the way may take it for an error of its own."""

    def __init__(self, limit: time_limit) -> None:
        self.limit = limit


class time_limit:
    """Bound the waiting in the block of a `with` by `seconds` and by `deadline`. For one block.

    :raises UpstreamTimeout: with the message `slow` where the seconds were what was over, else the deadline's
    """

    __slots__ = ("_deadline", "_ends", "_is_slow", "_slow", "_timer", "_waiting")

    def __init__(self, seconds: float, deadline: Deadline, slow: str) -> None:
        now = time.monotonic()
        self._ends = now + seconds
        self._is_slow = self._ends <= deadline.at
        if not self._is_slow:
            self._ends = deadline.at
        self._deadline = deadline
        self._slow = slow
        self._timer: Any = None

    def __enter__(self) -> None:
        self._waiting = gevent.getcurrent()
        left = self._ends - time.monotonic()
        if left <= 0:  # also where the block would never wait, so that no timer could end it
            raise self._late()
        if left < SOON:
            self._start_timer(left)
        else:
            ROUNDS.add(self)

    def __exit__(self, kind: object, struck: BaseException | None, trace: object) -> None:
        ROUNDS.remove(self)
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        if isinstance(struck, _TimeUp) and struck.limit is self:
            raise self._late() from None

    def look(self, now: float) -> None:
        """For the rounds."""
        if self._ends - now < SOON:
            ROUNDS.remove(self)
            self._start_timer(max(0.0, self._ends - now))

    def _start_timer(self, seconds: float) -> None:
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(self._waiting.throw, _TimeUp(self), update=True)

    def _late(self) -> UpstreamTimeout:
        return UpstreamTimeout(self._slow) if self._is_slow else self._deadline.error(TOO_LATE)
