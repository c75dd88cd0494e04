"""How likely a prompt needs the dearer model, by its signals: a linear model with its uncertainty."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from gateway.routing.policy import Factor, Score
from gateway.routing.signals import kind_of

BUNDLED = Path(__file__).with_name("difficulty.json")
FACTORS = 3
MOST_LOG_ODDS = 30.0


@dataclass(frozen=True)
class Signal:
    """What the model knows of a signal. Its values lie from `low` to `high`; what is beyond counts as the
    nearest that the examples had. `weight` is what the dearer model gains (quality, 0 to 1) for each
    `scale` above `mean`; `deviations` are what other weights, as likely by the data, differ from it by;
    `offset` is what the signal adds to the log odds besides."""

    mean: float
    scale: float
    low: float
    high: float
    weight: float
    deviations: tuple[float, ...]
    offset: float = 0.0


@dataclass(frozen=True)
class DifficultyModel:
    """The probability that the cheap model's answer would not do where the dear one's would. `intercept` and
    `slope` turn a gain into log odds, the former with a standard `error`; `threshold` is the median
    probability of the examples, so that on traffic like theirs half goes to the dear model."""

    signals: Mapping[str, Signal]
    intercept: float
    slope: float
    threshold: float
    error: float = 0.0

    def score(self, signals: Mapping[str, float]) -> Score:
        """The probability (`value`), its standard error and what counted most. It abstains where there are no
        signals."""
        kinds, table, start = self._table
        if not signals:
            return Score(1.0, uncertainty=None, abstains=True)
        sums = list(start)
        found, counted = [], set()
        for name, value in signals.items():
            if row := table.get(name):
                kind, weight, deviations, low, high = row
                value = low if value < low else min(value, high)
                sums[kind] += weight * value
                found.append((value, deviations))
                counted.add(kind)
        log_odds = self.intercept + sum(sums)
        drawn = list(self._start_of_deviations)
        for value, deviations in found:
            for i, each in enumerate(deviations):
                drawn[i] += value * each
        probable = probability(log_odds)
        spread = math.sqrt(self.error**2 + sum(each * each for each in drawn) / max(1, len(drawn)))
        # What a prompt has none of is no reason to name.
        order = sorted(counted, key=lambda kind: -abs(sums[kind]))[:FACTORS]
        return Score(
            probable,
            uncertainty=probable * (1 - probable) * spread,
            factors=tuple(Factor(kinds[i], sums[i]) for i in order if sums[i]),
        )

    @classmethod
    def load(cls, path: Path) -> DifficultyModel:
        """:raises OSError: where the file cannot be read
        :raises ValueError: where it holds no such model
        """
        return cls.from_json(path.read_text(encoding="utf-8"))

    @classmethod
    def from_json(cls, text: str) -> DifficultyModel:
        """:raises ValueError: where the text is not what `to_json` gives"""
        try:
            values = json.loads(text)
            signals = {
                name: Signal(
                    float(each["mean"]),
                    float(each["scale"]),
                    float(each["low"]),
                    float(each["high"]),
                    float(each["weight"]),
                    tuple(map(float, each["deviations"])),
                    float(each.get("offset", 0)),
                )
                for name, each in values["signals"].items()
            }
            model = cls(
                signals,
                float(values["intercept"]),
                float(values["slope"]),
                float(values["threshold"]),
                float(values["error"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise ValueError(f"this is no model of difficulty: {exc!r}") from exc
        if not model._is_sound():
            raise ValueError("this is no model of difficulty: its numbers do not fit together")
        return model

    def _is_sound(self) -> bool:
        numbers = [self.intercept, self.slope, self.threshold, self.error]
        for each in self.signals.values():
            numbers += (
                each.mean,
                each.scale,
                each.low,
                each.high,
                each.weight,
                each.offset,
                *each.deviations,
            )
        return (
            all(map(math.isfinite, numbers))
            and all(each.scale > 0 for each in self.signals.values())
            and len({len(each.deviations) for each in self.signals.values()}) == 1
        )

    def to_json(self) -> str:
        """One signal a line, so that a change of the weights is a readable change of the file."""
        lines = []
        for name, signal in sorted(self.signals.items()):
            values = {
                "mean": _rounded(signal.mean),
                "scale": _rounded(signal.scale),
                "low": _rounded(signal.low),
                "high": _rounded(signal.high),
                "weight": _rounded(signal.weight),
                "deviations": [_rounded(each) for each in signal.deviations],
            }
            if signal.offset:
                values["offset"] = _rounded(signal.offset)
            lines.append(f"{json.dumps(name)}: {json.dumps(values)}")
        head = ", ".join(
            f'"{name}": {_rounded(getattr(self, name))}'
            for name in ("intercept", "slope", "threshold", "error")
        )
        return "{" + head + ', "signals": {\n' + ",\n".join(lines) + "\n}}\n"

    @cached_property
    def _table(
        self,
    ) -> tuple[list[str], dict[str, tuple[int, float, tuple[float, ...], float, float]], list[float]]:
        """The kinds of signals; of each signal its kind, per unit its log odds and their deviations, and its
        range; and what each kind's signals make together where all are 0."""
        kinds = sorted({kind_of(name) for name in self.signals})
        places = {kind: i for i, kind in enumerate(kinds)}
        start = [0.0] * len(kinds)
        table = {}
        for name, signal in self.signals.items():
            unit = self.slope / signal.scale
            weight = signal.weight * unit + signal.offset
            place = places[kind_of(name)]
            deviations = tuple(each * unit for each in signal.deviations)
            table[name] = (place, weight, deviations, signal.low, signal.high)
            start[place] -= signal.mean * weight
        return kinds, table, start

    @cached_property
    def _start_of_deviations(self) -> list[float]:
        """What the deviations make together where all signals are 0."""
        rows = [
            [-signal.mean * each * self.slope / signal.scale for each in signal.deviations]
            for signal in self.signals.values()
        ]
        return [sum(column) for column in zip(*rows, strict=True)]


def probability(log_odds: float) -> float:
    """The probability that has these log odds (natural logarithm)."""
    return 1 / (1 + math.exp(-max(-MOST_LOG_ODDS, min(MOST_LOG_ODDS, log_odds))))


@cache
def bundled() -> DifficultyModel:
    """The model that comes with the gateway; read when it is first asked for."""
    return DifficultyModel.load(BUNDLED)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
