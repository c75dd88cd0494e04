"""What the page says of the figures."""

from __future__ import annotations

from pathlib import Path

from evaluation.aims import cascade_aims, policy_aims
from evaluation.cascade_figures import Outcome, single_models
from evaluation.cascades import TRIPLES, answered, load_questions
from evaluation.data import TRAINABLE, load
from evaluation.figures import MACRO, Figures, Point, figures_of, macro
from evaluation.metrics import Interval
from evaluation.policies import LENGTH, ORACLE, RANDOM
from evaluation.tables import cascade_table, difference_table, policy_tables

SAMPLE = Path(__file__).parent.parent / "data" / "routing"


def figures(apgr: float) -> dict[str, Figures]:
    """The same on all benchmarks."""
    samples = [apgr - 0.01, apgr, apgr + 0.01]
    known = Interval(apgr, apgr - 0.01, apgr + 0.01)
    own = Figures("made up", "all", known, 0.4, 0.7, 0.5, Point(0.9, 0.6), samples)
    return dict.fromkeys((*TRAINABLE, MACRO), own)


def cascade(quality: float, cost: float) -> Outcome:
    return Outcome("a rule", Interval(quality, quality, quality), Interval(cost, cost, cost), 2, 0.1, 0.8)


def met(block: str) -> list[str]:
    return [line.split("|")[-2].strip() for line in block.splitlines()[2:]]


def test_an_aim_that_was_missed_is_said_to_be_missed() -> None:
    rivals = {"rival": figures(0.55)}
    assert met(policy_aims({"ours": figures(0.64)} | rivals, "ours", ["rival"])) == ["yes"] * 4
    assert met(policy_aims({"ours": figures(0.60)} | rivals, "ours", ["rival"])) == [
        "yes",
        "no",
        "yes",
        "yes",
    ]
    assert met(policy_aims({"ours": figures(0.48)} | rivals, "ours", ["rival"])) == ["no"] * 4
    assert met(cascade_aims("T", cascade(0.99, 0.12))) == ["yes"]
    assert met(cascade_aims("T", cascade(0.989, 0.1))) == met(cascade_aims("T", cascade(1, 0.13))) == ["no"]


def test_the_tables_name_every_policy_and_never_a_cost_without_its_quality() -> None:
    policies = [RANDOM, LENGTH, ORACLE]
    found = figures_of(policies, "gsm8k-fixed", load("gsm8k-fixed", SAMPLE), times=20)
    by_policy = {name: {"gsm8k-fixed": each, MACRO: macro([each])} for name, each in found.items()}
    text = policy_tables(by_policy)
    for policy in policies:
        assert text.count(f"| {policy.name} |") == 4
    half = found["random"].half
    assert f"{100 * half.quality:.1f} / {100 * half.cost:.1f}" in text
    assert "| oracle | -" in difference_table(by_policy, "prompt_length")


def test_a_cascades_table_has_the_single_models_that_it_must_beat() -> None:
    triple = TRIPLES[1]
    questions = answered(load_questions("gsm8k-ze", SAMPLE), triple)
    text = cascade_table(triple, single_models(questions, triple), [cascade(0.99, 0.9), cascade(0.99, 0.7)])
    assert all(f"| {model} alone |" in text for model in (*triple.cheap, triple.expensive))
    assert [line.split("|")[-2].strip() for line in text.splitlines()[-2:]] == ["no", "yes"]
