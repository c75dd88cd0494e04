"""The events of a stream as they come, of which the next can be waited for without being lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent

from gateway.sse import Event
from gateway.upstream import AnswerStream


class Batches:
    """What each read of `stream` gives."""

    def __init__(self, stream: AnswerStream) -> None:
        self._batches: Iterator[list[Event]] = iter(stream)
        self._reading: gevent.Greenlet[..., Any] | None = None

    def next(self) -> list[Event] | None:
        """The next one, or None at the end.

        :raises UpstreamError: where the provider stops before that
        """
        if self._reading is None:
            return next(self._batches, None)
        self._reading.join()
        outcome, self._reading = self._reading.value, None
        if isinstance(outcome, BaseException):
            raise outcome
        batch: list[Event] | None = outcome
        return batch

    def comes_within(self, seconds: float) -> bool:
        """Whether the next one, or the end, is there within so many seconds. It is read on if not."""
        if self._reading is None:  # one that has ended counts as false
            self._reading = gevent.spawn(self._read)
        self._reading.join(max(0.0, seconds))
        return self._reading.ready()

    def stop(self) -> None:
        """Read no further."""
        if self._reading is not None:
            self._reading.kill()

    def _read(self) -> list[Event] | BaseException | None:
        # Returned, since gevent writes a traceback for whatever a greenlet raises.
        try:
            return next(self._batches, None)
        except BaseException as error:
            return error
