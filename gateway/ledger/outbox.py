"""What one writer has to add to the counters: numbered batches, first in its journal, then in Redis.

Redis keeps the number of the last batch that it has added for each writer (`lua/commit.lua`), so that a batch
whose answer never came is sent again and counts once. That number is forgotten when the journal is gone, at
the latest `REMEMBERED_SECONDS` after the last batch: about 120 bytes of Redis per worker that died lately.

Records of the journal: `{"open": CALL, ...}` before a call is made, `{"closed": CALL}` where it is not made
after all, `{"batch": NUMBER, "tally": ..., "closes": [CALL, ...]}` when it is over. A call that is open in
the journal of a dead worker is one whose bill nobody has written: `recovery.py`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from gateway.ledger.connection import translating_errors
from gateway.ledger.journal import Journal, JournalUnwritable, Record
from gateway.ledger.names import Names
from gateway.ledger.scripts import Script
from gateway.ledger.tally import Tally, sum_of

REMEMBERED_SECONDS = 30 * 24 * 3600
MOST_BATCHES_AT_ONCE = 256
COMPACT_BYTES = 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """`end` is the offset behind it in the journal, None where only memory has it."""

    number: int
    tally: Tally
    end: int | None


class Outbox:
    """The batches of one writer on their way. `open_calls` are the records of calls that are not over, by
    their ids. Without a journal it works as long as Redis does."""

    def __init__(self, client: redis.Redis, names: Names, writer: str, journal: Journal | None) -> None:
        self.journal = journal
        self.is_journaling = journal is not None  # as far as is known
        self.open_calls: dict[str, Record] = {}
        self._redis = client
        self._key = names.writer(writer)
        self._commit = Script(client, "commit")
        self._last_number = 0
        self._confirmed_number = 0
        self._sent_to = 0  # the offset in the journal up to which all batches are in Redis
        self._in_memory: list[Batch] = []
        self._complained: set[str] = set()

    @classmethod
    def adopt(cls, client: redis.Redis, names: Names, journal: Journal) -> Outbox:
        """That of a dead worker, as its journal tells."""
        outbox = cls(client, names, journal.name, journal)
        for _, record in journal.records():
            if "open" in record:
                outbox.open_calls[record["open"]] = record
            elif "closed" in record:
                outbox.open_calls.pop(record["closed"], None)
            else:
                outbox._last_number = record["batch"]
                for call in record["closes"]:
                    outbox.open_calls.pop(call, None)
        return outbox

    @property
    def has_backlog(self) -> bool:
        """Whether there may be a batch that Redis has not confirmed."""
        return self._confirmed_number < self._last_number

    def open_call(self, call: str, record: Record) -> None:
        """Note that a call is about to be made.

        :raises JournalUnwritable:
        """
        record = {"open": call, **record}
        self.open_calls[call] = record
        self._append(record)

    def close_call(self, call: str) -> None:
        """Note that a call is not made after all, without anything to add."""
        self.open_calls.pop(call, None)
        with suppress(JournalUnwritable):
            self._append({"closed": call})

    def write(self, tally: Tally, closes: Sequence[str]) -> Batch:
        """A new batch, in the journal where it can be written, and the calls that are over by it."""
        self._last_number += 1
        for call in closes:
            self.open_calls.pop(call, None)
        end = None
        with suppress(JournalUnwritable):
            end = self._append(self._numbered(tally, closes))
        batch = Batch(self._last_number, tally, end)
        if end is None:
            self._in_memory.append(batch)
        return batch

    def send(self, batch: Batch) -> None:
        """Give Redis the one batch that it lacks.

        :raises LedgerUnavailable: when it may not have been added; `send_backlog` tries again
        """
        self._send([batch])

    def send_backlog(self) -> None:
        """Give Redis all that it lacks, in order.

        :raises LedgerUnavailable: when a part may not have been added; call it again
        """
        some: list[Batch] = []
        for batch in self._backlog():
            some.append(batch)
            if len(some) == MOST_BATCHES_AT_ONCE:
                self._send(some)
                some = []
        self._send(some)

    def check(self) -> None:
        """Have Redis write something that changes nothing.

        :raises LedgerUnavailable: where it does not
        """
        with translating_errors():
            self._commit([self._key], [0, 0, REMEMBERED_SECONDS, "[]"])

    def forget_sent(self) -> None:
        """Shorten the journal, once it is long and all of its batches are in Redis."""
        if self.journal is None or self.journal.length < COMPACT_BYTES or self.has_backlog:
            return
        try:
            self.journal.replace([self._numbered(Tally(), ()), *self.open_calls.values()])
        except JournalUnwritable:
            return  # it serves as it is
        self._sent_to = self.journal.length

    def finish(self) -> None:
        """Remove the journal, of which nothing is left to do."""
        if self.journal is not None:
            self.journal.remove()
        # Not before: a journal without this number would be added anew.
        with translating_errors():
            self._redis.delete(self._key)

    def _numbered(self, tally: Tally, closes: Sequence[str]) -> Record:
        return {"batch": self._last_number, "tally": tally.to_json(), "closes": list(closes)}

    def _append(self, record: Record) -> int:
        """The offset behind the record in the journal. Whether that takes any is logged when it changes.

        :raises JournalUnwritable:
        """
        try:
            if self.journal is None:
                raise JournalUnwritable
            self.journal.append(record)
        except JournalUnwritable as error:
            if self.is_journaling:
                self.is_journaling = False
                cause = type(error.__cause__ or error).__name__
                logger.error("the journal takes no records; Redis alone keeps them", extra={"cause": cause})
            raise
        if not self.is_journaling:
            self.is_journaling = True
            logger.warning("the journal takes records again")
        return self.journal.length

    def _backlog(self) -> Iterator[Batch]:
        in_memory = list(self._in_memory)
        records = self.journal.records(self._sent_to) if self.journal is not None else iter(())
        for end, record in records:
            if "batch" not in record:
                continue
            while in_memory and in_memory[0].number < record["batch"]:
                yield in_memory.pop(0)
            yield Batch(record["batch"], Tally.from_json(record["tally"]), end)
        yield from in_memory

    def _send(self, batches: list[Batch]) -> None:
        while batches:
            keys, acts = sum_of([batch.tally for batch in batches]).script_input()
            numbers = [batches[0].number, batches[-1].number]
            with translating_errors():
                answer: list[Any] = self._commit(
                    [self._key, *keys], [*numbers, REMEMBERED_SECONDS, json.dumps(acts)]
                )
            outcome, added, *refused = answer
            self._complain(refused)
            if outcome != "overlap":
                self._note_sent(batches)
                return
            self._note_sent([batch for batch in batches if batch.number <= added])
            batches = [batch for batch in batches if batch.number > added]

    def _note_sent(self, batches: Sequence[Batch]) -> None:
        if not batches:
            return
        last = batches[-1].number
        self._in_memory = [batch for batch in self._in_memory if batch.number > last]
        self._sent_to = max([self._sent_to, *(batch.end for batch in batches if batch.end is not None)])
        self._confirmed_number = last

    def _complain(self, refused: Sequence[str]) -> None:
        """Say once of each counter that what was added to it is lost: it holds no number."""
        for act in refused:
            if act not in self._complained:
                self._complained.add(act)
                logger.error("a counter takes no increments: %s", act)
