"""How long things may take. gunicorn's own `timeout` does not bound a request under gevent, so this does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import gevent

from gateway.errors import RequestTimeUp, UpstreamTimeout

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
        self._at = at
        self.error = error

    @classmethod
    def in_seconds(cls, seconds: float, since: float | None = None) -> Deadline:
        """So many seconds from now, or from the moment `since` of the monotonic clock."""
        return cls((time.monotonic() if since is None else since) + seconds)

    @property
    def remaining(self) -> float:
        """Seconds, negative once it has passed."""
        return self._at - time.monotonic()

    def or_in(self, seconds: float) -> Deadline:
        """This, or so many seconds from now, which a model may take, where that is sooner."""
        at = time.monotonic() + seconds
        return Deadline(at, UpstreamTimeout) if at < self._at else self


@contextmanager
def time_limit(seconds: float, deadline: Deadline, slow: str) -> Iterator[None]:
    """Bound the waiting in the block by `seconds` and by `deadline`.

    :raises UpstreamTimeout: with the message `slow` where the seconds were what was over, else the deadline's
    """
    remaining = deadline.remaining
    late = UpstreamTimeout(slow) if seconds <= remaining else deadline.error(TOO_LATE)
    if remaining <= 0:  # also where the block would never wait, so that no timer could end it
        raise late
    timer = gevent.Timeout(min(seconds, remaining))
    timer.start()
    try:
        yield
    except gevent.Timeout as expired:
        if expired is not timer:
            raise
        raise late from None
    finally:
        timer.close()
