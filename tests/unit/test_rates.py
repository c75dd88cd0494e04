"""What clients are told of their limits per minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.keys.virtual_key import VirtualKey
from gateway.ledger.rates import Usage, rate_headers, rate_states
from gateway.ledger.reservation import RateState


def key(rpm: int | None, tpm: int | None) -> VirtualKey:
    return VirtualKey(id="abc", name="a key", secret_hash="", created_at=0, rpm=rpm, tpm=tpm)


def usage(requests: int, tokens: int) -> Usage:
    return Usage({"requests": requests, "tokens": tokens}, {"requests": 12.5, "tokens": 47.0}, None, 0)


def test_a_script_that_says_nothing_has_used_nothing() -> None:
    assert Usage.read([""] * 6) == Usage(
        {"requests": 0, "tokens": 0}, {"requests": 0.0, "tokens": 0.0}, None, 0
    )


def test_the_end_of_a_scripts_answer_is_read() -> None:
    read = Usage.read(["3", "1e+15", "12.5", "47", "0.25", "1795513020"])
    assert read.used == {"requests": 3, "tokens": 10**15}
    assert read.reset == {"requests": 12.5, "tokens": 47.0}
    assert read.seconds_until_room == 0.25
    assert read.second == 1795513020


@pytest.mark.parametrize(
    ("rpm", "tpm", "limits"),
    [(None, None, set()), (10, None, {"requests"}), (None, 10, {"tokens"}), (10, 10, {"requests", "tokens"})],
)
def test_only_limits_that_there_are_have_a_state(rpm: int | None, tpm: int | None, limits: set[str]) -> None:
    assert set(rate_states(key(rpm, tpm), usage(0, 0), 1, 1)) == limits


def test_a_call_that_counts_is_taken_off_and_is_forgotten_last() -> None:
    states = rate_states(key(10, 1000), usage(3, 400), 1, 250)
    assert states == {"requests": RateState(10, 6, 60.0), "tokens": RateState(1000, 350, 60.0)}


def test_a_call_that_was_refused_takes_nothing() -> None:
    states = rate_states(key(10, 1000), usage(10, 400), 0, 0)
    assert states == {"requests": RateState(10, 0, 12.5), "tokens": RateState(1000, 600, 47.0)}


@given(
    *[st.integers(1, 10**9) for _ in range(2)],
    *[st.integers(0, 10**10) for _ in range(4)],
)
def test_what_remains_is_never_less_than_nothing_nor_more_than_the_limit(
    rpm: int, tpm: int, requests: int, tokens: int, taken_requests: int, taken_tokens: int
) -> None:
    states = rate_states(key(rpm, tpm), usage(requests, tokens), taken_requests, taken_tokens)
    for state in states.values():
        assert 0 <= state.remaining <= state.limit
        assert 0 <= state.reset_seconds <= 60


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.0, "0ms"),
        (0.0001, "1ms"),
        (0.25, "250ms"),
        (1.0, "1s"),
        (1.2, "2s"),
        (59.0, "59s"),
        (59.5, "1m0s"),
        (60.0, "1m0s"),
        (90.0, "1m30s"),
    ],
)
def test_times_are_told_as_openai_tells_them_and_never_too_short(seconds: float, told: str) -> None:
    headers = rate_headers({"requests": RateState(10, 6, seconds)})
    assert headers == {
        "x-ratelimit-limit-requests": "10",
        "x-ratelimit-remaining-requests": "6",
        "x-ratelimit-reset-requests": told,
    }


def test_no_limits_need_no_headers() -> None:
    assert rate_headers({}) == {}
