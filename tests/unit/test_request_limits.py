"""What a request may take, as configured and as its client says."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from gateway.errors import InvalidRequest
from gateway.incoming import RequestHeaders
from gateway.request_limits import MAX_COST, TIMEOUT, RequestLimits

CONFIGURED_SECONDS = 60.0


def limits(headers: dict[str, str], max_cost: Decimal | None = None) -> RequestLimits:
    return RequestLimits.of(
        RequestHeaders.of(headers.items()),
        since=time.monotonic(),
        timeout=CONFIGURED_SECONDS,
        max_cost=max_cost,
    )


def test_without_headers_the_settings_count() -> None:
    assert limits({}).deadline.remaining == pytest.approx(60, abs=0.5)
    assert limits({}).max_cost is None
    assert limits({}, Decimal("0.5")).max_cost == Decimal("0.5")


@pytest.mark.parametrize(("told", "seconds"), [("1", 1), ("0.25", 0.25), ("60", 60), ("3600", 60)])
def test_a_client_can_only_lower_the_time(told: str, seconds: float) -> None:
    assert limits({TIMEOUT: told}).deadline.remaining == pytest.approx(seconds, abs=0.1)


def test_the_time_runs_from_when_the_request_came() -> None:
    since = time.monotonic() - 3
    told = RequestLimits.of(RequestHeaders.of({TIMEOUT: "5"}.items()), since=since, timeout=60, max_cost=None)
    assert told.deadline.remaining == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("told", "configured", "most"),
    [
        ("0.05", None, "0.05"),
        ("0.05", "0.5", "0.05"),
        ("0.5", "0.05", "0.05"),
        ("0", None, "0"),
        ("0.000000000001", None, "0.000000000001"),
    ],
)
def test_a_client_can_only_lower_the_cost(told: str, configured: str | None, most: str) -> None:
    assert limits({MAX_COST: told}, Decimal(configured) if configured else None).max_cost == Decimal(most)


@pytest.mark.parametrize("name", [TIMEOUT, MAX_COST])
@pytest.mark.parametrize(
    "told", ["", " ", "x", "-1", "+1", "1e300", "nan", "inf", "1,5", "1s", ".5", "٣", "9" * 20]
)
def test_what_is_no_number_is_refused_by_its_header(name: str, told: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        limits({name: told})
    assert refused.value.param == name
    assert refused.value.status == 400


def test_no_time_at_all_is_refused() -> None:
    for told in ("0", "0.0"):
        with pytest.raises(InvalidRequest):
            limits({TIMEOUT: told})
