"""A share that is held, by simulation on real prompts: through changes of traffic, in any order, by several
workers that hear of each other late."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from gateway.routing.scores import LEAST, MOST, Line, RecentScores, bucket_of, edges_of
from gateway.routing.share import MOST_DEBT, HeldShare, Known
from tests.support.share_traffic import START, Together, Traffic, orders, shares

WITHIN = 0.1
SOON = 500  # requests
SEEDS = range(3)
ORDERS = ["shuffled", "lowest first", "highest first", "by benchmark"]
CHANGES = ["high after low", "low after high", "one score after another"]
# Few enough for an order as bad as any, as fast as a small deployment is.
WORKERS = pytest.mark.parametrize(("workers", "rate"), [(1, 100), (4, 20), (4, 100)])


def worst(found: Sequence[float], target: float) -> float:
    """How far the worst of some shares is from the target, in parts of it."""
    return max(abs(share / target - 1) for share in found)


@WORKERS
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("target", [0.2, 0.5])
def test_the_share_holds_in_any_order_of_the_prompts(
    order: str, workers: int, rate: float, target: float
) -> None:
    for seed in SEEDS:
        found = shares(Traffic(target, workers, rate, seed=seed).choices(orders(seed)[order].scores))
        assert worst(found[:1], target) <= WITHIN, "the first 500 requests"
        assert worst(found[SOON:], target) <= 1.25 * WITHIN, "any 500 requests later"


@WORKERS
@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_of_traffic_it_is_back_within_500_requests(
    change: str, workers: int, rate: float
) -> None:
    for seed in SEEDS:
        traffic = orders(seed)[change]
        found = shares(Traffic(0.2, workers, rate, seed=seed).choices(traffic.scores))
        assert worst([found[traffic.changes_at]], 0.2) <= WITHIN, "the 500 requests from the change on"
        assert worst(found[traffic.changes_at + SOON :], 0.2) <= 1.25 * WITHIN, "any 500 requests later"


@pytest.mark.parametrize("change", CHANGES)
def test_it_does_not_swing_after_a_change(change: str) -> None:
    traffic = orders(0)[change]
    simulated = Traffic(0.2, 4, 100)
    chosen = simulated.choices(traffic.scores)
    before, after = traffic.changes_at, traffic.changes_at + 250
    hundreds = [sum(chosen[start : start + 100]) for start in range(after, len(chosen) - 99, 100)]
    assert max(hundreds) <= 30, "a hundred of them"
    assert min(hundreds) >= 10, "a hundred of them"
    # It goes over to the new line once, and not to and fro.
    old, new = simulated.thresholds[before - 1], simulated.thresholds[-1]
    on_the_new_side = [abs(line - new) < abs(line - old) for line in simulated.thresholds[before:]]
    assert on_the_new_side[500:].count(False) == 0


def test_many_equal_prompts_are_parted_by_the_share() -> None:
    chosen = Traffic(0.2, 4, 100).choices([200.0] * 1500)
    assert worst(shares(chosen)[100:], 0.2) <= WITHIN


@pytest.mark.parametrize(("target", "expected"), [(0.0, 0), (1.0, 1500)])
def test_nothing_and_all_are_shares_too(target: float, expected: int) -> None:
    scores = orders(0)["shuffled"].scores[:1500]
    assert sum(Traffic(target, 4).choices(scores)) == expected


def test_a_target_that_changes_is_held_at_once() -> None:
    def change(number: int, workers: Sequence[HeldShare]) -> None:
        if number == 1000:
            for share in workers:
                share.target = 0.5

    chosen = Traffic(0.1, 4, 100, at_request=change).choices(orders(0)["shuffled"].scores)
    found = shares(chosen, 400)
    assert worst(found[600:601], 0.1) <= 0.2
    assert worst(found[1000:1001], 0.5) <= WITHIN


def test_the_dearest_model_gets_the_highest_scores_while_the_traffic_stays() -> None:
    scores = orders(0)["shuffled"].scores
    fixed = sorted(scores)[int(len(scores) * 0.8)]
    chosen = Traffic(0.2, 4, 100).choices(scores)
    expensive = [score for score, went in zip(scores, chosen, strict=True) if went]
    assert sum(score >= fixed for score in expensive) / len(expensive) > 0.75


def test_a_worker_that_hears_nothing_holds_the_share_alone() -> None:
    share, drawn = HeldShare(0.2, START), random.Random(0)
    chosen = []
    for score in orders(0)["shuffled"].scores:
        threshold, _ = share.threshold(score, drawn.random())
        chosen.append(score > threshold)
        share.saw(score, expensive=chosen[-1])
    assert worst(shares(chosen)[500:], 0.2) <= WITHIN


def test_what_was_seen_meanwhile_is_neither_lost_nor_counted_twice() -> None:
    share, together = HeldShare(0.5, START), Together()
    share.saw(100, expensive=True)
    first = share.pending()
    share.saw(200, expensive=False)
    assert share.pending() is first, "it is given again until it is known to be there"
    share.learn(together.add(first))
    assert share.has_news
    share.learn(together.add(share.pending()))
    assert (together.requests, together.expensive) == (2, 1)
    assert not share.has_news


def test_the_first_request_goes_by_the_policys_own_threshold() -> None:
    assert HeldShare(0.2, START).threshold(1000, 0.99) == (START, False)


def test_a_debt_that_is_as_large_as_may_be_is_paid_and_no_more() -> None:
    share = HeldShare(0.2, START)
    share.saw(100, expensive=False)
    share.learn(Known(1000, 0, MOST_DEBT))
    assert share.level == 1
    share.learn(Known(1000, 1000, -MOST_DEBT))
    assert share.level == 0


def test_a_worker_that_starts_late_goes_by_the_debt_of_all_from_the_beginning() -> None:
    share = HeldShare(0.2, START)
    share.saw(100, expensive=False)
    share.pending()
    share.learn(Known(10**6, 0, 2.0))
    assert share.level == pytest.approx(0.2 + 0.2 * 2 / 4)


def test_a_bucket_tells_scores_apart_by_three_digits() -> None:
    assert bucket_of(150) != bucket_of(151)
    assert bucket_of(15100) == bucket_of(15101)
    for score in (0.0, 0.37, 1, 150, 999, 12345, 1e9, -0.37, -4321):
        low, high = edges_of(bucket_of(score))
        assert low < score <= high


def test_old_scores_fade_as_new_ones_come() -> None:
    scores = RecentScores()
    for score in [100] * 600 + [200] * 150:
        scores.add(bucket_of(score))
    assert scores.weights() == {100.0: 150.0, 200.0: 150.0}
    for _ in range(450):
        scores.add(bucket_of(200))
    assert scores.weights() == {200.0: 300.0}


@pytest.mark.parametrize(
    ("score", "lot", "threshold", "by_lot"),
    [
        (40, 0.1, 29.95, False),  # above the bucket that the line is in
        (30, 0.4, 29.95, True),  # of which every second one lies above
        (30, 0.6, 30.05, True),
        (20, 0.1, 29.95, False),
        (50, 0.2, 40.05, True),  # beyond all that were seen: by the share alone
        (50, 0.3, 50, True),
        (5, 0.2, 4.995, True),
        (5, 0.3, 9.95, True),
    ],
)
def test_the_line_parts_what_is_alike_by_lot(
    score: float, lot: float, threshold: float, by_lot: bool
) -> None:
    line = Line({10.0: 1, 20.0: 1, 30.0: 1, 40.0: 0.5})
    found = line.threshold(2 / 7, score, lot)
    assert found[0] == pytest.approx(threshold)
    assert found[1] is by_lot


@pytest.mark.parametrize(("share", "threshold"), [(0, MOST), (-0.1, MOST), (1, LEAST), (1.5, LEAST)])
def test_a_line_beyond_all_scores_leaves_nothing_to_lot(share: float, threshold: float) -> None:
    assert Line({10.0: 1}).threshold(share, 10, 0.5) == (threshold, False)
