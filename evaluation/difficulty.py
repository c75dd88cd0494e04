"""The `difficulty` policy, trained by the gateway's own fitting on what it is not judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from evaluation.data import TRAINABLE, Outcome, by_pair, fold_of, split
from evaluation.metrics import mean
from evaluation.policies import Policy
from evaluation.prices import LEAST_CHARACTERS, price_of
from evaluation.train_difficulty import Trained, train

NAME = "difficulty"
LEFT_OUT = "difficulty, without the benchmark's family"
PER_DOLLAR = "difficulty over extra cost (a try)"
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
        self._by_fold: dict[int, Trained] = {}
        self._known: dict[tuple[int, str], float] = {}

    def without_fold(self, fold: int) -> Trained:
        """The model that has not seen the fold."""
        if fold not in self._by_fold:
            self._by_fold[fold] = train(split(self._outcomes, fold)[0])
        return self._by_fold[fold]

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
            self._known[fold, prompt] = self.without_fold(fold).score(prompt)
        return self._known[fold, prompt]

    @property
    def policies(self) -> list[Policy]:
        return [
            Policy(NAME, lambda outcomes: [self.score(each.prompt, each.stem) for each in outcomes]),
            Policy(LEFT_OUT, self._scores_without_family),
            Policy(PER_DOLLAR, self._scores_per_dollar),
        ]

    def _scores_without_family(self, outcomes: Sequence[Outcome]) -> list[float]:
        scores: dict[str, float] = {}
        for each in outcomes:
            if each.prompt not in scores:
                scores[each.prompt] = self._without_family[each.benchmark].score(each.prompt)
        return [scores[each.prompt] for each in outcomes]

    def _scores_per_dollar(self, outcomes: Sequence[Outcome]) -> list[float]:
        """By what the expensive model costs more on this prompt than on the mean one, if all answers were as
        long: what the next dollar buys most with."""
        usual = {
            pair: (
                mean([len(each.prompt) for each in rows]),
                mean([each.expensive_out_chars or LEAST_CHARACTERS for each in rows]),
            )
            for pair, rows in by_pair(outcomes).items()
        }
        scores = []
        for each in outcomes:
            expensive, cheap = price_of(each.pair.expensive), price_of(each.pair.cheap)
            prompt, answer = usual[each.pair]
            extra = expensive.of(len(each.prompt), answer) - cheap.of(len(each.prompt), answer)
            usually = expensive.of(prompt, answer) - cheap.of(prompt, answer)
            scores.append(self.score(each.prompt, each.stem) * usually / extra)
        return scores
