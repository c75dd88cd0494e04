"""The policies that are compared: each gives every prompt a score, the higher the more it wants the expensive
model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.data import Outcome

# The scores of a benchmark's outcomes, in their order.
Scoring = Callable[[Sequence[Outcome]], list[float]]


@dataclass(frozen=True)
class Policy:
    """`note` says how it came to its scores, for the table."""

    name: str
    scores: Scoring
    note: str = ""


def by_prompt(score: Callable[[str], float]) -> Scoring:
    """Each prompt is scored once, however often it is asked for."""
    known: dict[str, float] = {}

    def scores(outcomes: Sequence[Outcome]) -> list[float]:
        for outcome in outcomes:
            if outcome.prompt not in known:
                known[outcome.prompt] = score(outcome.prompt)
        return [known[outcome.prompt] for outcome in outcomes]

    return scores


RANDOM = Policy("random", lambda outcomes: [0.0] * len(outcomes), "one score for all")
LENGTH = Policy("prompt_length", by_prompt(len), "the default")
ORACLE = Policy(
    "oracle", lambda outcomes: [outcome.gain for outcome in outcomes], "knows both answers' scores"
)
