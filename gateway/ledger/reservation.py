"""A call of a model as the ledger sees it, before it is made: what it may cost, and what is held for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from gateway.budget import Scope, Window
from gateway.ids import new_id
from gateway.keys.virtual_key import ANYBODY, Tenant
from gateway.ledger.names import Names

KEPT_AFTER_PERIOD = timedelta(days=2)


@dataclass(slots=True)
class Call:
    """What is about to be asked of a model, and for whom. `most` is what it can cost at most, `least` what
    its least useful answer costs, USD; `tokens` is what it is taken to need of a limit of tokens per minute.
    The answer of one that `is_held` is settled before any client gets it.
    """

    model: str
    baseline: str
    prompt_tokens: int
    tenant: Tenant = ANYBODY
    most: Decimal = Decimal(0)
    least: Decimal = Decimal(0)
    tokens: int = 0
    is_held: bool = False
    id: str = field(default_factory=new_id)


@dataclass(slots=True)
class BudgetWindow:
    """One budget in the run of its period that a call falls into, and where Redis has it; `kept_until` is
    when that may forget it, in seconds since 1970, 0 for never."""

    scope: Scope
    window: Window
    key: str
    holds: str
    kept_until: int


@dataclass(slots=True)
class RateState:
    """Of one limit per minute, as its headers tell it: what remains, and the seconds until all of it does."""

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(slots=True)
class Reservation:
    """A call that may be made. `usd` is what is held for it in each of its budgets, as Redis has it, None
    where nothing is; `counted_in` is the second in which its tokens were counted. It is over once it has been
    settled or released."""

    call: Call
    budgets: tuple[BudgetWindow, ...] = ()
    usd: str | None = None
    counted_in: int | None = None
    rates: dict[str, RateState] = field(default_factory=dict)
    is_limited: bool = True  # by the requests and tokens per minute of its key
    is_unsure: bool = False  # Redis may have got it more often than it has said
    is_over: bool = False
    awaits_bill: bool = False

    @property
    def affordable(self) -> Decimal | None:
        """What the call may cost, USD; None for no bound."""
        return None if self.usd is None else Decimal(self.usd)

    @property
    def member(self) -> str:
        """What stands for it among the holds of a budget."""
        return f"{self.call.id}:{self.usd}"

    def record(self) -> dict[str, Any]:
        """What the journal has to know of a call, for whoever has to bill it after our death."""
        key = self.call.tenant.key
        return {
            "model": self.call.model,
            "baseline": self.call.baseline,
            "prompt_tokens": self.call.prompt_tokens,
            "key": key.id if key else None,
            "budgets": [[each.key, each.holds, each.kept_until] for each in self.budgets],
            "at": int(time.time()),
            **({"held": True} if self.call.is_held else {}),
        }


def windows_of(tenant: Tenant, names: Names) -> Iterator[BudgetWindow]:
    """The budgets that apply to a tenant now."""
    now = datetime.now(UTC)
    for scope in tenant.scopes:
        window = scope.budget.window(now)
        yield BudgetWindow(
            scope,
            window,
            names.budget(scope.name, window),
            names.holds(scope.name, window),
            int((window.ends + KEPT_AFTER_PERIOD).timestamp()) if window.ends else 0,
        )
