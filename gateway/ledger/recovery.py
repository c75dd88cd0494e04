"""Takes over the journals of workers that have died: what they had to count is counted, once, and the bills
of the calls that they were in are found out."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import gevent
import redis

from gateway.errors import LedgerUnavailable
from gateway.ledger.committer import Committer
from gateway.ledger.entry import Entry, tally_of
from gateway.ledger.journal import Journal, Record, journals_in
from gateway.ledger.names import Names
from gateway.ledger.outbox import Outbox
from gateway.ledger.tally import Tally

LOOK_EVERY_SECONDS = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundBill:
    """What became of a call whose worker died. `entry` is None where it was never made. A bill that is
    `stated` by the provider ends the hold; one that is estimated leaves it until it lapses, since the call
    may have cost more."""

    entry: Entry | None
    stated: bool


class BillOf(Protocol):
    """Finds out what a call cost, by its record in the journal."""

    def __call__(self, call: str, record: Record) -> FoundBill | None:
        """None where that cannot be told yet."""
        ...


class Recovery:
    """Looks after the journals in `directory` that nobody else does."""

    def __init__(
        self, client: redis.Redis, names: Names, directory: Path, committer: Committer, bill_of: BillOf
    ) -> None:
        self._redis = client
        self._names = names
        self._directory = directory
        self._committer = committer
        self._bill_of = bill_of
        self._adopted: dict[str, Outbox] = {}

    def start(self) -> None:
        """Look from now on, in a greenlet of this worker."""
        gevent.spawn(self._run)

    def look(self) -> None:
        """Adopt what is abandoned, and get on with what is adopted.

        :raises LedgerUnavailable:
        """
        own = self._committer.outbox.journal
        for path in journals_in(self._directory):
            if path.name in self._adopted or (own is not None and path == own.path):
                continue
            if (journal := Journal.adopt(path)) is not None:
                try:
                    self._adopted[path.name] = Outbox.adopt(self._redis, self._names, journal)
                except Exception:
                    journal.close()
                    raise
        for name, outbox in list(self._adopted.items()):
            try:
                if self._finish(outbox):
                    del self._adopted[name]
            except LedgerUnavailable:
                raise
            except Exception:
                logger.exception("the journal of a dead worker cannot be finished; others go on")

    def _run(self) -> None:
        while True:
            if self._committer.health.is_well:
                try:
                    self.look()
                except LedgerUnavailable as error:
                    self._committer.suspect(error)
                except Exception:
                    logger.exception("taking over the journals of dead workers failed")
            gevent.sleep(LOOK_EVERY_SECONDS)

    def _finish(self, outbox: Outbox) -> bool:
        """Count what can be counted. Whether that was all."""
        if outbox.has_backlog:
            outbox.send_backlog()
        for call, record in list(outbox.open_calls.items()):
            if (bill := self._bill_of(call, record)) is not None:
                outbox.write(self._tally(call, record, bill), [call])
                outbox.send_backlog()
                logger.warning(
                    "the bill of a call whose worker died was found",
                    extra={
                        "call": call,
                        "model": record["model"],
                        "cost_usd": f"{bill.entry.cost:f}" if bill.entry else "0",
                        "stated": bill.stated,
                    },
                )
        if outbox.open_calls or not outbox.is_settled():
            return False
        outbox.finish()
        return True

    def _tally(self, call: str, record: Record, bill: FoundBill) -> Tally:
        tally = Tally()
        if bill.entry is not None:
            tally = tally_of(bill.entry, self._names, record["key"])
        for budget, holds, kept_until in record["budgets"]:
            if bill.stated:
                # Marked as given up too, should Redis get the reservation only now.
                tally.drop(holds, budget, call)
                tally.void(self._names.void(call), 3600)
            if bill.entry is not None:
                tally.charge(budget, bill.entry.cost, of="spent")
            if kept_until:
                tally.expire(budget, kept_until)
        return tally
