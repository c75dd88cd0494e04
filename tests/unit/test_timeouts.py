"""Limits of waiting."""

from __future__ import annotations

import time

import gevent
import pytest

from gateway.errors import RequestTimeUp, UpstreamTimeout
from gateway.rounds import SECONDS_BETWEEN_ROUNDS
from gateway.timeouts import SOON, TOO_LATE, Deadline, time_limit

SLOW = "too slow"


def test_a_deadline_is_so_many_seconds_from_now_or_from_a_moment() -> None:
    assert Deadline.in_seconds(5).remaining == pytest.approx(5, abs=0.1)
    assert Deadline.in_seconds(5, since=time.monotonic() - 4).remaining == pytest.approx(1, abs=0.1)
    assert Deadline.in_seconds(5, since=time.monotonic() - 9).remaining == pytest.approx(-4, abs=0.1)


def test_of_two_deadlines_the_sooner_counts() -> None:
    assert Deadline.in_seconds(5).or_in(2).remaining == pytest.approx(2, abs=0.1)
    assert Deadline.in_seconds(5).or_in(9).remaining == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize(
    ("seconds", "deadline", "message"), [(0.02, 5.0, SLOW), (5.0, 0.02, TOO_LATE), (0.02, 0.02, SLOW)]
)
def test_what_waits_too_long_is_told_by_which_limit(seconds: float, deadline: float, message: str) -> None:
    began = time.monotonic()
    with (
        pytest.raises(UpstreamTimeout, match=message),
        time_limit(seconds, Deadline.in_seconds(deadline + 0.001), SLOW),
    ):
        gevent.sleep(5)
    assert 0.02 <= time.monotonic() - began < 1


def test_only_a_requests_own_time_is_told_as_its_own() -> None:
    request = Deadline.in_seconds(0.02)
    with pytest.raises(RequestTimeUp), time_limit(5, request.or_in(5), SLOW):
        gevent.sleep(5)
    with pytest.raises(UpstreamTimeout) as slow, time_limit(5, Deadline.in_seconds(5).or_in(0.02), SLOW):
        gevent.sleep(5)
    assert not isinstance(slow.value, RequestTimeUp)


def test_what_ends_in_time_is_let_be_and_leaves_no_timer() -> None:
    with time_limit(0.03, Deadline.in_seconds(5), SLOW):
        gevent.sleep(0.001)
    gevent.sleep(0.05)


def test_what_fails_by_itself_leaves_no_timer() -> None:
    with pytest.raises(ValueError, match="own"), time_limit(0.03, Deadline.in_seconds(5), SLOW):
        raise ValueError("own")
    gevent.sleep(0.05)


def test_a_deadline_that_has_passed_ends_even_what_never_waits() -> None:
    reached = []
    with (
        pytest.raises(UpstreamTimeout, match=TOO_LATE),
        time_limit(5, Deadline.in_seconds(-0.01), SLOW),
    ):
        reached.append(True)
    assert not reached


def test_somebody_elses_limit_is_passed_on() -> None:
    with (
        pytest.raises(gevent.Timeout),
        gevent.Timeout(0.02),
        time_limit(5, Deadline.in_seconds(5), SLOW),
    ):
        gevent.sleep(5)


def test_of_limits_within_each_other_each_ends_its_own_block() -> None:
    with time_limit(5, Deadline.in_seconds(5), "outer"):
        with (
            pytest.raises(UpstreamTimeout, match="inner"),
            time_limit(0.02, Deadline.in_seconds(5), "inner"),
        ):
            gevent.sleep(5)
        gevent.sleep(0.05)
    with (
        pytest.raises(UpstreamTimeout, match="outer"),
        time_limit(0.02, Deadline.in_seconds(5), "outer"),
        time_limit(5, Deadline.in_seconds(5), "inner"),
    ):
        gevent.sleep(5)


def test_a_limit_that_is_far_away_ends_its_block_in_time_too() -> None:
    for seconds in (SOON + 0.01, SOON + SECONDS_BETWEEN_ROUNDS):
        began = time.monotonic()
        with pytest.raises(UpstreamTimeout), time_limit(seconds, Deadline.in_seconds(5), SLOW):
            gevent.sleep(5)
        assert seconds <= time.monotonic() - began < seconds + SECONDS_BETWEEN_ROUNDS


def test_a_limit_that_is_far_away_ends_nothing_behind_its_block() -> None:
    for rest in (0.0, SECONDS_BETWEEN_ROUNDS):
        with time_limit(SOON + SECONDS_BETWEEN_ROUNDS, Deadline.in_seconds(5), SLOW):
            gevent.sleep(2 * SECONDS_BETWEEN_ROUNDS + rest)
        gevent.sleep(2 * SECONDS_BETWEEN_ROUNDS)


def test_many_limits_end_each_its_own_block() -> None:
    def late(number: int) -> str:
        try:
            with time_limit(SOON + number / 100, Deadline.in_seconds(5), f"slow {number}"):
                gevent.sleep(5)
        except UpstreamTimeout as error:
            return error.message
        return "in time"

    waits = [gevent.spawn(late, number) for number in range(20)]
    gevent.joinall(waits, timeout=3)
    assert [wait.value for wait in waits] == [f"slow {number}" for number in range(20)]


def test_no_library_on_the_way_takes_a_limit_for_an_error_of_its_own() -> None:
    def library() -> None:
        try:
            gevent.sleep(5)
        except Exception:
            pytest.fail("it was caught")

    with pytest.raises(UpstreamTimeout), time_limit(0.02, Deadline.in_seconds(5), SLOW):
        library()
