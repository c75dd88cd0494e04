"""Group commit: what many requests of a worker have to add to the counters travels in one script call.

While Redis is well one greenlet sends all that has come in since its last call; a lone request is sent at
once. While it is not, each request writes to the journal alone and waits for nothing, and the greenlet tries
Redis until it takes the backlog.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import gevent
from gevent.event import Event

from gateway.errors import LedgerUnavailable
from gateway.ledger.health import Health
from gateway.ledger.outbox import Batch, Outbox
from gateway.ledger.tally import Tally, sum_of

TRY_AGAIN_SECONDS = 0.25
LOOK_SECONDS = 2.0  # an idle worker looks whether Redis is there, and has what it had
SYNC_SECONDS = 1.0
TIDY_SECONDS = 1.0
LATEST_SECONDS = 5.0  # the greenlet gives Redis up long before, if it runs at all
UNCOUNTED = "The ledger cannot be reached, so no answer can be billed now."

logger = logging.getLogger(__name__)


class _Group:
    """What the requests add that have come together, and whether it is `safe`: counted, or in the journal.
    They go the same way from then on, so that one event tells all of them that it `is_over`, and another that
    it is their `turn`: when it is over, or has taken its time."""

    __slots__ = ("_timer", "closes", "is_over", "safe", "tallies", "turn")

    def __init__(self) -> None:
        self.tallies: list[Tally] = []
        self.closes: list[str] = []
        self.turn = Event()
        self.is_over = Event()
        self.safe = False
        self._timer: Any = None

    def wait(self, seconds: float) -> bool:
        """Whether it is over within so many seconds of the first wait for it."""
        if self._timer is None:
            self._timer = gevent.get_hub().loop.timer(seconds)
            self._timer.start(self.turn.set)
        self.turn.wait()
        return self.is_over.is_set()

    def end(self) -> None:
        """Let those go who wait."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        self.turn.set()
        self.is_over.set()


class Committer:
    """Adds tallies to the counters through one outbox. `patience` is how long a request waits, in seconds."""

    def __init__(self, outbox: Outbox, health: Health, patience: float) -> None:
        self.outbox = outbox
        self.health = health
        self._patience = patience
        self._pending = _Group()
        self._unsafe: list[_Group] = []  # that only memory has
        self._wake = Event()
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self._synced_to = 0
        self._synced_at = 0.0
        self._tidied_at = 0.0

    def start(self) -> None:
        """Run from now on, in a greenlet of this worker."""
        if self._greenlet is None:
            self._greenlet = gevent.spawn(self._run)

    def add(self, tally: Tally, closes: Sequence[str] = ()) -> None:
        """Count `tally`, and take the calls in `closes` for over. When this returns it is in Redis, or else
        in the journal and will be.

        :raises LedgerUnavailable: where it is in neither; it is still tried as long as the worker lives
        """
        self.start()
        group = self._pending
        group.tallies.append(tally)
        group.closes += closes
        if self.health.is_well:
            self._wake.set()
            if not group.wait(self._patience) and self.outbox.is_journaling:
                # Redis or this worker is late. The journal takes it at once.
                self._write_pending()
                self._wake.set()
        else:
            self._write_pending()
        if group.safe:
            return
        # One that only memory has waits for Redis, for as long as it takes to know that this is lost.
        deadline = time.monotonic() + LATEST_SECONDS
        while not group.safe and self.health.is_well and time.monotonic() < deadline:
            group.is_over.wait(self._patience)
        if not group.safe and not group.is_over.wait(self._patience):
            raise LedgerUnavailable(UNCOUNTED)

    def add_later(self, tally: Tally, closes: Sequence[str] = ()) -> None:
        """The same without waiting for it."""
        self.start()
        self._pending.tallies.append(tally)
        self._pending.closes += closes
        if not self.health.is_well:
            self._write_pending()
        self._wake.set()

    def suspect(self, error: LedgerUnavailable) -> None:
        """Take note that Redis failed somebody, and try it."""
        self.start()
        if self.health.is_well:
            self.health.failed(error)
            self._wake.set()

    def _run(self) -> None:
        try:
            self.outbox.check()  # to know this Redis again, should it lose its memory
        except LedgerUnavailable as error:
            self.health.failed(error)
        while True:
            idle = False
            if self.health.is_well and not self.outbox.has_backlog:
                idle = not self._wake.wait(LOOK_SECONDS)
            elif self.health.is_lost:
                gevent.sleep(TRY_AGAIN_SECONDS)
            self._wake.clear()
            was_well = self.health.is_well
            try:
                if idle:
                    self.outbox.check()
                    self.outbox.note_confirmed()
                    self._tidy()
                else:
                    self._step()
            except LedgerUnavailable as error:
                self._write_pending()
                # What was on its way when another question failed has failed with it, and is no second try.
                if self.health.is_well or not was_well:
                    self.health.failed(error)
            except Exception:
                logger.exception("the ledger's greenlet failed")
                gevent.sleep(TRY_AGAIN_SECONDS)

    def _step(self) -> None:
        """Send what there is."""
        outbox = self.outbox
        if self.health.is_well and not outbox.has_backlog:
            if self._pending.tallies:
                batch, group = self._write()
                try:
                    if outbox.send(batch):
                        group.safe = True
                finally:
                    self._let_go(group)
                self._tidy()
            return
        was_lost = self.health.is_lost
        if was_lost:
            self._sync()
        outbox.check()
        if was_lost and outbox.restore is not None:
            # Before anybody else is served: some may have been about to lapse.
            outbox.restore()
        self._write_pending()
        unsafe, self._unsafe = self._unsafe, []
        try:
            outbox.send_backlog()
            while outbox.finds_redis_changed:
                outbox.send_backlog()
            for group in unsafe:
                group.safe = True
        finally:
            for group in unsafe:
                self._let_go(group)
        # Not once there is nothing left: under load something has always come in meanwhile.
        self.health.worked()
        self._tidy()

    def _tidy(self) -> None:
        """Look after the journal now and then, while all that it has is in Redis."""
        if not self.outbox.has_backlog and time.monotonic() - self._tidied_at > TIDY_SECONDS:
            self._tidied_at = time.monotonic()
            self.outbox.mend_journal()
            self.outbox.shorten()

    def _write_pending(self) -> None:
        """Write what waits to the journal, and let those go who wait for it; where that takes nothing, they
        wait for Redis."""
        if self._pending.tallies:
            _, group = self._write()
            self._let_go(group)

    def _write(self) -> tuple[Batch, _Group]:
        """What waits as a batch, in the journal where that takes it."""
        group, self._pending = self._pending, _Group()
        batch = self.outbox.write(sum_of(group.tallies), group.closes)
        group.safe = batch.end is not None
        return batch, group

    def _let_go(self, group: _Group) -> None:
        """Let those go who wait for what is safe; the others wait for Redis."""
        if group.safe:
            group.end()
        else:
            self._unsafe.append(group)

    def _sync(self) -> None:
        """Have the disk keep the journal while it is the only keeper, as Redis does with its own: once a
        second, without holding up anybody."""
        journal, now = self.outbox.journal, time.monotonic()
        if journal is None or self._synced_to == journal.length or now - self._synced_at < SYNC_SECONDS:
            return
        self._synced_to, self._synced_at = journal.length, now
        gevent.get_hub().threadpool.apply(journal.sync)
