"""A model of difficulty that was fitted to a user's own traffic, as it is kept in Redis."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.routing.decision import Decision
from gateway.routing.difficulty import DifficultyModel

FOLDS = 4


class UnreadableModel(ValueError):
    """What Redis has is no trained model, or that of another version of the gateway."""


@dataclass(frozen=True)
class Fitted:
    """A model and the threshold that goes with it."""

    model: DifficultyModel
    threshold: float

    @property
    def to_serve(self) -> DifficultyModel:
        """The model with that threshold as its own."""
        return replace(self.model, threshold=self.threshold)

    def wants_dear(self, decision: Decision) -> bool:
        """Whether it would have asked the dearer model."""
        return self.model.score(decision.signals).is_above(self.threshold)


@dataclass(frozen=True)
class TrainedModel:
    """`whole` learned from `trained_on` decisions up to `trained_at`, in seconds since 1970; each of `folds`
    from the same without one part of them, so that something can be said of decisions which it has not
    seen."""

    version: str
    trained_at: float
    trained_on: int
    share: float
    whole: Fitted
    folds: Sequence[Fitted]

    def unseen(self, decision: Decision) -> Fitted:
        """The model that has not learned from a decision."""
        return self.whole if decision.time > self.trained_at else self.folds[fold_of(decision)]

    def to_json(self) -> str:
        return json.dumps(
            {
                "version": self.version,
                "trained_at": self.trained_at,
                "trained_on": self.trained_on,
                "share": self.share,
                "models": [
                    {"threshold": each.threshold, "model": json.loads(each.model.to_json())}
                    for each in (self.whole, *self.folds)
                ],
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> TrainedModel:
        """
        :raises UnreadableModel:
        """
        try:
            values = json.loads(text)
            whole, *folds = [
                Fitted(DifficultyModel.from_json(json.dumps(each["model"])), float(each["threshold"]))
                for each in values["models"]
            ]
            if len(folds) != FOLDS:
                raise ValueError("not as many folds as there should be")
            return cls(
                version=str(values["version"]),
                trained_at=float(values["trained_at"]),
                trained_on=int(values["trained_on"]),
                share=float(values["share"]),
                whole=whole,
                folds=folds,
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableModel("the trained model cannot be read") from error


def fold_of(decision: Decision) -> int:
    """The part of the decisions that one belongs to, whenever it is asked."""
    return zlib.crc32(decision.name.encode()) % FOLDS
