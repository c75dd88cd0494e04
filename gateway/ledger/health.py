"""Whether Redis answers, as one worker sees it."""

from __future__ import annotations

import logging

from gevent.event import Event

logger = logging.getLogger(__name__)


class Health:
    """A circuit breaker. One failure makes Redis suspect: nobody sends anything but the one who tries it
    again, at once. The second one opens the circuit until a later try works. Changes are logged once."""

    def __init__(self) -> None:
        self._failures = 0
        self._settled = Event()
        self._settled.set()

    @property
    def is_well(self) -> bool:
        """Whether the last try worked."""
        return self._failures == 0

    @property
    def is_lost(self) -> bool:
        """Whether the circuit is open: nobody waits for Redis any more."""
        return self._failures > 1

    def wait_until_known(self, seconds: float) -> bool:
        """Whether Redis is well, waiting for the try of a suspect one, but no longer than `seconds`."""
        self._settled.wait(seconds)
        return self.is_well

    def failed(self, error: BaseException) -> None:
        """Take note of a try that did not work."""
        self._failures += 1
        if self._failures == 1:
            self._settled.clear()
        else:
            self._settled.set()
        if self._failures == 2:
            cause = type(error.__cause__ or error).__name__  # its text may hold addresses or keys
            logger.error("Redis is lost; what is to be counted waits in the journal", extra={"cause": cause})

    def worked(self) -> None:
        """Take note of a try that worked."""
        if self.is_lost:
            logger.warning("Redis is back, and all that waited for it is counted")
        self._failures = 0
        self._settled.set()
