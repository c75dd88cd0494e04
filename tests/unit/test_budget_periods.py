"""When a budget begins anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.budget import Budget, Period, Window

MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
LONGEST = {Period.DAY: timedelta(days=1), Period.WEEK: timedelta(days=7), Period.MONTH: timedelta(days=31)}
RUNNING_OUT = [Period.DAY, Period.WEEK, Period.MONTH]


def window(period: Period, moment: datetime) -> Window:
    return Budget(Decimal(1), period).window(moment)


@pytest.mark.parametrize(
    ("period", "moment", "label", "ends"),
    [
        (Period.DAY, datetime(2026, 11, 24, 0, 0, tzinfo=UTC), "2026-11-24", datetime(2026, 11, 25)),
        (Period.DAY, datetime(2026, 12, 31, 23, 59, 59, 999999, UTC), "2026-12-31", datetime(2027, 1, 1)),
        (Period.DAY, datetime(2028, 2, 28, 12, 0, tzinfo=UTC), "2028-02-28", datetime(2028, 2, 29)),
        (Period.WEEK, datetime(2026, 11, 23, 0, 0, tzinfo=UTC), "2026-W48", datetime(2026, 11, 30)),
        (Period.WEEK, datetime(2026, 11, 29, 23, 59, tzinfo=UTC), "2026-W48", datetime(2026, 11, 30)),
        (Period.WEEK, datetime(2027, 1, 1, tzinfo=UTC), "2026-W53", datetime(2027, 1, 4)),
        (Period.WEEK, datetime(2024, 12, 30, tzinfo=UTC), "2025-W01", datetime(2025, 1, 6)),
        (Period.MONTH, datetime(2026, 11, 30, 23, 59, tzinfo=UTC), "2026-11", datetime(2026, 12, 1)),
        (Period.MONTH, datetime(2026, 12, 31, tzinfo=UTC), "2026-12", datetime(2027, 1, 1)),
        (Period.MONTH, datetime(2028, 2, 29, tzinfo=UTC), "2028-02", datetime(2028, 3, 1)),
    ],
)
def test_a_period_ends_at_midnight_utc(period: Period, moment: datetime, label: str, ends: datetime) -> None:
    assert window(period, moment) == Window(label, ends.replace(tzinfo=UTC))


def test_a_total_never_ends() -> None:
    moments = (datetime(1971, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC))
    assert {window(Period.TOTAL, moment) for moment in moments} == {Window("total", None)}


def test_a_budget_without_a_period_is_a_total() -> None:
    assert Budget(Decimal(1)).period is Period.TOTAL


def test_the_day_is_that_of_utc_wherever_the_clock_stands() -> None:
    in_auckland = datetime(2026, 11, 25, 1, 0, tzinfo=timezone(timedelta(hours=13)))
    assert window(Period.DAY, in_auckland).label == "2026-11-24"


@pytest.mark.parametrize("period", RUNNING_OUT)
@given(moment=MOMENTS)
def test_every_moment_lies_in_the_run_that_ends_next(period: Period, moment: datetime) -> None:
    ends = window(period, moment).ends
    assert ends is not None
    assert moment < ends <= moment + LONGEST[period]


@pytest.mark.parametrize("period", RUNNING_OUT)
@given(moment=MOMENTS)
def test_a_run_has_one_name_to_its_end_and_the_next_one_another(period: Period, moment: datetime) -> None:
    this = window(period, moment)
    assert this.ends is not None
    assert window(period, this.ends - timedelta(microseconds=1)) == this
    following = window(period, this.ends)
    assert following.label != this.label
    assert following.ends is not None
    assert following.ends > this.ends
