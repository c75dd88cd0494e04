"""The `difficulty` policy is judged by models that have not seen the question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.data import FILES, TRAINABLE, Outcome, load
from evaluation.difficulty import CrossValidated
from evaluation.train_difficulty import subjects

SAMPLE = Path(__file__).parent.parent / "data" / "routing"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[Outcome]]]:
    """Those of the sample; training reads the subjects from the same place."""
    monkeypatch.setenv("ROUTING_DATA", str(SAMPLE))
    subjects.cache_clear()
    yield {name: load(name) for name in FILES if name in TRAINABLE}
    subjects.cache_clear()


def with_other_outcomes(outcomes: list[Outcome], fold: int) -> list[Outcome]:
    """The same, but in this fold the other model was the better one."""
    return [
        replace(each, cheap_score=each.expensive_score, expensive_score=each.cheap_score)
        if each.fold == fold
        else each
        for each in outcomes
    ]


def test_the_outcome_of_a_question_changes_the_scores_of_another_fold_but_not_of_its_own(
    benchmarks: dict[str, list[Outcome]],
) -> None:
    changed = {name: with_other_outcomes(outcomes, fold=2) for name, outcomes in benchmarks.items()}
    before, after = CrossValidated(benchmarks), CrossValidated(changed)
    same = {2: set[bool](), 3: set[bool]()}
    for each in benchmarks["gsm8k-fixed"]:
        if each.fold in same:
            is_same = before.score(each.prompt, each.stem) == after.score(each.prompt, each.stem)
            same[each.fold].add(is_same)
    assert same[2] == {True}
    assert False in same[3]
