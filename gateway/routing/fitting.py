"""Fits the model of difficulty to outcomes: ridge regression of the gain within each group, its strength
chosen by cross-validation, then a logistic calibration to a probability.

In plain Python, since it also runs where the gateway runs. Only sums over the examples are kept (of the
products of each two signals), so that every trial of a strength costs one solution of a small system; 30,000
examples take some five seconds of a core.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import mul

from gateway.routing.calibration import FORM, calibrated, form_of, median
from gateway.routing.difficulty import DifficultyModel, Signal

FOLDS = 5
FEWEST_EXAMPLES = 50
# A signal that fewer examples have is left out.
FEWEST_WITH_SIGNAL = 20
LEAST_SCALE = 1e-6
# The share of a signal's values at each end that do not widen its range.
OUTLIERS = 0.01
STRENGTHS = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
HEADS = 8
SEED = 7


Matrix = list[list[float]]
Row = list[tuple[int, float]]


class NothingToLearn(ValueError):
    """The examples are too few, or all alike."""


@dataclass(frozen=True)
class Example:
    """What came of a prompt. `outcome` is what the dearer model's answer was better by: 1 where only its
    would do, 0 where it made no difference, -1 where only the cheap one's would do. A group has a level of
    its own that teaches nothing: what is learned are the differences within each."""

    signals: Mapping[str, float]
    outcome: float
    weight: float = 1.0
    group: str = ""


@dataclass(frozen=True)
class _Scaling:
    """Mean and standard deviation of a signal, and the range of its values without outliers."""

    mean: float
    scale: float
    low: float
    high: float


@dataclass
class _Group:
    weight: float = 0.0
    outcomes: float = 0.0
    signals: dict[int, float] = field(default_factory=dict)


class _Sums:
    """What must be known of a fold's examples to fit a regression to them, or to judge one by them."""

    def __init__(self, size: int) -> None:
        self.products: Matrix = [[0.0] * (i + 1) for i in range(size)]  # the lower triangle
        self.outcomes = [0.0] * size
        self.squares = 0.0
        self.groups: dict[str, _Group] = {}

    def add(self, row: Row, outcome: float, weight: float, group: str) -> None:
        """Take in an example; the row's places ascend."""
        own = self.groups.setdefault(group, _Group())
        own.weight += weight
        own.outcomes += weight * outcome
        self.squares += weight * outcome * outcome
        for at, (i, value) in enumerate(row):
            weighted = weight * value
            own.signals[i] = own.signals.get(i, 0.0) + weighted
            self.outcomes[i] += weighted * outcome
            products = self.products[i]
            for j, other in row[: at + 1]:
                products[j] += weighted * other

    @classmethod
    def of(cls, parts: Iterable[_Sums], size: int) -> _Sums:
        """All parts together."""
        whole = cls(size)
        for part in parts:
            whole.squares += part.squares
            whole.outcomes = [a + b for a, b in zip(whole.outcomes, part.outcomes, strict=True)]
            for i, products in enumerate(part.products):
                whole.products[i] = [a + b for a, b in zip(whole.products[i], products, strict=True)]
            for name, group in part.groups.items():
                own = whole.groups.setdefault(name, _Group())
                own.weight += group.weight
                own.outcomes += group.outcomes
                for i, value in group.signals.items():
                    own.signals[i] = own.signals.get(i, 0.0) + value
        return whole

    def within_groups(self) -> tuple[Matrix, list[float], float]:
        """The sums of products, of products with the outcome, and of the outcome's squares, all as
        differences from the means of each group."""
        products = [list(row) for row in self.products]
        outcomes, squares = list(self.outcomes), self.squares
        for group in self.groups.values():
            if not group.weight:
                continue
            squares -= group.outcomes * group.outcomes / group.weight
            means = sorted((i, value / group.weight) for i, value in group.signals.items())
            for at, (i, mean) in enumerate(means):
                outcomes[i] -= mean * group.outcomes
                total, row = mean * group.weight, products[i]
                for j, other in means[: at + 1]:
                    row[j] -= total * other
        return products, outcomes, squares


def fit(
    examples: Sequence[Example],
    prior: DifficultyModel | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> DifficultyModel:
    """The model that explains the examples best. With a prior its weights leave the prior's only as far as
    the examples speak for it. Of the `strengths` by which they are held back it takes the one that is best on
    what was held out. The same examples give the same model.

    :raises NothingToLearn: when there are fewer than `FEWEST_EXAMPLES`, or all have the same outcome
    """
    examples = [example for example in examples if example.signals and example.weight > 0]
    if len(examples) < FEWEST_EXAMPLES:
        raise NothingToLearn(f"{len(examples)} examples with signals; at least {FEWEST_EXAMPLES} are needed")
    if len({example.outcome for example in examples}) < 2:
        raise NothingToLearn("all examples have the same outcome")
    scaling = _scaling(examples)
    if prior is not None:
        scaling |= {name: _widened(signal, scaling.get(name)) for name, signal in prior.signals.items()}
    names = list(scaling)
    places = {name: i for i, name in enumerate(names)}
    rows = [_row(example.signals, places, scaling) for example in examples]
    usual = sum(example.weight for example in examples) / len(examples)
    weights = [example.weight / usual for example in examples]
    folds = [_fold_of(example) for example in examples]
    sums = [_Sums(len(names)) for _ in range(FOLDS)]
    for example, row, weight, fold in zip(examples, rows, weights, folds, strict=True):
        sums[fold].add(row, example.outcome, weight, example.group)
    known = {} if prior is None else prior.signals
    start = [known[name].weight if name in known else 0.0 for name in names]

    strength, held_out = _strength(sums, start, strengths)
    products, outcomes, squares = _Sums.of(sums, len(names)).within_groups()
    solution, triangle = _ridge(products, outcomes, strength, start)
    noise = max(0.0, _loss(solution, products, outcomes, squares)) / len(examples)
    deviations = _deviations(triangle, noise)

    gains = [_dot(row, held_out[fold]) for row, fold in zip(rows, folds, strict=True)]
    usual_gain = sum(map(mul, weights, gains)) / len(gains)
    forms = [form if (form := form_of(example.signals)) in scaling else "" for example in examples]
    slope, levels, error = calibrated(
        [example.outcome for example in examples],
        weights,
        [gain - usual_gain for gain in gains],
        forms,
        prior,
    )
    # The scaled rows leave out the signals' means, which the model subtracts.
    shift = sum(
        weight * each.mean / each.scale for weight, each in zip(solution, scaling.values(), strict=True)
    )
    if prior is not None:
        # Of forms that the examples lack the prior knows how far they are from the others.
        offsets_of = {name: signal.offset for name, signal in prior.signals.items()}
        usual_offset = sum(
            weight * offsets_of.get(form, 0.0) for weight, form in zip(weights, forms, strict=True)
        ) / len(forms)
        levels = {
            form: levels[""] + offset - usual_offset
            for form, offset in offsets_of.items()
            if form.startswith(FORM) and form not in levels
        } | levels
    offsets = {form: level - levels[""] for form, level in levels.items() if form}
    intercept = levels[""] + slope * (shift - usual_gain)
    intercept += sum(offset * scaling[form].mean for form, offset in offsets.items())
    signals = {
        name: Signal(
            each.mean,
            each.scale,
            each.low,
            each.high,
            solution[i],
            tuple(deviation[i] for deviation in deviations),
            offsets.get(name, 0.0),
        )
        for i, (name, each) in enumerate(scaling.items())
    }
    model = DifficultyModel(signals, intercept, slope, threshold=0.5, error=error)
    values = [model.score(example.signals).value for example in examples]
    return replace(model, threshold=median(values, weights))


def _scaling(examples: Sequence[Example]) -> dict[str, _Scaling]:
    """Of each signal that enough examples have."""
    values: dict[str, list[float]] = {}
    for example in examples:
        for name, value in example.signals.items():
            values.setdefault(name, []).append(value)
    scaling = {}
    for name in sorted(values):
        own = sorted(values[name])
        mean = sum(own) / len(examples)
        scale = math.sqrt(max(0.0, sum(map(mul, own, own)) / len(examples) - mean * mean))
        if len(own) >= FEWEST_WITH_SIGNAL and scale > LEAST_SCALE:
            cut = int(OUTLIERS * len(own))
            # Of turns with unlike signals each counts in part, so there are values down to none.
            scaling[name] = _Scaling(mean, scale, min(0.0, own[cut]), max(0.0, own[-1 - cut]))
    return scaling


def _widened(signal: Signal, seen: _Scaling | None) -> _Scaling:
    """As the prior has it, with the range of the examples besides."""
    low = signal.low if seen is None else min(signal.low, seen.low)
    high = signal.high if seen is None else max(signal.high, seen.high)
    return _Scaling(signal.mean, signal.scale, low, high)


def _row(signals: Mapping[str, float], places: Mapping[str, int], scaling: Mapping[str, _Scaling]) -> Row:
    """The signals by their places. They are scaled but not centred: a zero stays one, and costs nothing."""
    return sorted(
        (places[name], min(max(value, each.low), each.high) / each.scale)
        for name, value in signals.items()
        if (each := scaling.get(name))
    )


def _fold_of(example: Example) -> int:
    """Examples of the same prompt fall into the same fold."""
    return zlib.crc32(repr(sorted(example.signals.items())).encode()) % FOLDS


def _strength(
    sums: Sequence[_Sums], start: Sequence[float], strengths: Sequence[float]
) -> tuple[float, list[list[float]]]:
    """The strength that is best on what was held out, and the weights that were found without each fold."""
    size = len(start)
    losses = dict.fromkeys(strengths, 0.0)
    found: dict[float, list[list[float]]] = {strength: [] for strength in strengths}
    for fold, own in enumerate(sums):
        rest = _Sums.of((each for i, each in enumerate(sums) if i != fold), size)
        products, outcomes, _ = rest.within_groups()
        judge = own.within_groups()
        for strength in strengths:
            solution, _ = _ridge(products, outcomes, strength, start)
            found[strength].append(solution)
            losses[strength] += _loss(solution, *judge)
    best = min(strengths, key=lambda strength: losses[strength])
    return best, found[best]


def _ridge(
    products: Matrix, outcomes: Sequence[float], strength: float, start: Sequence[float]
) -> tuple[list[float], Matrix]:
    """The weights, drawn to `start`, and the triangle of Cholesky's decomposition."""
    triangle: Matrix = []
    for i, row in enumerate(products):
        own: list[float] = []
        for j in range(i):
            other = triangle[j]
            own.append((row[j] - sum(map(mul, own, other))) / other[j])
        own.append(math.sqrt(max(1e-9, row[i] + strength - sum(map(mul, own, own)))))
        triangle.append(own)
    right = [value + strength * at for value, at in zip(outcomes, start, strict=True)]
    forward: list[float] = []
    for own, value in zip(triangle, right, strict=True):
        forward.append((value - sum(map(mul, own, forward))) / own[-1])
    return _backward(triangle, forward), triangle


def _backward(triangle: Matrix, values: Sequence[float]) -> list[float]:
    """The solution of the transposed triangle."""
    left = list(values)
    for i in range(len(left) - 1, -1, -1):
        own = triangle[i]
        left[i] /= own[i]
        at = left[i]
        for j in range(i):
            left[j] -= own[j] * at
    return left


def _loss(solution: Sequence[float], products: Matrix, outcomes: Sequence[float], squares: float) -> float:
    """The sum of squared errors within groups."""
    quadratic = 0.0
    for i, row in enumerate(products):
        quadratic += solution[i] * (2 * sum(map(mul, row, solution)) - row[i] * solution[i])
    across: float = sum(map(mul, solution, outcomes))
    return squares - 2 * across + quadratic


def _deviations(triangle: Matrix, noise: float) -> list[list[float]]:
    """Draws from the normal distribution of what the weights may be off by, given the examples."""
    drawing = random.Random(SEED)  # noqa: S311 no secret
    spread = math.sqrt(noise)
    return [_backward(triangle, [drawing.gauss(0, spread) for _ in triangle]) for _ in range(HEADS)]


def _dot(row: Row, solution: Sequence[float]) -> float:
    return sum(value * solution[i] for i, value in row)
