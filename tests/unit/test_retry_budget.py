"""How many retries a worker may send."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.retry_budget import ALWAYS_UNDER_WAY, MOST_SAVED_RETRIES, RetryBudget

REQUEST, RETRY, LAST_RETRY, DONE = "request", "retry", "last retry", "done"
TRAFFIC = st.lists(
    st.tuples(st.sampled_from([REQUEST, RETRY, LAST_RETRY, DONE]), st.integers(1, 200)), max_size=50
)


def spent(budget: RetryBudget) -> None:
    """Spend all that is saved, by retries that have ended since."""
    for _ in range(MOST_SAVED_RETRIES):
        assert budget.try_withdraw(last_chance=True)
    for _ in range(MOST_SAVED_RETRIES):
        budget.done()


def granted(budget: RetryBudget, asked: int, *, last_chance: bool) -> int:
    """How many of so many retries at once are granted."""
    return sum(budget.try_withdraw(last_chance) for _ in range(asked))


@given(TRAFFIC, st.integers(0, 100))
def test_whatever_the_traffic_retries_are_a_share_of_it_but_for_a_burst_and_a_few_under_way(
    traffic: list[tuple[str, int]], percent: int
) -> None:
    budget = RetryBudget(percent)
    requests = beyond_the_few = under_way = 0
    for act, times in traffic:
        for _ in range(times):
            if act is REQUEST:
                budget.deposit()
                requests += 1
            elif act is DONE and under_way:
                budget.done()
                under_way -= 1
            elif act is not DONE and budget.try_withdraw(act is LAST_RETRY):
                beyond_the_few += under_way >= ALWAYS_UNDER_WAY
                under_way += 1
    assert beyond_the_few * 100 <= requests * percent + MOST_SAVED_RETRIES * 100


@given(st.integers(1, 100), st.booleans(), st.integers(0, 1000))
def test_three_at_once_are_never_refused(percent: int, last_chance: bool, requests: int) -> None:
    budget = RetryBudget(percent)
    spent(budget)
    for _ in range(requests):
        budget.deposit()
    assert granted(budget, 3, last_chance=last_chance) == 3


def test_a_lone_client_s_retries_are_never_refused() -> None:
    budget = RetryBudget(20)
    for _ in range(1000):
        budget.deposit()
        for _ in range(4):
            assert budget.try_withdraw(last_chance=True)
            budget.done()


def test_the_first_burst_is_granted_from_what_the_budget_begins_with() -> None:
    budget = RetryBudget(20)
    assert granted(budget, 200, last_chance=True) == MOST_SAVED_RETRIES


def test_where_there_is_another_model_only_the_upper_half_is_spent() -> None:
    budget = RetryBudget(20)
    assert granted(budget, 200, last_chance=False) == MOST_SAVED_RETRIES // 2
    assert granted(budget, 200, last_chance=True) == MOST_SAVED_RETRIES // 2


def test_a_retry_that_is_given_back_costs_nothing() -> None:
    budget = RetryBudget(20)
    for _ in range(MOST_SAVED_RETRIES * 2):
        assert budget.try_withdraw(last_chance=False)
        budget.give_back()
    assert granted(budget, 200, last_chance=True) == MOST_SAVED_RETRIES


def test_requests_save_their_share_of_a_retry_up_to_the_most() -> None:
    budget = RetryBudget(20)
    spent(budget)
    assert granted(budget, 50, last_chance=True) == ALWAYS_UNDER_WAY
    for _ in range(50):
        budget.deposit()
    assert granted(budget, 50, last_chance=True) == 10
    for _ in range(100_000):
        budget.deposit()
    assert granted(budget, 1000, last_chance=True) == MOST_SAVED_RETRIES


def test_with_nothing_to_spend_there_are_no_retries() -> None:
    budget = RetryBudget(0)
    budget.deposit()
    assert granted(budget, 10, last_chance=True) == 0


@pytest.mark.parametrize("seed", range(5))
def test_at_thirty_percent_of_faults_nobody_loses_the_last_chance(seed: int) -> None:
    """64 clients: each tries the first model again where that is granted, then turns to the second, which it
    tries again as its last chance."""
    draw, budget = random.Random(seed), RetryBudget(20)
    # Many retries are under way at any time, so that the three that always may be are of no help.
    for _ in range(ALWAYS_UNDER_WAY):
        assert budget.try_withdraw(last_chance=True)
    refused = refused_last = 0
    for _ in range(20_000):
        budget.deposit()
        for last_chance in (False, True):
            failed = draw.random() < 0.3
            while failed:
                if not budget.try_withdraw(last_chance):
                    refused += 1
                    refused_last += last_chance
                    break
                failed = draw.random() < 0.3
                budget.done()
            if not failed:
                break
    assert refused > 0  # so that it was put to the test
    assert refused_last == 0


def test_in_an_outage_of_everything_retries_stay_a_share_of_the_requests() -> None:
    budget = RetryBudget(20)
    requests, retries = 10_000, 0
    for _ in range(ALWAYS_UNDER_WAY):
        assert budget.try_withdraw(last_chance=True)
    for _ in range(requests):
        budget.deposit()
        for _ in range(3):
            if budget.try_withdraw(last_chance=True):
                retries += 1
                budget.done()
    assert retries <= requests * 0.2 + MOST_SAVED_RETRIES
