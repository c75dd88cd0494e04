"""Cascades over recorded answers: by hand, and on a sample of the real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.cascade_figures import (
    RULES,
    cheapest_mix,
    curve,
    filtered_rules,
    outcomes_of,
    single_models,
)
from evaluation.cascades import (
    TRIPLES,
    Answer,
    Question,
    Rule,
    Triple,
    answered,
    expensive_only,
    found,
    in_form,
    load_questions,
    two_agree,
    two_of_three_agree,
)
from evaluation.data import DataError
from evaluation.prices import PRICES, Price

SAMPLE = Path(__file__).parent.parent / "data" / "routing"
TRIPLE = Triple("T", "gsm8k-ze", ("a", "b", "c"), "best")
COSTS = {"a": 1.0, "b": 2.0, "c": 4.0, "best": 100.0}


def question(**finals: str | None) -> Question:
    """Answered so; "right" is right."""
    answers = {
        model: Answer(finals.get(model, "right"), finals.get(model, "right") == "right", True, cost)
        for model, cost in COSTS.items()
    }
    return Question("How many?", "how many", answers)


@pytest.mark.parametrize(
    ("rule", "finals", "cost", "is_right"),
    [
        (found, {}, 1, True),
        (found, {"a": "wrong"}, 1, False),
        (found, {"a": None}, 101, True),
        (two_agree, {}, 3, True),
        (two_agree, {"a": "wrong", "b": "wrong"}, 3, False),
        (two_agree, {"a": "wrong"}, 103, True),
        (two_agree, {"a": None, "b": None}, 103, True),
        (two_of_three_agree, {}, 3, True),
        (two_of_three_agree, {"a": "wrong"}, 7, True),
        (two_of_three_agree, {"b": "wrong"}, 7, True),
        (two_of_three_agree, {"a": "wrong", "c": "wrong"}, 7, False),
        (two_of_three_agree, {"a": "wrong", "b": "other"}, 107, True),
        (two_of_three_agree, {"a": None, "b": "wrong", "c": None}, 107, True),
        (expensive_only, {"best": "wrong"}, 100, False),
    ],
)
def test_every_call_is_paid_and_the_right_answer_is_given(
    rule: Rule, finals: dict[str, str | None], cost: float, is_right: bool
) -> None:
    served = rule(question(**finals), TRIPLE)
    assert (served.cost, served.is_right, served.is_escalated) == (cost, is_right, cost >= 100)


def test_an_answer_that_is_not_in_the_form_asked_for_is_asked_again() -> None:
    formless = question()
    formless.answers["a"] = replace(formless.answers["a"], is_in_form=False)
    assert in_form(formless, TRIPLE).cost == 101
    assert found(formless, TRIPLE).cost == 1


def test_what_the_filter_finds_hard_pays_no_cheap_call() -> None:
    questions = [replace(question(), prompt="long" * number) for number in range(10)]
    rules = filtered_rules({"length": lambda each: len(each.prompt)}, questions)
    rule = rules["two agree, hardest 20% by length at once"]
    assert [rule(each, TRIPLE).cost for each in questions] == [3] * 8 + [100] * 2


def test_a_curve_goes_from_the_rule_alone_to_the_expensive_model_alone() -> None:
    questions = [question(), question(a="wrong", b="wrong")] * 10
    points = curve(two_agree, lambda each: each.answers["a"].final == "wrong", questions, TRIPLE)
    assert points[0] == pytest.approx((0.03, 0.5))
    assert points[10] == pytest.approx((0.515, 1.0))
    assert points[-1] == (1.0, 1.0)


def test_the_cheapest_mix_is_found() -> None:
    models = [(0.1, 0.5), (0.2, 0.9), (1.0, 1.0)]
    assert cheapest_mix(models, 0.4) == 0.1
    assert cheapest_mix(models, 0.7) == pytest.approx(0.15)
    assert cheapest_mix(models, 0.95) == pytest.approx(0.6)
    assert cheapest_mix(models, 1.01) == float("inf")
    assert cheapest_mix([(0.1, 1.1), (1.0, 1.0)], 1.0) == 0.1


def test_on_real_answers_two_of_three_save_most_of_the_cost_and_lose_no_quality() -> None:
    triple = TRIPLES[0]
    questions = answered(load_questions("gsm8k-ze", SAMPLE), triple)
    assert len(questions) == 120
    by_name = {each.name: each for each in outcomes_of(RULES, questions, triple, times=50)}
    best = by_name["two of three agree"]
    assert best.quality.value > 0.97
    assert 0.08 < best.cost.value < 0.13
    assert best.verdict == "yes"
    assert best.cost.low < best.cost.value < best.cost.high
    assert best.cost.value < by_name["two agree"].cost.value < 0.3
    assert all(cost < 0.1 for cost, _ in list(single_models(questions, triple).values())[:3])


def test_a_price_is_per_million_tokens_of_four_characters() -> None:
    assert Price(3, 15).of(400, 40) == pytest.approx((100 * 3 + 10 * 15) / 1e6)


def test_every_model_of_a_triple_has_a_price() -> None:
    for triple in TRIPLES:
        assert {model.removeprefix("meta-") for model in (*triple.cheap, triple.expensive)} <= set(PRICES)


def test_missing_answers_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"math-l5\.jsonl\.gz is missing"):
        load_questions("math-l5", tmp_path)
