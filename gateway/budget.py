"""Budgets: so many USD in a period, for a key, for its owner or for the whole gateway. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

MOST_BUDGET_USD = Decimal(10**9)


class Period(StrEnum):
    """How long a budget lasts before it begins anew, in UTC; a week begins on Monday."""

    TOTAL = "total"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class OnBudget(StrEnum):
    """What happens to a request that the budget does not wholly afford: its answer may become shorter, or
    the cheapest model answers it first."""

    CLAMP = "clamp"
    DOWNGRADE = "downgrade"


@dataclass(frozen=True)
class Window:
    """One run of a period. `label` names it, such as `2026-11`; `ends` is None for a total."""

    label: str
    ends: datetime | None


@dataclass(frozen=True)
class Budget:
    """At most `usd` in each `period`."""

    usd: Decimal
    period: Period = Period.TOTAL

    def window(self, now: datetime) -> Window:
        """The run of the period that `now` is in."""
        if self.period is Period.TOTAL:
            return Window("total", None)
        day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        match self.period:
            case Period.DAY:
                return Window(f"{day:%Y-%m-%d}", day + timedelta(days=1))
            case Period.WEEK:
                monday = day - timedelta(days=day.weekday())
                return Window(f"{monday:%G-W%V}", monday + timedelta(days=7))
            case Period.MONTH:
                first = day.replace(day=1)
                return Window(f"{first:%Y-%m}", (first + timedelta(days=32)).replace(day=1))


@dataclass(frozen=True)
class Scope:
    """What a budget is for: `name` is `gateway`, `owner:NAME` or `key:ID`."""

    name: str
    budget: Budget
