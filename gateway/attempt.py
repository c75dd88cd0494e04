"""One call of a model within a request: what it is billed for, and what became of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from gateway.billing import NO_USAGE, Usage
from gateway.decisions import Choice
from gateway.headers import item_named
from gateway.ledger.entry import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservation import Reservation
from gateway.prices import charge
from gateway.router import Route

PATIENCE_FOR_BILL = 0.25  # seconds that somebody waits for a bill which should be there at once


@dataclass
class Attempt:
    """Times are seconds of the monotonic clock, costs USD. `status` is the provider's, or what stands for it
    where it said none: 502 for a call that broke, 504 for one that took too long, 499 for one that nobody
    waited for any more; None while it runs."""

    route: Route
    reservation: Reservation | None = None
    choice: Choice | None = None  # to be remembered, where it comes to an answer
    is_hedge: bool = False
    started: float = field(default_factory=time.monotonic)
    status: int | None = None
    error: str | None = None  # the code of what went wrong
    seconds: float | None = None  # until the answer was there, or its first piece
    usage: Usage | None = None
    cost: Decimal | None = None
    bill_awaited: bool = False
    bill_unknown: bool = False  # nobody will ever say what it cost
    recorded: bool = False
    upstream_request_id: str | None = None

    def end(self, status: int, error: str | None = None) -> None:
        """Note how it ended; only the first word counts."""
        if self.status is None:
            self.status, self.error = status, error
            self.seconds = time.monotonic() - self.started

    def charge(self, usage: Usage) -> Decimal:
        """What the model's provider will bill for `usage`, in USD. It is worked out once, since a price may
        change with the clock."""
        if self.cost is None or (self.usage is not usage and self.usage != usage):
            self.usage, self.cost = usage, charge(self.route.model.price, usage)
        return self.cost

    def settle(self, ledger: Ledger, usage: Usage, *, answered: bool, failed: bool) -> None:
        """Bill the call that was reserved.

        :raises LedgerUnavailable: when the bill may not have been recorded; the log line says so
        """
        ledger.settle(self._reserved, self._entry(usage, answered=answered, failed=failed))
        self.recorded = True

    def answer_after_all(self, ledger: Ledger) -> None:
        """Count the answer of a call that was settled as one without.

        :raises LedgerUnavailable: see `settle`
        """
        assert self.usage is not None and self.cost is not None  # noqa: S101, PT018 - it was settled
        entry = Entry(
            model=self.route.model.name,
            answered=True,
            failed=False,
            usage=NO_USAGE,
            cost=Decimal(0),
            baseline_cost=self._baseline_cost(self.usage, self.cost),
        )
        ledger.add_answer(self._reserved, entry)

    def settle_by_bill(
        self, ledger: Ledger, usage: Usage, *, answered: bool, failed: bool, patience: float = 0
    ) -> None:
        """The same for a call that broke off: by what its provider says, where that can be asked, else as
        `usage`, which is an estimate. It is waited for for up to `patience` seconds.

        :raises LedgerUnavailable: see `settle`
        """
        if self.route.model.bill_path is None:
            self.settle(ledger, usage, answered=answered, failed=failed)
            return
        entry = self._entry(usage, answered=answered, failed=failed)
        settled = ledger.settle_when_known(self._reserved, entry, patience)
        self.bill_awaited = settled is None
        if settled is not None:
            self.usage, self.cost = settled.usage, settled.cost
        self.recorded = True

    @property
    def most(self) -> Decimal:
        """What it costs at most, as far as is known; that a call is running is known."""
        if self.cost is not None and not self.bill_awaited and not self.bill_unknown:
            return self.cost
        reserved = self.reservation.call.most if self.reservation is not None else Decimal(0)
        return max(self.cost or Decimal(0), reserved)

    @property
    def told(self) -> str:
        """For `X-Gateway-Attempts`: one member of a list of structured fields (RFC 9651)."""
        parts = [item_named(self.route.model.name)]
        if self.status is not None:
            parts.append(f"status={self.status}")
        if self.error is not None:
            parts.append(f"error={self.error}")
        if self.seconds is not None:
            parts.append(f"duration_ms={self.seconds * 1000:.1f}")
        if self.cost is not None and not self.bill_awaited:
            parts.append(f"cost_usd={self.cost:f}")
        return ";".join(parts) + (";hedge" if self.is_hedge else "")

    def log_fields(self) -> dict[str, Any]:
        """For the log; `cost_usd` is None where it is not known yet."""
        fields: dict[str, Any] = {
            "model": self.route.model.name,
            "status": self.status,
            "duration_ms": None if self.seconds is None else round(self.seconds * 1000, 3),
            "cost_usd": None if self.cost is None or self.bill_awaited else f"{self.cost:f}",
        }
        if self.error is not None:
            fields["error"] = self.error
        if self.reservation is not None:
            fields["call"] = self.reservation.call.id
        if self.is_hedge:
            fields["hedge"] = True
        return fields

    @property
    def _reserved(self) -> Reservation:
        assert self.reservation is not None  # noqa: S101 - only what was reserved is billed
        return self.reservation

    def _entry(self, usage: Usage, *, answered: bool, failed: bool) -> Entry:
        cost = self.charge(usage)
        return Entry(
            model=self.route.model.name,
            answered=answered,
            failed=failed,
            usage=usage,
            cost=cost,
            baseline_cost=self._baseline_cost(usage, cost) if answered else Decimal(0),
            decision=self.choice.remembered(cost, usage) if answered and self.choice else None,
        )

    def _baseline_cost(self, usage: Usage, cost: Decimal) -> Decimal:
        if self.route.baseline is self.route.model:
            return cost
        if usage.stated_cost is not None or usage.service_tier is not None:
            usage = replace(usage, stated_cost=None, service_tier=None)
        return charge(self.route.baseline.price, usage)
