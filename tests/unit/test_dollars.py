"""A day's spend is held at its target by the share, whatever prices, traffic and the delay of bills."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from gateway.routing.dollars import (
    FIRST_SHARE,
    LEAST_SHARE,
    MOST_STEP,
    STEP_SECONDS,
    DaySpend,
    next_share,
    seconds_left,
    share_for,
)

MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
DAY_SECONDS = 86400
NOON = MIDNIGHT + timedelta(hours=12)
FRESH = DaySpend("2026-11-24", Decimal(0), FIRST_SHARE, 0, STEP_SECONDS, Decimal(0), Decimal(0))


@dataclass
class Days:
    """Days of traffic: `rate` gives requests per second at a second, of which the cheap model takes `cheap`
    USD and the dearest `dear`; bills are `late` by so many steps."""

    dollars: Decimal
    rate: Callable[[float], float]
    cheap: float = 0.0002
    dear: float = 0.004
    late: int = 0

    def spends(self, days: int) -> list[float]:
        """What each day costs, USD; its shares are in `shares`."""
        drawn, spend = random.Random(0), FRESH
        underway: deque[Decimal] = deque([Decimal(0)] * self.late)
        self.shares: list[float] = []
        found = []
        for day in range(days):
            spend = replace(spend, began=spend.spent)
            for step in range(int(DAY_SECONDS / STEP_SECONDS)):
                second = step * STEP_SECONDS
                share = share_for(self.dollars, spend)
                self.shares.append(share)
                requests = max(0.0, drawn.gauss(1, 0.1)) * self.rate(second) * STEP_SECONDS
                underway.append(Decimal(requests * (share * self.dear + (1 - share) * self.cheap)))
                before = spend
                spend = replace(before, spent=before.spent + underway.popleft(), seconds=STEP_SECONDS)
                now = MIDNIGHT + timedelta(days=day, seconds=second)
                found_share = next_share(self.dollars, spend, now)
                assert found_share is not None
                spend = replace(spend, share=found_share, step=spend.step + 1, spent_at_step=spend.spent)
            found.append(float(spend.today))
        return found


def steady(second: float) -> float:
    return 2.0


def by_day(second: float) -> float:
    """Ten times as much at noon as at night."""
    return 1.1 - math.cos(2 * math.pi * second / DAY_SECONDS)


def all_in_the_afternoon(second: float) -> float:
    return 6.0 if 12 * 3600 <= second < 18 * 3600 else 0.0


@pytest.mark.parametrize("late", [0, 2])
def test_a_day_costs_what_it_should(late: int) -> None:
    for spend in Days(Decimal(150), steady, late=late).spends(3):
        assert spend == pytest.approx(150, rel=0.05)


@pytest.mark.parametrize("late", [0, 2])
def test_a_day_whose_night_is_too_quiet_to_spend_its_part_costs_no_more_and_little_less(late: int) -> None:
    for spend in Days(Decimal(150), by_day, late=late).spends(3):
        assert 135 <= spend <= 151


def test_a_day_whose_traffic_comes_late_costs_no_more_than_it_should() -> None:
    spends = Days(Decimal(100), all_in_the_afternoon).spends(2)
    assert all(50 <= spend <= 101 for spend in spends)


def test_a_target_above_what_the_dearest_model_costs_leaves_all_to_it() -> None:
    days = Days(Decimal(10_000), steady)
    days.spends(1)
    assert days.shares[-1] == 1


def test_below_what_the_cheap_model_costs_the_rest_of_the_day_is_cheap_and_served() -> None:
    days = Days(Decimal(20), steady)
    (spend,) = days.spends(1)
    assert days.shares[-1] == 0
    assert spend > 20


def test_after_its_prices_change_a_day_still_costs_what_it_should() -> None:
    days = Days(Decimal(150), steady)
    days.spends(1)
    days.dear *= 3
    assert days.spends(1)[0] == pytest.approx(150, rel=0.05)


def test_the_share_settles_without_swinging() -> None:
    days = Days(Decimal(150), steady)
    days.spends(1)
    settled = days.shares[40:2000]
    assert max(settled) < 2 * min(settled)


@pytest.mark.parametrize(
    ("spend", "share"),
    [
        (replace(FRESH, seconds=STEP_SECONDS - 1, spent=Decimal(5)), None),
        (FRESH, FIRST_SHARE),  # nothing was spent: nothing is learnt
        (replace(FRESH, spent=Decimal(31), share=0.3), 0.3),  # for tomorrow
        (replace(FRESH, spent=Decimal("0.00001")), FIRST_SHARE * MOST_STEP),
        (replace(FRESH, spent=Decimal(29)), FIRST_SHARE / MOST_STEP),
        (replace(FRESH, spent=Decimal(29), share=0.0), LEAST_SHARE / MOST_STEP),
    ],
)
def test_a_step_has_its_time_and_its_bounds(spend: DaySpend, share: float | None) -> None:
    found = next_share(Decimal(30), spend, NOON)
    assert found == (share if share is None else pytest.approx(max(share, LEAST_SHARE)))


@pytest.mark.parametrize("spent", [Decimal(30), Decimal("30.000000000001"), Decimal(100)])
def test_nothing_is_left_for_the_dearest_model_once_the_dollars_are_spent(spent: Decimal) -> None:
    assert share_for(Decimal(30), replace(FRESH, spent=spent)) == 0
    assert share_for(Decimal(30), replace(FRESH, began=Decimal(1), spent=Decimal(30))) == FIRST_SHARE


def test_a_day_ends_at_midnight_in_utc() -> None:
    elsewhere = NOON.astimezone(datetime.strptime("+1100", "%z").tzinfo)
    assert seconds_left(elsewhere) == DAY_SECONDS / 2
