"""Many requests' calls of one script in one round trip, over one connection: as many as have come together
while the last round trip took its time. A lone one is sent at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gevent
import redis
from gevent.event import Event

from gateway.errors import LedgerUnavailable
from gateway.ledger.scripts import Script

AT_ONCE = 128
LATEST_SECONDS = 2.0  # a call is answered or given up long before, if the greenlet runs at all


@dataclass
class _Call:
    keys: Sequence[str]
    args: Sequence[str | int | float]
    done: Event = field(default_factory=Event)
    answer: Any = None


class ScriptGroup:
    """`patience` is how long Redis may take, in seconds."""

    def __init__(self, script: Script, patience: float) -> None:
        self._script = script
        self._patience = patience
        self._waiting: list[_Call] = []
        self._wake = Event()
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def __call__(self, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """What the script returns.

        :raises LedgerUnavailable: where it may not have run, or may run yet
        """
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)
        call = _Call(keys, args)
        self._waiting.append(call)
        self._wake.set()
        try:
            call.done.wait(LATEST_SECONDS)
        finally:
            with suppress(ValueError):
                self._waiting.remove(call)
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
                calls, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                answers = self._answers(calls)
                if isinstance(answers[0], OSError | redis.ConnectionError | redis.TimeoutError):
                    # Nobody waits for a Redis that does not answer longer than the first.
                    answers += [answers[0]] * len(self._waiting)
                    calls, self._waiting = calls + self._waiting, []
                for call, answer in zip(calls, answers, strict=True):
                    call.answer = answer
                    call.done.set()

    def _answers(self, calls: Sequence[_Call]) -> list[Any]:
        """What the script returns for each, or how it failed."""
        batch = [(call.keys, call.args) for call in calls]
        try:
            # A socket's time-outs do not bound all of it, such as finding out an address.
            with gevent.Timeout(self._patience, redis.TimeoutError("too slow")):
                return self._script.run_all(batch)
        except Exception as error:  # also one that is none of Redis's: somebody waits for each
            return [error] * len(calls)
