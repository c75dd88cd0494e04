"""Many requests' calls of one script in one round trip, over one connection: as many as have come together
while the last round trip took its time. A lone one is sent at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gevent
import redis
from gevent.event import Event

from gateway.errors import LedgerUnavailable
from gateway.ledger.scripts import Script

AT_ONCE = 128
LATEST_SECONDS = 2.0  # a call is answered or given up long before, if the greenlet runs at all


class _Call:
    __slots__ = ("answer", "args", "keys")

    def __init__(self, keys: Sequence[str], args: Sequence[str | int | float]) -> None:
        self.keys = keys
        self.args = args
        self.answer: Any = None


class _Group:
    """Calls that travel together, which one event tells that they are answered."""

    __slots__ = ("_timer", "answered", "calls")

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self.answered = Event()
        self._timer = gevent.get_hub().loop.timer(LATEST_SECONDS)
        self._timer.start(self.answered.set)

    def end(self) -> None:
        """Let those go who wait."""
        self._timer.stop()
        self._timer.close()
        self.answered.set()


class ScriptGroup:
    """`patience` is how long Redis may take, in seconds."""

    def __init__(self, script: Script, patience: float) -> None:
        self._script = script
        self._patience = patience
        self._waiting: list[_Group] = []
        self._wake = Event()
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def __call__(self, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """What the script returns.

        :raises LedgerUnavailable: where it may not have run, or may run yet
        """
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)
        if not self._waiting or len(self._waiting[-1].calls) >= AT_ONCE:
            self._waiting.append(_Group())
        call, group = _Call(keys, args), self._waiting[-1]
        group.calls.append(call)
        self._wake.set()
        try:
            group.answered.wait()
        finally:
            if group in self._waiting:
                group.calls.remove(call)  # which nobody waits for any more
        if isinstance(call.answer, Exception):
            raise LedgerUnavailable("The ledger cannot be reached now.") from call.answer
        if call.answer is None:
            raise LedgerUnavailable("The ledger takes too long.")
        return call.answer

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                groups = [self._waiting.pop(0)]
                answers = self._answers(groups[0].calls)
                if answers and isinstance(answers[0], OSError | redis.ConnectionError | redis.TimeoutError):
                    # Nobody waits for a Redis that does not answer longer than the first.
                    groups, self._waiting = groups + self._waiting, []
                    answers = [answers[0]] * sum(len(group.calls) for group in groups)
                calls = [call for group in groups for call in group.calls]
                for call, answer in zip(calls, answers, strict=True):
                    call.answer = answer
                for group in groups:
                    group.end()

    def _answers(self, calls: Sequence[_Call]) -> list[Any]:
        """What the script returns for each, or how it failed."""
        if not calls:
            return []
        batch = [(call.keys, call.args) for call in calls]
        try:
            # A socket's time-outs do not bound all of it, such as finding out an address.
            with gevent.Timeout(self._patience, redis.TimeoutError("too slow")):
                return self._script.run_all(batch)
        except Exception as error:  # also one that is none of Redis's: somebody waits for each
            return [error] * len(calls)
