"""The policy `difficulty`: the dearest model for what the cheapest would probably not do."""

from __future__ import annotations

from gateway.routing.difficulty import DifficultyModel, bundled
from gateway.routing.features import Features
from gateway.routing.policy import Score


class ByDifficulty:
    """`model` is the one in use, by default that which comes with the gateway; `fixed_threshold` is a
    probability, by default the model's own."""

    name = "difficulty"

    def __init__(self, model: DifficultyModel | None = None, fixed_threshold: float | None = None) -> None:
        self._model = model
        self._fixed_threshold = fixed_threshold

    @property
    def model(self) -> DifficultyModel:
        """The model that scores from now on; another may be put in its place at any time."""
        return self._model or bundled()

    @model.setter
    def model(self, model: DifficultyModel | None) -> None:
        self._model = model

    @property
    def threshold(self) -> float:
        return self.model.threshold if self._fixed_threshold is None else self._fixed_threshold

    def score(self, features: Features) -> Score:
        return self.model.score(features.signals)

    def in_words(self, score: Score, threshold: float) -> str:
        if score.abstains:
            return "nothing to judge its difficulty by"
        relation = "more than" if score.is_above(threshold) else "at most"
        factors = ", ".join(f"{each.name} {each.weight:+.2f}" for each in score.factors)
        return f"difficulty {score.value:.3f}, {relation} {threshold:.3f}" + (
            f" ({factors})" if factors else ""
        )
