"""A policy that is run again over the log does what it would have done, and what that was worth is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.routing.decision import Decision
from gateway.routing.difficulty import bundled
from gateway.routing.replay import Wish, by_difficulty, by_length, gain, replay
from tests.support.tenant import HARD, decisions_of, right

DECISIONS = decisions_of(1500, seed=3, explored=0.1)


def short(decision: Decision) -> Decision:
    """The same as the policy `prompt_length` with a threshold of 150 would have taken it."""
    is_dear = decision.characters > 150
    return replace(
        decision,
        policy="prompt_length",
        score=decision.characters,
        threshold=150,
        is_dear=is_dear,
        signals={},
    )


def knowing(decision: Decision) -> Wish:
    """The policy of who knows what makes a prompt hard."""
    return Wish(decision.signals[HARD] > 0.5, decision.signals[HARD])


def test_the_policy_that_routed_is_found_again_as_it_was() -> None:
    decisions = [replace(short(each), propensity=1.0) for each in DECISIONS]
    found = replay(decisions, by_length(150))
    assert found.flipped == ()
    assert found.share == found.logged_share
    assert found.cost.value == pytest.approx(found.logged_cost)
    assert found.quality.value == pytest.approx(found.logged_quality, abs=0.005)
    assert (found.requests, found.scored, found.without_signals) == (1500, 1500, 0)


def test_another_threshold_flips_what_lies_between() -> None:
    decisions = [replace(short(each), propensity=1.0) for each in DECISIONS]
    found = replay(decisions, by_length(300))
    assert found.flipped == tuple(each.request_id for each in decisions if 150 < each.characters <= 300)
    assert found.share == sum(each.characters > 300 for each in decisions) / 1500
    # Nothing that is that long was ever tried at the cheap model.
    assert (found.quality.value, found.cost.value) == (None, None)
    assert found.quality.never_tried == pytest.approx(len(found.flipped) / 1500)


def test_an_explored_request_flips_only_where_the_policy_would_have_wanted_otherwise() -> None:
    found = replay(DECISIONS, by_difficulty(bundled(), DECISIONS[0].threshold))
    assert found.flipped == ()
    assert found.logged_share != found.share


def test_a_policy_that_knows_better_is_told_by_its_worth() -> None:
    truth = 0.5 * right(0.75, is_dear=True) + 0.5 * right(0.25, is_dear=False)
    found = replay(DECISIONS, knowing)
    assert found.quality.low is not None
    assert found.quality.high is not None
    assert found.quality.low < truth < found.quality.high
    assert found.cost.low is not None
    assert found.cost.high is not None
    assert found.cost.low < 0.5 * 0.0021 < found.cost.high
    live = by_difficulty(bundled(), DECISIONS[0].threshold)
    better = gain(DECISIONS, knowing, live)
    assert better.low is not None
    assert better.low > 0


def test_what_the_log_has_no_signals_of_is_left_out_and_counted() -> None:
    decisions = [each if i % 3 else replace(each, signals={}) for i, each in enumerate(DECISIONS)]
    found = replay(decisions, by_difficulty(bundled(), 0.5))
    assert (found.requests, found.without_signals) == (1000, 500)


def test_what_the_policy_abstained_from_goes_to_the_dearer_model_again() -> None:
    unknown = replace(DECISIONS[0], signals={}, abstained=True, score=1, is_dear=True, propensity=1.0)
    found = replay([unknown] * 4, by_difficulty(bundled(), 0.999))
    assert (found.requests, found.share, found.flipped) == (4, 1, ())


def test_a_fallback_counts_for_the_share_but_says_nothing_of_the_quality() -> None:
    decisions = [replace(each, propensity=None) for each in DECISIONS[:50]]
    found = replay(decisions, by_difficulty(bundled(), 0.5))
    assert (found.requests, found.scored, found.quality.value) == (50, 0, None)


def test_without_feedback_the_share_and_the_cost_are_told_and_the_quality_is_not() -> None:
    decisions = [replace(each, feedback=None) for each in DECISIONS]
    found = replay(decisions, by_difficulty(bundled(), 0.5))
    assert found.share is not None
    assert found.cost.value is not None
    assert (found.quality.value, found.quality.low, found.quality.high) == (None, 0, 1)


def test_nothing_can_be_said_of_nothing() -> None:
    found = replay([], by_length(150))
    assert (found.requests, found.share, found.quality.value, found.cost.value) == (0, None, None, None)
