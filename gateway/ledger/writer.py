"""One writer as Redis knows it: by the number of the last of its batches that has been added."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import orjson
import redis

from gateway.ids import new_id
from gateway.ledger.connection import translating_errors
from gateway.ledger.names import Names
from gateway.ledger.scripts import Script
from gateway.ledger.tally import Tally

REMEMBERED_SECONDS = 400 * 24 * 3600  # no journal is that old

# No request waits that long; this bounds what no time-out of a socket does, such as finding out an address.
MOST_SECONDS = 2.0
LATE_SECONDS = 0.01

logger = logging.getLogger(__name__)


class Writer:
    """Adds batches to the counters by `lua/commit.lua`. `memory` is the name of the memory of the Redis that
    was met last, empty before; `has_new_memory` says that it was another one before, until somebody clears
    it."""

    def __init__(self, client: redis.Redis, names: Names, name: str) -> None:
        self.memory = ""
        self.has_new_memory = False
        self._redis = client
        self._keys = [names.writer(name), names.memory]
        self._patience: float = client.get_connection_kwargs().get("socket_timeout") or MOST_SECONDS
        self._commit = Script(client, "commit")
        self._complained: set[str] = set()

    def add(self, first: int, last: int, tally: Tally, *, regardless: bool = False) -> tuple[str, int]:
        """Add the batches from `first` to `last`, `tally` being their sum. The script's outcome, and the
        number of the last batch that has been added.

        :raises LedgerUnavailable: when they may not have been added
        """
        keys, acts = tally.script_input()
        return self._run(first, last, keys, orjson.dumps(acts).decode(), "regardless" if regardless else "")

    def look(self, confirmed: int, *, regardless: bool = False) -> tuple[str, int]:
        """The same without adding anything; Redis has to write all the same.

        :raises LedgerUnavailable:
        """
        return self._run(confirmed + 1, confirmed, [], "", "regardless" if regardless else "")

    def forget(self) -> None:
        """Have Redis forget the number.

        :raises LedgerUnavailable:
        """
        with translating_errors():
            self._redis.delete(self._keys[0])

    def _run(self, first: int, last: int, keys: list[str], acts: str, how: str) -> tuple[str, int]:
        args: list[str | int | float] = [
            first,
            last,
            REMEMBERED_SECONDS,
            acts,
            self.memory,
            new_id(),
            how,
        ]
        with translating_errors(MOST_SECONDS):
            answer = self._answer([*self._keys, *keys], args)
        outcome, added, memory, *refused = answer
        if self.memory not in ("", memory):
            logger.warning("Redis is empty, or another one than before: what it counted is gone")
            self.has_new_memory = True
        self.memory = memory
        self._complain(refused)
        return outcome, added

    def _answer(self, keys: list[str], args: list[str | int | float]) -> list[Any]:
        """What the script returns. A time-out that comes too late itself tells of this worker's loop and not
        of Redis, whose answer may have been there; the script does not mind being run again."""
        while True:
            started = time.monotonic()
            try:
                answer: list[Any] = self._commit(keys, args)
            except redis.TimeoutError:
                if time.monotonic() - started < self._patience + LATE_SECONDS:
                    raise
            else:
                return answer

    def _complain(self, refused: Sequence[str]) -> None:
        """Say once of each counter that what was added to it is lost: it holds no number."""
        for act in refused:
            if act not in self._complained:
                self._complained.add(act)
                logger.error("a counter takes no increments: %s", act)
