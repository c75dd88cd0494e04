"""The ledger: the one place that changes what Redis knows of calls, money and holds.

Its verbs: `reserve` before a call, then `settle` with what it cost or `release` where nothing was spent;
`record` for what was never reserved. How they hold their promises: `docs/ledger.md`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from gateway.errors import LedgerUnavailable
from gateway.ledger.committer import Committer
from gateway.ledger.connection import translating_errors
from gateway.ledger.entry import Entry, tally_of
from gateway.ledger.health import Health
from gateway.ledger.journal import JournalUnwritable
from gateway.ledger.late_bills import LateBills
from gateway.ledger.names import Names
from gateway.ledger.outbox import Outbox
from gateway.ledger.recovery import BillOf, Recovery
from gateway.ledger.reservation import Call, Reservation
from gateway.ledger.reservations import Reservations
from gateway.ledger.tally import Tally
from gateway.ledger.totals import ModelTotals, Totals, TotalsReader
from gateway.routing.decision import name_of

SECONDS_FOR_LATE_BILLS = 1.0  # at a stop
MOST_SECONDS = 2.0  # for a look at Redis that is no model's call

logger = logging.getLogger(__name__)


class Ledger:
    """Counters, budgets and holds of all workers and replicas that share a prefix in one Redis, and this
    worker's way to them. `patience` is how long a request waits for Redis, in seconds."""

    def __init__(
        self,
        client: redis.Redis,
        prefix: str,
        *,
        journal_directory: Path | None = None,
        patience: float = 0.1,
        lease: int = 300,
        wait_for_budget: float = 30.0,
        refuse_without_redis: bool = True,
        decisions_kept: int = 0,
    ) -> None:
        self._names = names = Names(prefix)
        self._directory = journal_directory
        self._decisions_kept = decisions_kept
        self._client = client
        self.health = Health()
        self._outbox = Outbox(client, names, uuid.uuid4().hex)
        self._committer = Committer(self._outbox, self.health, patience)
        self._reservations = Reservations(
            client,
            names,
            self._committer,
            patience=patience,
            lease=lease,
            wait=wait_for_budget,
            refuse_without_redis=refuse_without_redis,
        )
        self._totals = TotalsReader(client, names)
        self._late_bills: LateBills | None = None

    def start(self, bill_of: BillOf) -> None:
        """Keep a journal and holds alive, and take over what dead workers have left, from now on. `bill_of`
        tells what a call of theirs cost."""
        self._open_journal()
        self._committer.start()
        self._reservations.start()
        self._late_bills = LateBills(bill_of, self.settle)
        if self._directory is not None:
            Recovery(self._client, self._names, self._directory, self._committer, bill_of).start()

    def stop(self) -> None:
        """Leave the journal to the next worker, without what needs no repeating."""
        if self._late_bills is not None:
            self._late_bills.finish(SECONDS_FOR_LATE_BILLS)
        self._outbox.note_confirmed()

    def reserve(self, call: Call, *, wait: bool = True, follows: Reservation | None = None) -> Reservation:
        """See `Reservations.reserve`."""
        return self._reservations.reserve(call, wait=wait, follows=follows)

    def settle(self, reservation: Reservation, entry: Entry) -> None:
        """Count what a reserved call has cost, and give back what was held for it. A second time it does
        nothing.

        :raises LedgerUnavailable: when it is neither in Redis nor in the journal; it is tried further
        """
        call = reservation.call
        key_id = call.tenant.key.id if call.tenant.key else None
        tally = tally_of(entry, self._names, key_id, self._decisions_kept)
        for budget in reservation.budgets:
            tally.charge(budget.key, entry.cost, of="spent")
            if budget.kept_until:
                tally.expire(budget.key, budget.kept_until)
        self._end(reservation, tally, entry.usage.input_tokens + entry.usage.output_tokens)

    def add_answer(self, reservation: Reservation, entry: Entry) -> None:
        """Count what there is to count besides of a call that is settled.

        :raises LedgerUnavailable: see `settle`
        """
        key = reservation.call.tenant.key
        self._committer.add(tally_of(entry, self._names, key.id if key else None))

    def settle_when_known(
        self, reservation: Reservation, estimate: Entry, patience: float = 0
    ) -> Entry | None:
        """The same for a call that broke off, once its provider, who can be asked, has told what it costs;
        until then it stays open. That it failed is counted at once. For up to `patience` seconds the bill is
        waited for; what the call was settled by is given back then.

        :raises LedgerUnavailable: see `settle`
        """
        if self._late_bills is None:
            self.settle(reservation, estimate)
            return estimate
        if not reservation.is_over:
            reservation.awaits_bill = True
            if estimate.failed:
                failure = Tally()
                failure.count(self._names.model(estimate.model, "errors"), 1)
                self._committer.add(failure)
            return self._late_bills.expect(reservation, estimate, patience)
        return None

    def release(self, reservation: Reservation) -> None:
        """Give back what was held for a call that cost nothing. Does nothing for one that is over, or whose
        bill is awaited.

        :raises LedgerUnavailable: see `settle`
        """
        if not reservation.awaits_bill:
            self._end(reservation, Tally(), 0)

    def record(self, entry: Entry) -> None:
        """Count a call that nothing was reserved for.

        :raises LedgerUnavailable: see `settle`
        """
        self._committer.add(tally_of(entry, self._names))

    def score_later(self, request_id: str, key_id: str | None, score: float) -> None:
        """Note how good an earlier answer was, in the next round trip to Redis; where that request is not
        known, nobody hears of it."""
        tally = Tally()
        tally.score(self._names, name_of(request_id, key_id), score)
        self._committer.add_later(tally)

    def totals(self, models: Sequence[str]) -> Totals:
        """See `TotalsReader.read`."""
        with self._noticing():
            return self._totals.read(models)

    def model_totals(self, models: Sequence[str]) -> ModelTotals:
        """See `TotalsReader.read_models`."""
        with self._noticing():
            return self._totals.read_models(models)

    def degraded(self) -> list[str]:
        """What is not as it should be, each with its code. While Redis is lost it is not asked again."""
        reasons = []
        if self.health.is_well:
            # Written, since a full Redis answers reads.
            with suppress(LedgerUnavailable), self._noticing(), translating_errors(MOST_SECONDS):
                self._client.incrby(self._names.total("requests"), 0)
        if not self.health.is_well:
            reasons.append("ledger_unavailable: Redis cannot be reached or takes no writes")
        if self._directory is not None and not self._outbox.is_journaling:
            reasons.append("journal_unwritable: the journal takes no records")
        return reasons

    @property
    def backlog_bytes(self) -> int:
        """How much of this worker's journal has to be given to Redis yet."""
        return self._outbox.backlog_bytes

    @property
    def can_serve(self) -> bool:
        """Whether a call without a budget can be made and billed, as far as is known."""
        return self.health.is_well or self._outbox.is_journaling

    def _open_journal(self) -> None:
        if self._directory is None:
            logger.warning("there is no journal: JOURNAL_DIR is not set")
            return
        try:
            self._outbox.keep_journal(self._directory)
        except JournalUnwritable as error:
            cause = type(error.__cause__ or error).__name__
            logger.error("there is no journal: its directory cannot be written", extra={"cause": cause})

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        """Tell the others where Redis cannot be reached; a counter that holds no number is another matter."""
        try:
            yield
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, redis.RedisError | OSError):
                self._committer.suspect(error)
            raise

    def _end(self, reservation: Reservation, tally: Tally, used_tokens: int) -> None:
        if reservation.is_over:
            return
        reservation.is_over = True  # also where it fails: it may have counted all the same
        self._reservations.forget(reservation)
        self._reservations.give_back(reservation, tally, used_tokens)
        self._committer.add(tally, [reservation.call.id])
