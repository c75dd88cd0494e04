"""The `difficulty` policy, trained by the gateway's own fitting on what it is not judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from evaluation.data import FOLDS, TRAINABLE, Outcome, fold_of, split
from evaluation.policies import Policy
from evaluation.train_difficulty import Trained, train

NAME = "difficulty"
LEFT_OUT = "difficulty, without the benchmark's family"
# Benchmarks with the same questions, or the same kind of questions.
FAMILIES = (
    ("mmlu-clean", "mmlu-pro", "mmlu"),
    ("gsm8k-fixed", "gsm8k-ze", "gsm8k"),
    ("math-l5",),
    ("alpaca-eval",),
)


class CrossValidated:
    """One model for each fold, trained on all permitted benchmarks outside it; and one for each family of
    benchmarks, trained on the others. Training takes its time, and happens when a score is first wanted."""

    def __init__(self, benchmarks: Mapping[str, Sequence[Outcome]]) -> None:
        self._outcomes = [outcome for name in TRAINABLE for outcome in benchmarks[name]]
        self._known: dict[tuple[int, str], float] = {}

    @cached_property
    def _by_fold(self) -> list[Trained]:
        return [train(split(self._outcomes, fold)[0]) for fold in range(FOLDS)]

    @cached_property
    def _without_family(self) -> dict[str, Trained]:
        found = {}
        for family in FAMILIES:
            model = train([outcome for outcome in self._outcomes if outcome.benchmark not in family])
            found.update(dict.fromkeys(family, model))
        return found

    def score(self, prompt: str, stem: str) -> float:
        """By the model that has not seen the prompt's fold."""
        fold = fold_of(stem)
        if (fold, prompt) not in self._known:
            self._known[fold, prompt] = self._by_fold[fold].score(prompt)
        return self._known[fold, prompt]

    @property
    def policies(self) -> list[Policy]:
        return [
            Policy(NAME, lambda outcomes: [self.score(each.prompt, each.stem) for each in outcomes]),
            Policy(LEFT_OUT, self._scores_without_family),
        ]

    def _scores_without_family(self, outcomes: Sequence[Outcome]) -> list[float]:
        scores: dict[str, float] = {}
        for each in outcomes:
            if each.prompt not in scores:
                scores[each.prompt] = self._without_family[each.benchmark].score(each.prompt)
        return [scores[each.prompt] for each in outcomes]
