"""The metrics of routing, by curves that are known."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest

from evaluation.metrics import (
    NoGap,
    Ranking,
    apgr_samples,
    calls_for,
    interval,
    mean_samples,
    oracle,
    recovered_at,
    resamples,
)

# Of ten prompts the expensive model is better at two, worse at none.
TWO_OF_TEN = [1.0, 0, 0, 1.0, 0, 0, 0, 0, 0, 0]


def by_hand(scores: Sequence[float], gains: Sequence[float]) -> float:
    """The area where no two scores are the same: the mean of what is recovered before and after each call."""
    order = sorted(range(len(scores)), key=lambda row: -scores[row])
    recovered = [sum(gains[row] for row in order[:calls]) / sum(gains) for calls in range(len(order) + 1)]
    return sum((a + b) / 2 for a, b in itertools.pairwise(recovered)) / len(order)


def test_the_oracle_recovers_the_gap_with_the_calls_that_gain() -> None:
    curve = oracle(TWO_OF_TEN).curve()
    assert curve == [(0, 0), (0.2, 1), (1, 1)]
    assert oracle(TWO_OF_TEN).apgr() == pytest.approx(0.9)
    assert calls_for(curve, 0.5) == pytest.approx(0.1)
    assert recovered_at(curve, 0.1) == pytest.approx(0.5)
    assert recovered_at(curve, 0.7) == 1


def test_the_oracle_is_above_one_where_the_cheap_model_is_sometimes_better() -> None:
    ranking = oracle([1, 1, 1, -1, -1])
    assert ranking.curve() == [(0, 0), (0.6, 3), (1, 1)]
    assert ranking.apgr() == pytest.approx(1.7)
    assert calls_for(ranking.curve(), 1) == pytest.approx(0.2)


def test_the_inverse_of_the_oracle_recovers_nothing_until_the_end() -> None:
    ranking = Ranking([-gain for gain in TWO_OF_TEN], TWO_OF_TEN)
    assert ranking.apgr() == pytest.approx(0.1)
    assert calls_for(ranking.curve(), 0.5) == pytest.approx(0.9)


def test_one_score_for_all_is_a_random_order_whatever_the_order_of_the_data() -> None:
    for gains in (TWO_OF_TEN, TWO_OF_TEN[::-1]):
        ranking = Ranking([3.0] * 10, gains)
        assert ranking.apgr() == pytest.approx(0.5)
        assert calls_for(ranking.curve(), 0.8) == pytest.approx(0.8)


def test_ties_count_as_the_mean_of_all_their_orders() -> None:
    drawing = random.Random(1)
    gains = [drawing.choice([-1.0, 0, 0, 1, 1]) for _ in range(40)]
    scores = [drawing.randrange(4) for _ in gains]
    broken = [by_hand([score + drawing.random() / 2 for score in scores], gains) for _ in range(4000)]
    assert Ranking(scores, gains).apgr() == pytest.approx(sum(broken) / len(broken), abs=0.01)


def test_the_area_is_the_one_worked_out_by_hand() -> None:
    drawing = random.Random(2)
    gains = [drawing.choice([-1.0, 0, 1, 1]) for _ in range(50)]
    scores = [drawing.random() for _ in gains]
    assert Ranking(scores, gains).apgr() == pytest.approx(by_hand(scores, gains))


def test_a_random_order_is_one_half_in_the_mean() -> None:
    drawing = random.Random(3)
    areas = [Ranking([drawing.random() for _ in TWO_OF_TEN], TWO_OF_TEN).apgr() for _ in range(4000)]
    assert sum(areas) / len(areas) == pytest.approx(0.5, abs=0.01)


def test_a_weight_counts_as_so_many_copies() -> None:
    scores, gains, weights = [4.0, 3, 3, 1], [1.0, 0, 1, -1], [2, 0, 3, 1]
    copies = [row for row, weight in enumerate(weights) for _ in range(weight)]
    copied = Ranking([scores[row] for row in copies], [gains[row] for row in copies])
    assert Ranking(scores, gains).apgr(weights) == pytest.approx(copied.apgr())


def test_where_the_expensive_model_is_not_better_there_is_no_figure() -> None:
    with pytest.raises(NoGap):
        Ranking([1, 2], [1, -1]).apgr()
    with pytest.raises(NoGap):
        Ranking([], []).curve()


def test_scores_that_cannot_be_ordered_are_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        Ranking([float("nan")], [1])
    with pytest.raises(ValueError, match="1 scores for 2 prompts"):
        Ranking([1], [1, 1])


def test_rows_of_one_prompt_are_drawn_together() -> None:
    groups = ["a", "b", "a", "c", "b"]
    seen = list(resamples(groups, times=50))
    assert all(weights[0] == weights[2] and weights[1] == weights[4] for weights in seen)
    assert all(weights[0] + weights[1] + weights[3] == 3 for weights in seen)
    assert len({tuple(weights) for weights in seen}) > 1


def test_the_interval_of_a_random_router_covers_one_half_about_as_often_as_it_says() -> None:
    drawing = random.Random(4)
    covered = 0
    for seed in range(100):
        gains = [drawing.choice([-1.0, 0, 0, 1, 1, 1]) for _ in range(120)]
        ranking = Ranking([drawing.random() for _ in gains], gains)
        found = interval(ranking.apgr(), apgr_samples(ranking, range(len(gains)), times=150, seed=seed))
        covered += found.low <= 0.5 <= found.high
    assert 87 <= covered <= 99


def test_the_macro_is_taken_sample_by_sample() -> None:
    assert mean_samples([[1.0, 2.0], [3.0, 6.0]]) == [2.0, 4.0]
