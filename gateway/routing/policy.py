"""What a policy is: features in, a score and its reasons out. Pure: no I/O, no state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gateway.routing.features import Features

POLICIES = ("prompt_length", "difficulty", "cascade")  # the first is the default
IS_CHECKED = "its answer is checked"


@dataclass(frozen=True)
class Factor:
    """One thing that counted, and how much of the score it made: more than zero towards the dearer model.
    `name` holds nothing of the prompt."""

    name: str
    weight: float


@dataclass(frozen=True)
class Score:
    """How much a policy wants the dearer model. `uncertainty` is the standard error of `value`, where the
    policy has one; `factors` are those that counted most, the weightiest first. One that `abstains` has
    found nothing to go by, which speaks for the dearer model."""

    value: float
    uncertainty: float | None = None
    factors: tuple[Factor, ...] = ()
    abstains: bool = False

    def is_above(self, threshold: float) -> bool:
        """Whether it asks for the dearer model."""
        return self.abstains or self.value > threshold


class Policy(Protocol):
    """`threshold` is where the line is drawn unless something else moves it."""

    @property
    def name(self) -> str: ...

    @property
    def threshold(self) -> float: ...

    def score(self, features: Features) -> Score: ...

    def in_words(self, score: Score, threshold: float) -> str:
        """The reason for the choice, without any of the prompt."""
        ...


class PromptLength:
    """The dearest model for what is longer than `threshold` characters."""

    name = "prompt_length"

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold

    def score(self, features: Features) -> Score:
        return Score(features.characters)

    def in_words(self, score: Score, threshold: float) -> str:
        relation = "more than" if score.is_above(threshold) else "at most"
        return f"{score.value} characters, {relation} {threshold:.10g}"


class AskFirst:
    """The cheapest model for all. What becomes of its answer is no policy's: `gateway/cascade/`."""

    name = "cascade"
    threshold = 0.0

    def score(self, features: Features) -> Score:
        return Score(0.0)

    def in_words(self, score: Score, threshold: float) -> str:
        return f"asked first; {IS_CHECKED}"
