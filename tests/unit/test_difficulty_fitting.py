"""Fitting the model of difficulty to outcomes."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from evaluation.data import load
from evaluation.metrics import Ranking
from evaluation.train_difficulty import topic_of, train
from gateway.routing.difficulty import DifficultyModel, bundled
from gateway.routing.fitting import FEWEST_EXAMPLES, Example, NothingToLearn, fit
from gateway.routing.signals import signals_of
from tests.unit.test_evaluation_data import SAMPLE


def examples(
    count: int, seed: int = 1, effect: float = 1.0, level: float = -1.5, group: str = ""
) -> list[Example]:
    """Prompts of which signal a makes the dearer model's answer the only good one more often, and b does
    nothing."""
    drawing = random.Random(seed)
    found = []
    for _ in range(count):
        a, b = drawing.gauss(2, 1), drawing.gauss(0, 3)
        chance = 1 / (1 + math.exp(-(level + effect * (a - 2))))
        outcome = float(drawing.random() < chance)
        found.append(Example({"a/x": a, "b/x": b, "form/prose": 1.0}, outcome, group=group))
    return found


def value(model: DifficultyModel, a: float) -> float:
    return model.score({"a/x": a, "form/prose": 1.0}).value


def test_what_makes_the_difference_is_found() -> None:
    model = fit(examples(3000))
    effect = {name: signal.weight for name, signal in model.signals.items()}
    assert effect["a/x"] > 0.1
    assert abs(effect["b/x"]) < effect["a/x"] / 5


def test_the_probability_is_calibrated() -> None:
    model = fit(examples(4000))
    fresh = sorted((model.score(each.signals).value, each.outcome) for each in examples(4000, seed=2))
    for begin in range(0, 4000, 500):
        part = fresh[begin : begin + 500]
        told = sum(probable for probable, _ in part) / len(part)
        true = sum(outcome for _, outcome in part) / len(part)
        assert told == pytest.approx(true, abs=0.06)


def test_the_true_probability_lies_within_the_uncertainty() -> None:
    inside = 0
    for seed in range(40):
        score = fit(examples(400, seed=seed)).score({"a/x": 2.0, "form/prose": 1.0})
        assert score.uncertainty is not None
        inside += abs(score.value - 0.182) < 0.06
    assert inside >= 36


def test_more_examples_make_it_more_certain() -> None:
    few = fit(examples(200)).score({"a/x": 4.0, "form/prose": 1.0})
    many = fit(examples(5000)).score({"a/x": 4.0, "form/prose": 1.0})
    assert few.uncertainty is not None
    assert many.uncertainty is not None
    assert many.uncertainty < few.uncertainty / 2


def test_the_same_examples_give_the_same_model() -> None:
    assert fit(examples(300)).to_json() == fit(examples(300)).to_json()


def test_the_levels_of_groups_teach_nothing() -> None:
    # In the second group a is larger and only the dearer model does more often, but not because of it.
    first = examples(1500, effect=0.0, level=-2.0, group="first")
    second = [
        replace(each, signals={**each.signals, "a/x": each.signals["a/x"] + 5})
        for each in examples(1500, seed=2, effect=0.0, level=2.0, group="second")
    ]
    apart = fit([*first, *second]).signals["a/x"].weight
    together = fit([replace(each, group="") for each in [*first, *second]]).signals["a/x"].weight
    assert abs(apart) < 0.03
    assert together > 0.2


def test_weights_count_as_repetitions() -> None:
    some = examples(400)
    doubled = fit([replace(each, weight=5.0 if each.signals["a/x"] > 2 else 0.0) for each in some])
    assert doubled.signals.keys() <= fit([each for each in some if each.signals["a/x"] > 2]).signals.keys()
    mixed = [*some, *(replace(each, outcome=1 - each.outcome, weight=1e-9) for each in some)]
    assert value(fit(mixed), 4.0) > value(fit(mixed), 0.0)


def test_the_worse_answer_of_the_dearer_model_speaks_against_it() -> None:
    plain = examples(1000)
    against = [replace(each, outcome=-1.0) if each.signals["a/x"] < 1 else each for each in plain]
    assert fit(against).signals["a/x"].weight > fit(plain).signals["a/x"].weight


def test_few_examples_leave_a_prior_where_it_is_and_many_move_it() -> None:
    prior = fit(examples(3000, effect=1.0))
    few = fit(examples(60, seed=3, effect=-1.0), prior)
    many = fit(examples(5000, seed=3, effect=-1.0), prior)
    assert prior.signals["a/x"].weight > few.signals["a/x"].weight > many.signals["a/x"].weight
    assert many.signals["a/x"].weight < 0


def test_a_signal_that_the_prior_lacks_is_learned() -> None:
    prior = fit([replace(each, signals={"b/x": each.signals["b/x"]}) for each in examples(500)])
    assert fit(examples(2000), prior).signals["a/x"].weight > 0.1


def test_of_a_form_that_the_examples_lack_the_prior_keeps_its_distance() -> None:
    prose = examples(500, level=-2.0)
    code = [
        replace(each, signals={**each.signals, "form/prose": 0.0, "form/code": 1.0})
        for each in examples(500, seed=2, level=1.0)
    ]
    prior = fit([*prose, *code])
    further = fit(examples(500, seed=3, level=-2.0), prior)
    for model in (prior, further):
        told = {form: model.score({"a/x": 2.0, form: 1.0}).value for form in ("form/prose", "form/code")}
        assert told["form/prose"] == pytest.approx(0.12, abs=0.06)
        assert told["form/code"] == pytest.approx(0.73, abs=0.12)


def test_the_bundled_model_can_be_fitted_further() -> None:
    outcomes = load("gsm8k-fixed", SAMPLE)
    model = fit([Example(signals_of([each.prompt]), each.gain) for each in outcomes], bundled())
    assert model.signals.keys() >= bundled().signals.keys()
    assert all(math.isfinite(model.score(signals_of([each.prompt])).value) for each in outcomes)


def nothing() -> Iterator[list[Example]]:
    yield []
    yield examples(FEWEST_EXAMPLES - 1)
    yield [replace(each, outcome=1.0) for each in examples(200)]
    yield [replace(each, signals={}) for each in examples(200)]
    yield [replace(each, weight=0.0) for each in examples(200)]


@pytest.mark.parametrize("given", list(nothing()))
def test_from_nothing_nothing_is_learned(given: list[Example]) -> None:
    with pytest.raises(NothingToLearn):
        fit(given)


def test_signals_that_never_differ_do_no_harm() -> None:
    model = fit([replace(each, signals={"a/x": 1.0, "b/x": 1.0}) for each in examples(200)])
    assert 0 < model.score({"a/x": 1.0, "b/x": 1.0}).value < 1


def test_a_thousand_examples_are_fitted_in_a_second_or_two() -> None:
    outcomes = load("mmlu-clean", SAMPLE)
    given = [Example(signals_of([each.prompt]), each.gain) for each in outcomes]
    given = (given * (1000 // len(given) + 1))[:1000]
    start = time.thread_time()
    fit(given, bundled())
    assert time.thread_time() - start < 10


def test_the_script_trains_a_model_that_ranks_what_it_has_not_seen() -> None:
    outcomes = load("gsm8k-fixed", SAMPLE) + load("gsm8k-ze", SAMPLE)
    trained = train([each for each in outcomes if each.fold != 0])
    assert all(0 <= trained.score(each.prompt) <= 1 for each in outcomes)
    seen = [each for each in outcomes if each.fold != 0 and each.benchmark == "gsm8k-fixed"]
    # On what it has seen it must be better than chance; the sample is too small to say more of the rest.
    assert Ranking([trained.score(each.prompt) for each in seen], [each.gain for each in seen]).apgr() > 0.5


@pytest.mark.parametrize(
    ("subject", "topic"),
    [
        ("professional_law", "law"),
        ("law|ori_mmlu-professional_law", "law"),
        ("chemistry|stemez-PhysicalChemistry", "chemistry"),
        ("high_school_us_history", "history"),
        ("us_foreign_policy", "us foreign policy"),
    ],
)
def test_subjects_of_all_levels_are_one_topic(subject: str, topic: str) -> None:
    assert topic_of(subject) == topic
