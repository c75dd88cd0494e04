"""What a policy would have been worth is estimated without bias from what another one did, and the interval
covers the truth as often as it says, by simulation."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import fmean

import pytest

from gateway.routing.estimates import Estimate, Logged, difference, doubly_robust, inverse_propensity

SEEDS = 100
REQUESTS = 600
EXPLORED = 0.05
LIVE, OTHER = 0.5, 0.3  # thresholds: the dearer model for what is more difficult


def quality(difficulty: float, is_dear: bool) -> float:
    """The probability of a right answer."""
    return 0.95 - 0.25 * difficulty if is_dear else 0.9 - 0.7 * difficulty


def truth(threshold: float) -> float:
    steps = [(i + 0.5) / 10_000 for i in range(10_000)]
    return fmean(quality(step, step > threshold) for step in steps)


def log_of(seed: int, explored: float = EXPLORED, told: float = 1.0) -> tuple[list[float], list[Logged]]:
    """The requests' difficulties, and what a policy with `LIVE` and exploration made of them; a share of the
    answers was scored."""
    drawing = random.Random(seed)
    difficulties, logged = [], []
    for _ in range(REQUESTS):
        difficulty = drawing.random()
        explores = drawing.random() < explored
        is_dear = (difficulty > LIVE) != explores
        reward = float(drawing.random() < quality(difficulty, is_dear))
        propensity = explored if explores else 1 - explored
        scored = reward if drawing.random() < told else None
        difficulties.append(difficulty)
        logged.append(Logged(is_dear, propensity, scored, (difficulty,)))
    return difficulties, logged


def by(threshold: float, difficulties: list[float]) -> list[bool]:
    return [difficulty > threshold for difficulty in difficulties]


def covers(estimate: Estimate, value: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= value <= estimate.high


@pytest.mark.parametrize("method", [inverse_propensity, doubly_robust])
@pytest.mark.parametrize(("threshold", "told"), [(LIVE, 1), (OTHER, 1), (0.8, 0.5), (1, 1)])
def test_the_interval_covers_the_truth_and_the_estimate_is_not_biased(
    method: Callable[..., Estimate], threshold: float, told: float
) -> None:
    value, estimates = truth(threshold), []
    for seed in range(SEEDS):
        difficulties, logged = log_of(seed, told=told)
        estimates.append(method(logged, by(threshold, difficulties)))
    covered = sum(covers(estimate, value) for estimate in estimates)
    widths = [estimate.high - estimate.low for estimate in estimates if estimate.high and estimate.low]
    bias = fmean(estimate.value - value for estimate in estimates if estimate.value is not None)
    print(method.__name__, threshold, f"covered {covered}, width {fmean(widths):.3f}, bias {bias:.4f}")
    assert covered >= 0.9 * SEEDS
    assert abs(bias) < 0.02
    assert fmean(widths) < 0.5


def test_guesses_that_are_put_right_tell_more_than_answers_alone() -> None:
    widths = {inverse_propensity: 0.0, doubly_robust: 0.0}
    for seed in range(20):
        difficulties, logged = log_of(seed)
        for method in widths:
            estimate = method(logged, by(0.9, difficulties))
            assert estimate.low is not None
            assert estimate.high is not None
            widths[method] += estimate.high - estimate.low
    assert widths[doubly_robust] < widths[inverse_propensity]


@pytest.mark.parametrize("threshold", [OTHER, 0.8, LIVE])
def test_of_two_policies_the_better_is_told_and_no_worse_one_is_taken_for_it(threshold: float) -> None:
    value = truth(threshold) - truth(LIVE)
    covered = wrong = 0
    for seed in range(SEEDS):
        difficulties, logged = log_of(seed)
        estimate = difference(logged, by(threshold, difficulties), by(LIVE, difficulties))
        covered += covers(estimate, value)
        wrong += value <= 0 and estimate.low is not None and estimate.low > 0
    print(threshold, value, covered, wrong)
    assert covered >= 0.9 * SEEDS
    assert wrong <= 0.05 * SEEDS


def test_a_policy_that_is_plainly_better_is_told_apart() -> None:
    found = 0
    for seed in range(20):
        difficulties, logged = log_of(seed, explored=0.2)
        estimate = difference(logged, by(0, difficulties), by(1, difficulties))
        found += estimate.low is not None and estimate.low > 0
    assert found >= 19


def test_what_was_never_tried_cannot_be_told() -> None:
    difficulties, logged = log_of(1, explored=0.0)
    same = doubly_robust(logged, by(LIVE, difficulties))
    assert (same.never_tried, same.value is not None) == (0, True)
    other = doubly_robust(logged, by(OTHER, difficulties))
    assert other.value is None
    assert other.never_tried == pytest.approx(LIVE - OTHER, abs=0.06)
    # All that is certain is that it is no worse than nothing and no better than everything there.
    assert other.low is not None
    assert other.high is not None
    assert other.high - other.low > 2 * other.never_tried
    assert difference(logged, by(OTHER, difficulties), by(LIVE, difficulties)).value is None


def test_nothing_known_bounds_nothing() -> None:
    for estimate in (
        doubly_robust([], []),
        inverse_propensity([Logged(True, 0.9, None)] * 5, [True] * 5),
        doubly_robust([Logged(True, 0.9, None, (1.0, 2.0))] * 5, [False] * 5),
    ):
        assert (estimate.value, estimate.low, estimate.high) == (None, 0, 1)
    assert difference([], [], []).value is None


def test_answers_that_all_agree_are_no_certainty() -> None:
    logged = [Logged(False, 0.98, 1.0)] * 200 + [Logged(True, 0.02, 1.0)] * 4
    estimate = inverse_propensity(logged, [True] * 204)
    assert estimate.value == 1
    assert estimate.low is not None
    assert estimate.low < 0.8


def test_an_answer_that_would_stand_for_too_many_is_clipped_and_told() -> None:
    logged = [Logged(False, 0.999, 0.5)] * 999 + [Logged(True, 0.001, 1.0)]
    assert inverse_propensity(logged, [True] * 1000).clipped == 1


def test_costs_have_no_bounds() -> None:
    logged = [Logged(i % 2 == 0, 0.5, 0.001 * (1 + i % 2 + i % 7)) for i in range(400)]
    estimate = inverse_propensity(logged, [True] * 400, None)
    assert estimate.value == pytest.approx(0.004, rel=0.05)
    assert covers(estimate, 0.004)
    never = [Logged(True, 1.0, 0.1)] * 10
    assert inverse_propensity(never, [False] * 10, None).high is None
