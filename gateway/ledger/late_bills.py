"""Bills of calls whose clients have left: what they cost is asked of the provider, where it can be asked,
instead of being estimated at once."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import gevent

from gateway.billing import NO_USAGE
from gateway.errors import LedgerUnavailable
from gateway.ledger.entry import Entry
from gateway.ledger.recovery import BillOf
from gateway.ledger.reservation import Reservation

FIRST_LOOK_SECONDS = 0.05
LOOK_EVERY_SECONDS = 0.25
MOST_AWAITED = 5000  # a provider that tells nothing for long must not fill the memory

logger = logging.getLogger(__name__)


class LateBills:
    """The calls of one worker whose bills it waits for. What they hold stays held meanwhile; should the
    worker die, they are open in its journal."""

    def __init__(self, bill_of: BillOf, settle: Callable[[Reservation, Entry], None]) -> None:
        self._bill_of = bill_of
        self._settle = settle
        self._awaited: defaultdict[str, list[tuple[Reservation, Entry]]] = defaultdict(list)  # by model
        self._looking: set[str] = set()

    def expect(self, reservation: Reservation, estimate: Entry, patience: float) -> Entry | None:
        """Settle a call, whose failure has been counted, once its bill is known, or by `estimate` where it
        cannot be found out. The first look is waited for, for `patience` seconds at most, 0 for not at all;
        what it was settled by is given back then.

        :raises LedgerUnavailable: see `Ledger.settle`; only where too many bills are awaited already
        """
        model, bills = reservation.call.model, self._awaited[reservation.call.model]
        if len(bills) >= MOST_AWAITED:
            self._settle(reservation, replace(estimate, failed=False))
            return estimate
        awaited = (reservation, estimate)
        bills.append(awaited)  # first of all, whatever strikes while it is waited for
        try:
            if patience > 0:
                with gevent.Timeout(patience, False):  # type: ignore[arg-type]
                    return self._settled_of(awaited)
        finally:
            if bills and model not in self._looking:
                self._looking.add(model)
                gevent.spawn_later(FIRST_LOOK_SECONDS, self._run, model)
        return None

    def finish(self, seconds: float) -> None:
        """Wait for so long for what is awaited. The rest stays open in the journal."""
        deadline = time.monotonic() + seconds
        while any(self._awaited.values()) and time.monotonic() < deadline:
            gevent.sleep(FIRST_LOOK_SECONDS)

    def _run(self, model: str) -> None:
        # Each model has a greenlet: one whose provider hangs must not keep the bills of others waiting.
        try:
            while self._awaited[model]:
                for awaited in list(self._awaited[model]):
                    self._settled_of(awaited)
                if self._awaited[model]:
                    gevent.sleep(LOOK_EVERY_SECONDS)
        finally:
            self._looking.discard(model)
            if not self._awaited[model]:
                del self._awaited[model]

    def _settled_of(self, awaited: tuple[Reservation, Entry]) -> Entry | None:
        """What the call has been settled by, or None while its bill is not known."""
        reservation, estimate = awaited
        try:
            entry = self._found(reservation, estimate)
        except Exception:
            logger.exception("the bill of a call cannot be found; it is estimated")
            entry = estimate
        if entry is not None:
            with suppress(LedgerUnavailable):  # what was settled is tried further where it waits
                self._settle(reservation, replace(entry, failed=False, decision=estimate.decision))
            with suppress(ValueError):  # two may have looked at once
                self._awaited[reservation.call.model].remove(awaited)
        return entry

    def _found(self, reservation: Reservation, estimate: Entry) -> Entry | None:
        bill = self._bill_of(reservation.call.id, {**reservation.record(), "reserving": False})
        if bill is None:
            return None
        if not bill.stated:
            return estimate
        if bill.entry is None:
            return replace(
                estimate, answered=False, usage=NO_USAGE, cost=Decimal(0), baseline_cost=Decimal(0)
            )
        return _as_noticed(bill.entry, estimate)


def _as_noticed(bill: Entry, estimate: Entry) -> Entry:
    """The bill of a call of which we know better whether it was an answer, where it failed."""
    if estimate.failed and not estimate.answered:
        return replace(bill, answered=False, baseline_cost=Decimal(0))
    return bill
