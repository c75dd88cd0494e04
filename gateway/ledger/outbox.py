"""What one writer has to add to the counters: numbered batches, first in its journal, then in Redis.

Redis keeps the number of the last batch that it has added for each writer (`lua/commit.lua`), so that a batch
whose answer never came is sent again and counts once. A Redis that died can come back without the last second
or two of its memory; it then names an earlier batch, and gets what it has lost from the journal, which keeps
batches for `KEPT_SECONDS` after they were added. The number is forgotten when the journal is gone, or after
`REMEMBERED_SECONDS` where that never came back: some 120 bytes of Redis per worker.

Records of the journal, one line each:

- `{"open": CALL, "reserving": BOOL, ...}` before a call is made, `{"asked": CALL}` once what it may cost is
  held, `{"closed": CALL}` where it is not made after all;
- `{"batch": NUMBER, "confirmed": NUMBER, "tally": ..., "closes": [CALL, ...]}` when calls are over;
- `{"after": NUMBER}` when Redis has confirmed that one. Where this comes first, the batches before are no
  longer here.

A call that is open in the journal of a dead worker is one whose bill nobody has written: `recovery.py`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import gevent
import redis

from gateway.ledger.journal import Journal, JournalUnwritable
from gateway.ledger.names import Names
from gateway.ledger.notebook import Notebook
from gateway.ledger.tally import Tally, sum_of
from gateway.ledger.writer import Writer

KEPT_SECONDS = 10.0  # Redis may put off writing to its file for two, and its disk may take one more
MOST_BATCHES_AT_ONCE = 256
READ_AT_ONCE = 500
SHORTEN_BYTES = 2**20

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Batch:
    """`end` is the offset behind it in the journal, None where only memory has it."""

    number: int
    tally: Tally
    end: int | None


@dataclass(frozen=True)
class _Mark:
    """That at `time` all batches up to `number`, which end at `offset` in the journal, were in Redis."""

    time: float
    number: int
    offset: int


class Outbox(Notebook):
    """The batches of one writer on their way. `restore` is called where Redis has lost a part of its memory,
    before it gets back what was in it. Without a journal it works as long as Redis does."""

    def __init__(self, client: redis.Redis, names: Names, name: str, journal: Journal | None = None) -> None:
        super().__init__(name, journal)
        self.restore: Callable[[], None] | None = None
        self._writer = Writer(client, names, name)
        self._last_number = 0
        self._confirmed_number = 0
        self._noted_number = 0
        self._sent_to = 0  # the offset in the journal before which nothing has to be sent
        self._in_memory: list[Batch] = []
        self._marks: deque[_Mark] = deque()
        self._has_lost = False
        self._regardless = False

    @classmethod
    def adopt(cls, client: redis.Redis, names: Names, journal: Journal) -> Outbox:
        """That of a dead worker, as its journal tells."""
        outbox = cls(client, names, journal.name, journal)
        for count, (_, record) in enumerate(journal.records()):
            if count % READ_AT_ONCE == 0:
                gevent.sleep(0)  # a long one must not hold up the requests of this worker
            if "open" in record:
                outbox.open_calls[record["open"]] = record
            elif "closed" in record:
                outbox.open_calls.pop(record["closed"], None)
            elif "asked" in record:
                outbox.open_calls.get(record["asked"], {})["reserving"] = False
            elif "after" in record:
                outbox._confirmed_number = outbox._last_number = record["after"]
            else:
                outbox._last_number, outbox._writer.memory = record["batch"], record["memory"]
                outbox._confirmed_number = record["confirmed"]
                for call in record["closes"]:
                    outbox.open_calls.pop(call, None)
        return outbox

    @property
    def has_backlog(self) -> bool:
        """Whether there may be something that Redis lacks."""
        return self.finds_redis_changed or self._confirmed_number < self._last_number

    @property
    def finds_redis_changed(self) -> bool:
        """Whether Redis has turned out to have lost a part of its memory, and has not got it again yet."""
        return self._has_lost or self._writer.has_new_memory

    @property
    def backlog_bytes(self) -> int:
        """How much of the journal may have to be given to Redis yet."""
        return self.journal.length - self._sent_to if self.journal is not None and self.has_backlog else 0

    def write(self, tally: Tally, closes: Sequence[str]) -> Batch:
        """A new batch, in the journal where it can be written, and the calls that are over by it."""
        self._last_number += 1
        for call in closes:
            self.open_calls.pop(call, None)
        end = None
        with suppress(JournalUnwritable):
            record = {
                "batch": self._last_number,
                "confirmed": self._confirmed_number,
                "memory": self._writer.memory,
            }
            end = self.append({**record, "closes": list(closes), "tally": tally.to_json()})
        batch = Batch(self._last_number, tally, end)
        if end is None:
            self._in_memory.append(batch)
        return batch

    def send(self, batch: Batch) -> bool:
        """Give Redis the one batch that it lacks. Whether that was all that it lacks.

        :raises LedgerUnavailable: when it may not have been added; `send_backlog` tries again
        """
        return self._send([batch])

    def send_backlog(self) -> None:
        """Give Redis all that it lacks, in order.

        :raises LedgerUnavailable: when a part may not have been added; call it again
        """
        if self.finds_redis_changed and self.restore is not None:
            self.restore()
        self._has_lost = self._writer.has_new_memory = False
        some: list[Batch] = []
        for batch in self._backlog():
            some.append(batch)
            if len(some) == MOST_BATCHES_AT_ONCE:
                if not self._send(some):
                    return
                some = []
        if some:
            self._send(some)

    def check(self) -> None:
        """Have Redis write something that changes nothing, and find out what it has lost, if it has.

        :raises LedgerUnavailable: where it takes no writes
        """
        confirmed = self._confirmed_number
        outcome, added = self._writer.look(confirmed, regardless=self._regardless)
        self._regardless = False
        if outcome == "lost":
            self._take_back(added)

    def note_confirmed(self) -> None:
        """Have the journal say that Redis has all of it, once, for whoever may adopt it: another Redis, or an
        emptied one, must not be given that again."""
        if not self.has_backlog and self._noted_number < self._confirmed_number:
            self._noted_number = self._confirmed_number
            with suppress(JournalUnwritable):
                self.append({"after": self._confirmed_number})

    def mend_journal(self) -> None:
        """Begin the journal again where it is not there, while Redis has all that was in it."""
        if self.has_lost_its_journal and not self.has_backlog:
            with suppress(JournalUnwritable):
                self.begin_again({"after": self._confirmed_number})
                self._sent_to = self.journal.length if self.journal else 0
                self._marks.clear()

    def shorten(self) -> None:
        """Forget what Redis has had for long enough, once that is much."""
        if self.journal is None or self.has_backlog:
            return
        now = time.monotonic()
        if not self._marks or now - self._marks[-1].time > KEPT_SECONDS / 10:
            self._marks.append(_Mark(now, self._confirmed_number, self.journal.length))
        while len(self._marks) > 1 and now - self._marks[1].time > KEPT_SECONDS:
            self._marks.popleft()
        mark = self._marks[0]
        kept = self.journal.length - mark.offset
        if now - mark.time < KEPT_SECONDS or mark.offset < max(SHORTEN_BYTES, kept):
            return
        try:
            self.journal.shorten([{"after": mark.number}, *self.open_calls.values()], mark.offset)
        except JournalUnwritable:
            return  # it serves as it is
        self._sent_to = self.journal.length
        self._marks.clear()

    def is_settled(self) -> bool:
        """Whether Redis has had everything for long enough not to lose it any more.

        :raises LedgerUnavailable:
        """
        if self.has_backlog:
            return False
        if self._last_number and not self._marks:
            self._marks.append(_Mark(time.monotonic(), self._last_number, 0))
        if self._last_number and time.monotonic() - self._marks[0].time < KEPT_SECONDS:
            return False
        self.check()
        return not self.has_backlog

    def finish(self) -> None:
        """Remove the journal, of which nothing is left to do.

        :raises LedgerUnavailable: where the writer's number stays behind in Redis, until it is forgotten
        """
        journal, self.journal = self.journal, None
        if journal is not None:
            journal.remove()
        # Not before: a journal without this number would be added anew.
        self._writer.forget()

    def _backlog(self) -> Iterator[Batch]:
        in_memory = list(self._in_memory)
        records = self.journal.records(self._sent_to) if self.journal is not None else iter(())
        for end, record in records:
            if record.get("batch", 0) <= self._confirmed_number:
                continue
            while in_memory and in_memory[0].number < record["batch"]:
                yield in_memory.pop(0)
            yield Batch(record["batch"], Tally.from_json(record["tally"]), end)
        yield from in_memory

    def _send(self, batches: list[Batch]) -> bool:
        """Whether they are in Redis now; else it has lost earlier ones, and the backlog has grown."""
        while True:
            tally, last = sum_of([batch.tally for batch in batches]), batches[-1].number
            first = self._confirmed_number + 1
            outcome, added = self._writer.add(first, last, tally, regardless=self._regardless)
            self._regardless = False
            if outcome == "lost":
                self._take_back(added)
                return False
            if outcome != "overlap":
                self._note_sent(batches)
                return True
            self._confirmed_number = added
            batches = [batch for batch in batches if batch.number > added]

    def _take_back(self, added: int) -> None:
        """Redis has no more than that of what it had confirmed. What the journal has of the rest is the
        backlog now."""
        oldest = 1
        if self.journal is None:
            oldest = self._last_number + 1
        else:
            _, record = next(self.journal.records(), (0, {}))
            oldest = record.get("after", 0) + 1
        gone = max(0, oldest - added - 1)
        logger.warning(
            "Redis has come back without the last of its memory, and gets it again",
            extra={"batches": self._confirmed_number - added, "gone_for_good": gone},
        )
        self._regardless = gone > 0
        self._confirmed_number = max(added, min(oldest - 1, self._confirmed_number))
        self._sent_to, self._has_lost = 0, True
        self._marks.clear()

    def _note_sent(self, batches: Sequence[Batch]) -> None:
        last = batches[-1].number
        self._in_memory = [batch for batch in self._in_memory if batch.number > last]
        self._sent_to = max([self._sent_to, *(batch.end for batch in batches if batch.end is not None)])
        self._confirmed_number = last
