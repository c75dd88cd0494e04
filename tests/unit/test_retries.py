"""Which failures are worth another call, and after what pause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.retries import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, backoff, retry_after


@given(st.integers(0, 10_000))
def test_a_pause_is_anything_up_to_a_bound_that_doubles_until_two_seconds(retries: int) -> None:
    bound = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(retries, 50))
    assert 0 <= backoff(retries) <= bound


def test_those_who_failed_together_do_not_come_back_together() -> None:
    pauses = sorted(backoff(4) for _ in range(1000))
    bound = FIRST_PAUSE_SECONDS * 2**4
    assert pauses[100] < bound / 4
    assert pauses[900] > bound * 3 / 4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"RETRY-AFTER": "1.5"}, 1.5),
        ({"Retry-After": "0"}, 0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "Retry-After": "7"}, 0.25),
        ({"retry-after-ms": "soon", "Retry-After": "7"}, 7),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "1e9"}, None),
        ({"Retry-After": "\u0667"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Mon, 99 Foo 2026 00:00:00 GMT"}, None),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"Retry-After": "9" * 50}, None),
    ],
)
def test_what_a_provider_says_of_when_to_ask_again_is_read(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize("usegmt", [True, False])
def test_a_moment_is_so_many_seconds_from_now(usegmt: bool) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=usegmt)
    seconds = retry_after({"Retry-After": moment})
    assert seconds is not None
    assert 88 < seconds <= 90
