"""The model of difficulty: a probability with its uncertainty and its reasons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.data import load
from gateway.routing import difficulty, topics
from gateway.routing.difficulty import DifficultyModel, Signal, bundled, probability
from gateway.routing.signals import kind_of, signals_of
from tests.unit.test_evaluation_data import SAMPLE


def model(**weights: float) -> DifficultyModel:
    signals = {
        f"{name}/x": Signal(mean=1.0, scale=2.0, low=-10.0, high=10.0, weight=weight, deviations=(0.1, -0.1))
        for name, weight in weights.items()
    }
    return DifficultyModel(signals, intercept=-1.0, slope=4.0, threshold=0.3)


def test_a_prompt_like_the_mean_has_the_probability_of_the_intercept() -> None:
    assert model(a=0.5).score({"a/x": 1.0}).value == pytest.approx(probability(-1.0))


def test_a_gain_raises_the_log_odds_by_the_slope() -> None:
    # Two scales above the mean at .5 each are a gain of 1.
    assert model(a=0.5).score({"a/x": 5.0}).value == pytest.approx(probability(-1.0 + 4.0))


def test_a_signal_that_is_not_named_is_zero() -> None:
    both = model(a=0.5, b=0.1)
    assert both.score({"a/x": 5.0}).value == pytest.approx(both.score({"a/x": 5.0, "b/x": 0.0}).value)


def test_a_signal_that_the_model_does_not_know_counts_nothing() -> None:
    assert model(a=0.5).score({"a/x": 5.0, "new/x": 9.0}) == model(a=0.5).score({"a/x": 5.0})


def test_what_is_beyond_the_examples_counts_as_the_nearest_that_they_had() -> None:
    known = model(a=0.5)
    assert known.score({"a/x": 1e9}) == known.score({"a/x": 10.0})
    assert known.score({"a/x": -1e9}) == known.score({"a/x": -10.0})


def test_without_signals_it_abstains_and_so_asks_for_the_dearer_model() -> None:
    score = model(a=0.5).score({})
    assert score.abstains
    assert score.is_above(0.99)
    assert score.factors == ()


def test_the_uncertainty_grows_away_from_the_mean() -> None:
    known = model(a=0.0)
    near, far = known.score({"a/x": 1.5}), known.score({"a/x": 5.0})
    assert near.value == far.value
    assert near.uncertainty is not None
    assert far.uncertainty is not None
    assert 0 < near.uncertainty < far.uncertainty
    # Of 2 scales at .1 each, by the slope and the logistic curve.
    assert far.uncertainty == pytest.approx(0.2 * 4.0 * far.value * (1 - far.value))


def test_the_three_signals_that_counted_most_are_told_with_their_direction() -> None:
    score = model(a=0.1, b=-0.5, c=0.3, d=0.2).score(dict.fromkeys(("a/x", "b/x", "c/x", "d/x"), 5.0))
    assert [factor.name for factor in score.factors] == ["b", "c", "d"]
    assert [factor.weight for factor in score.factors] == pytest.approx([-4.0, 2.4, 1.6])


def test_a_model_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(bundled().to_json(), encoding="utf-8")
    assert DifficultyModel.load(path) == bundled()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"intercept": 0, "slope": 1, "threshold": 0.5, "signals": {"a": {}}}',
        '{"intercept": 0, "slope": "much", "threshold": 0.5, "signals": {}}',
        '{"intercept": 0, "slope": 1, "threshold": 0.5, "signals": {"a/x": {"mean": 0, "scale": 0, "low": 0, '
        '"high": 1, "weight": 1, "deviations": []}}}',
        '{"intercept": 0, "slope": NaN, "threshold": 0.5, "signals": {}}',
    ],
)
def test_what_holds_no_model_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no model of difficulty"):
        DifficultyModel.from_json(text)


def test_the_bundled_files_are_small() -> None:
    assert difficulty.BUNDLED.stat().st_size + topics.BUNDLED.stat().st_size < 300_000


def test_nothing_is_read_before_it_is_wanted() -> None:
    program = (
        "import gateway.routing.difficulty as d, gateway.routing.signals, gateway.routing.topics as t\n"
        "assert d.bundled.cache_info().currsize == t.bundled.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_the_bundled_model_knows_every_signal_of_real_questions() -> None:
    # Those of forms that the examples did not have are its only unknown ones.
    for outcome in [*load("mmlu-clean", SAMPLE), *load("gsm8k-fixed", SAMPLE)]:
        unknown = signals_of([outcome.prompt]).keys() - bundled().signals.keys()
        assert all(name.startswith("topic/") or " in " in name for name in unknown), unknown


def test_the_bundled_model_scores_real_questions_apart_and_never_certain() -> None:
    scores = [bundled().score(signals_of([each.prompt])) for each in load("mmlu-clean", SAMPLE)]
    values = [score.value for score in scores if not score.abstains]
    assert len(values) > 0.98 * len(scores)
    assert 0.05 < min(values) < bundled().threshold < max(values) < 0.95
    assert all(
        score.uncertainty is not None and score.uncertainty < 0.2 for score in scores if not score.abstains
    )


def test_the_bundled_models_reasons_name_kinds_and_topics_only() -> None:
    kinds = {kind_of(name) for name in bundled().signals}
    known = {f"topic: {name}" for name in topics.bundled().names}
    assert kinds - known == {"form", "formulas", "length", "numbers", "options", "wording"}
    for outcome in load("mmlu-clean", SAMPLE):
        assert {factor.name for factor in bundled().score(signals_of([outcome.prompt])).factors} <= kinds


def test_longer_word_problems_are_harder() -> None:
    problem = "Ann has 12 apples and gives half of them to her brother. How many apples does she have left?"
    longer = f"Ann picks 7 apples. Her brother picks twice as many. Then they share them. {problem}"
    short, long = (bundled().score(signals_of([text])) for text in (problem, longer))
    assert long.value > short.value
