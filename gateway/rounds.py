"""Waits that last are looked at on a round, a few times a second. So a wait that is soon over, as nearly all
are, needs no timer and no watcher of the event loop: to be on the list costs a quarter of either."""

from __future__ import annotations

import time
from typing import Protocol

import gevent

SECONDS_BETWEEN_ROUNDS = 0.05


class Wait(Protocol):
    """What can be looked at."""

    def look(self, now: float) -> None:
        """Called on each round, in the event loop, so it must not wait nor wake anybody. `now` is the moment
        of the monotonic clock."""


class Rounds:
    """The waits of a worker, which has one event loop."""

    def __init__(self) -> None:
        self._waits: set[Wait] = set()
        self._is_going = False

    def add(self, wait: Wait) -> None:
        """Look at `wait` from now on. Its first look may come at once."""
        self._waits.add(wait)
        if not self._is_going:
            self._is_going = True
            timer = gevent.get_hub().loop.timer(SECONDS_BETWEEN_ROUNDS, SECONDS_BETWEEN_ROUNDS)

            def look_at_all() -> None:
                if not self._waits:
                    self._is_going = False
                    timer.stop()
                    timer.close()
                now = time.monotonic()
                for each in list(self._waits):
                    each.look(now)

            timer.start(look_at_all)

    def remove(self, wait: Wait) -> None:
        """Look at it no more, if it was looked at."""
        self._waits.discard(wait)


ROUNDS = Rounds()
