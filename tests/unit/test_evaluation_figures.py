"""The figures of a policy, by hand and on a sample of the real data."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.data import Outcome, Pair, load
from evaluation.figures import (
    area_by_cost,
    cost_of,
    difference,
    figures_of,
    macro,
    points,
)
from evaluation.policies import LENGTH, ORACLE, RANDOM, Policy
from evaluation.prices import price_of

SAMPLE = Path(__file__).parent.parent / "data" / "routing"
PAIR = Pair("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06")


def outcome(cheap: float, expensive: float, prompt: str = "four") -> Outcome:
    return Outcome("1", "made up", prompt, prompt, PAIR, cheap, expensive, 4, 4)


def test_a_point_has_the_quality_and_the_cost_of_its_share() -> None:
    outcomes = [outcome(0, 1), outcome(1, 1), outcome(1, 1), outcome(0, 0)]
    cheap = price_of(PAIR.cheap).of(4, 4) / price_of(PAIR.expensive).of(4, 4)
    none, quarter, whole = points([4, 3, 2, 1], outcomes, [0, 0.25, 1])
    assert (none.quality, none.cost) == pytest.approx((2 / 3, cheap))
    assert (quarter.quality, quarter.cost) == pytest.approx((1, cheap + (1 - cheap) / 4))
    assert (whole.quality, whole.cost) == pytest.approx((1, 1))


def test_a_share_that_cuts_through_a_tie_gets_its_part_of_it() -> None:
    outcomes = [outcome(0, 1), outcome(1, 1)]
    assert points([1, 1], outcomes, [0.25])[0].quality == pytest.approx((1 + 0.25) / 2)


def test_long_prompts_first_spend_more_than_their_share() -> None:
    outcomes = [outcome(0, 1, "a long prompt " * 20), outcome(0, 1, "short")]
    assert points([2, 1], outcomes, [0.5])[0].cost > 0.9
    assert area_by_cost([2, 1], outcomes) < 0.5 < area_by_cost([1, 2], outcomes)
    assert area_by_cost([1, 1], outcomes) == pytest.approx(0.5)


def test_an_answer_of_unknown_length_costs_one_token() -> None:
    unknown = cost_of(outcome(1, 1), PAIR.cheap, None)
    assert unknown == pytest.approx(price_of(PAIR.cheap).of(4, 4))


def test_on_real_outcomes_the_oracle_is_above_length_and_length_above_its_inverse() -> None:
    inverse = Policy("inverse", lambda outcomes: [-score for score in LENGTH.scores(outcomes)])
    policies = [RANDOM, LENGTH, inverse, ORACLE]
    benchmarks = [
        figures_of(policies, name, load(name, SAMPLE), times=200)
        for name in ("mmlu-clean", "gsm8k-fixed", "gsm8k-ze")
    ]
    of = {policy.name: macro([each[policy.name] for each in benchmarks]) for policy in policies}
    assert of["random"].apgr.value == of["random"].apgr.high == pytest.approx(0.5)
    assert of["inverse"].apgr.value < 0.5 < of["prompt_length"].apgr.value < 0.8 < of["oracle"].apgr.value
    assert of["inverse"].apgr.value + of["prompt_length"].apgr.value == pytest.approx(1)
    assert of["random"].cpt80 == pytest.approx(0.8)
    assert of["oracle"].cpt80 < 0.3
    above = difference(of["oracle"], of["prompt_length"])
    assert 0 < above.low < above.value < above.high
    assert of["oracle"].half.quality > of["random"].half.quality
