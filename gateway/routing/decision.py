"""One decision of a routing policy, as it is remembered for learning: numbers and names, never a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import orjson

from gateway.routing.policy import Score

DIGITS = 6  # that a score or a signal is kept with


class UnreadableDecision(ValueError):
    """What Redis has is no decision, or that of another version of the gateway."""


class Remembered(NamedTuple):
    """A decision on its way to Redis. `time` is seconds since 1970."""

    name: str
    record: str
    time: float


@dataclass(frozen=True)
class Decision:
    """`model` answered, `other` is the model on the other side of the threshold; `is_dear` says that `model`
    is the dearer of the two. `propensity` is the probability with which this one was chosen, None where more
    than chance and the policy had a part in it, as in a fallback. `time` is seconds since 1970, `cost` USD;
    `feedback` is how good the answer was, 0 to 1, where somebody has said so."""

    request_id: str
    key_id: str | None
    time: float
    policy: str
    characters: int
    score: float
    threshold: float
    model: str
    other: str
    is_dear: bool
    propensity: float | None
    abstained: bool = False
    signals: Mapping[str, float] = field(default_factory=dict)
    cost: Decimal = Decimal(0)
    input_tokens: int = 0
    output_tokens: int = 0
    feedback: float | None = None

    @property
    def name(self) -> str:
        """That it has in Redis."""
        return name_of(self.request_id, self.key_id)

    def record(self) -> str:
        """All but the ids and the feedback, as compact JSON."""
        return record_of(
            self.time,
            self.policy,
            self.characters,
            Score(self.score, abstains=self.abstained),
            self.threshold,
            self.model,
            self.other,
            self.is_dear,
            self.propensity,
            self.signals,
            self.cost,
            self.input_tokens,
            self.output_tokens,
        )

    @classmethod
    def of(cls, name: str, record: str, feedback: float | None) -> Decision:
        """
        :raises UnreadableDecision:
        """
        key_id, _, request_id = name.partition(":")
        try:
            values = orjson.loads(record)
            return cls(
                request_id=request_id,
                key_id=key_id or None,
                time=float(values["time"]),
                policy=str(values["policy"]),
                characters=int(values["characters"]),
                score=float(values["score"]),
                threshold=float(values["threshold"]),
                model=str(values["model"]),
                other=str(values["other"]),
                is_dear=bool(values["dear"]),
                propensity=_probability(values.get("propensity")),
                abstained=bool(values.get("abstained")),
                signals={str(signal): float(value) for signal, value in values.get("signals", {}).items()},
                cost=Decimal(values["cost_usd"]),
                input_tokens=int(values["input_tokens"]),
                output_tokens=int(values["output_tokens"]),
                feedback=feedback,
            )
        except (LookupError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
            raise UnreadableDecision(f"the decision on {request_id} cannot be read") from error


def record_of(
    time: float,
    policy: str,
    characters: int,
    score: Score,
    threshold: float,
    model: str,
    other: str,
    is_dear: bool,
    propensity: float | None,
    signals: Mapping[str, float],
    cost: Decimal,
    input_tokens: int,
    output_tokens: int,
) -> str:
    """The record of a decision; see `Decision`. On the way of every request, which needs no object for it."""
    values: dict[str, Any] = {
        "time": round(time, 3),
        "policy": policy,
        "characters": characters,
        "score": _rounded(score.value),
        "threshold": _rounded(threshold),
        "model": model,
        "other": other,
        "dear": is_dear,
        "cost_usd": f"{cost:f}",
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
    }
    if propensity is not None:
        values["propensity"] = propensity
    if score.abstains:
        values["abstained"] = True
    if signals:
        values["signals"] = {name: _rounded(value) for name, value in signals.items()}
    return orjson.dumps(values).decode()


def name_of(request_id: str, key_id: str | None) -> str:
    """The name of a decision: clients choose the ids of their requests, and may choose each other's."""
    return f"{key_id or ''}:{request_id}"


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def _probability(value: float | None) -> float | None:
    if value is None:
        return None
    if not 0 < value <= 1:
        raise ValueError("no probability")
    return float(value)
