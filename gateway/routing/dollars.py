"""A day's spend held at a target: a larger or a smaller share for the dearest model, step by step. Pure.

It goes by the spend alone, whatever the prices: a share that spends too much becomes smaller by as many
times, and the other way round. Since a part of the spend does not depend on the share, such a step never goes
too far; as bills come late, it is damped besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

FIRST_SHARE = 0.1
LEAST_SHARE = 0.001  # from nothing no factor leads up again
STEP_SECONDS = 30.0
MOST_STEP = 4.0
DAMPING = 0.5
# What was not spent on a quiet day is not all spent in its last minutes.
LEAST_HORIZON = 1800.0


@dataclass(frozen=True)
class DaySpend:
    """How a day stands. `began`, `spent_at_step` and `spent` are what all days together had cost when it
    began, when `share` was last changed, `seconds` ago, and now, USD."""

    day: str
    began: Decimal
    share: float
    step: int
    seconds: float
    spent_at_step: Decimal
    spent: Decimal

    @property
    def today(self) -> Decimal:
        """What the day has cost so far, USD."""
        return self.spent - self.began


def share_for(dollars: Decimal, spend: DaySpend) -> float:
    """The share to hold now: none once the day's dollars are spent."""
    return 0.0 if spend.today >= dollars else spend.share


def next_share(dollars: Decimal, spend: DaySpend, now: datetime) -> float | None:
    """The share from now on, for which the rest of the dollars lasts for the rest of the day; None where it
    is not time yet."""
    if spend.seconds < STEP_SECONDS:
        return None
    left, since = dollars - spend.today, spend.spent - spend.spent_at_step
    if left <= 0 or since <= 0:
        return spend.share
    wanted = float(left) / max(LEAST_HORIZON, seconds_left(now))
    factor: float = (wanted * spend.seconds / float(since)) ** DAMPING
    return min(1.0, max(LEAST_SHARE, spend.share * min(MOST_STEP, max(1 / MOST_STEP, factor))))


def seconds_left(now: datetime) -> float:
    """Until the day ends, in UTC."""
    tomorrow = day_of(now) + timedelta(days=1)
    return (tomorrow - now).total_seconds()


def day_of(now: datetime) -> datetime:
    """When the day began, in UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
