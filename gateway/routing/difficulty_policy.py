"""The policy that asks the dearest model for what the cheapest would probably fail at."""

from __future__ import annotations

from gateway.routing.difficulty import DifficultyModel, bundled
from gateway.routing.features import Features
from gateway.routing.policy import Score


class Difficulty:
    """By `model`, by default the one that comes with the gateway; `threshold` is that of the model unless it
    is given."""

    name = "difficulty"

    def __init__(self, model: DifficultyModel | None = None, threshold: float | None = None) -> None:
        self._model = model
        self._threshold = threshold

    @property
    def model(self) -> DifficultyModel:
        return self._model or bundled()  # read when it is first used

    @property
    def threshold(self) -> float:
        return self.model.threshold if self._threshold is None else self._threshold

    def score(self, features: Features) -> Score:
        return self.model.score(features.signals)

    def in_words(self, score: Score, threshold: float) -> str:
        if score.abstains:
            return "nothing to tell the difficulty by"
        relation = "more than" if score.is_above(threshold) else "at most"
        factors = ", ".join(f"{each.name} {each.weight:+.2f}" for each in score.factors)
        return f"difficulty {score.value:.3f}, {relation} {threshold:.3f}" + (
            f" ({factors})" if factors else ""
        )
