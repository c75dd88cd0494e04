"""Many requests' calls of one script in one round trip, over one connection: as many as have come together
while the last round trip took its time. A lone one is sent at once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import Event

from gateway.errors import LedgerUnavailable
from gateway.ledger.scripts import Script

AT_ONCE = 128
# The share of a request's patience that it keeps for a loop that was late itself.
GRACE = 0.2


@dataclass
class _Call:
    keys: Sequence[str]
    args: Sequence[str | int | float]
    done: Event = field(default_factory=Event)
    answer: Any = None


class ScriptGroup:
    """`patience` is how long a call waits, in seconds."""

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
        if not call.done.wait(self._patience * (1 - GRACE)) and not call.done.wait(self._patience * GRACE):
            with suppress(ValueError):
                self._waiting.remove(call)
            raise LedgerUnavailable("The ledger takes too long.")
        if isinstance(call.answer, Exception):
            raise LedgerUnavailable("The ledger cannot be reached now.") from call.answer
        return call.answer

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._waiting:
                calls, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                try:
                    answers = self._script.run_all([(call.keys, call.args) for call in calls])
                except Exception as error:  # also one that is none of Redis's: somebody waits for each
                    answers = [error] * len(calls)
                for call, answer in zip(calls, answers, strict=True):
                    call.answer = answer
                    call.done.set()
