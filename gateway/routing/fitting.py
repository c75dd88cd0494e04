"""Fits the model of difficulty to outcomes: ridge regression of the gain within each group, its strength chosen
by cross-validation, then a logistic calibration to a probability.

In plain Python, since it also runs where the gateway runs. Only sums over the examples are kept (of the products
of each two signals), so that every trial of a strength costs one solution of a small system; 30,000 examples
take some ten seconds of a core.
"""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import mul

from gateway.routing.difficulty import DifficultyModel, Signal, probability

FOLDS = 5
FEWEST_EXAMPLES = 50
# A signal that fewer examples have is left out.
FEWEST_WITH_SIGNAL = 20
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
HEADS = 8
SEED = 7
CALIBRATION_STEPS = 30
# Of the offsets of the forms, which few examples must not set.
CALIBRATION_STRENGTH = 3.0

Matrix = list[list[float]]
Row = list[tuple[int, float]]


class NothingToLearn(ValueError):
    """The examples are too few, or all alike."""


@dataclass(frozen=True)
class Example:
    """What came of a prompt. `outcome` is what the dearer model's answer was better by: 1 where only its would
    do, 0 where it made no difference, -1 where only the cheap one's would do. A group has a level of its own that
    teaches nothing: what is learned are the differences within each."""

    signals: Mapping[str, float]
    outcome: float
    weight: float = 1.0
    group: str = ""


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
        """The sums of products, of products with the outcome, and of the outcome's squares, all as differences
        from the means of each group."""
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


def fit(examples: Sequence[Example], prior: DifficultyModel | None = None) -> DifficultyModel:
    """The model that explains the examples best. With a prior it has the prior's signals, and its weights leave
    the prior's only as far as the examples speak for it. The same examples give the same model.

    :raises NothingToLearn: when there are fewer than `FEWEST_EXAMPLES`, or all have the same outcome
    """
    examples = [example for example in examples if example.signals and example.weight > 0]
    if len(examples) < FEWEST_EXAMPLES:
        raise NothingToLearn(f"{len(examples)} examples with signals; at least {FEWEST_EXAMPLES} are needed")
    if len({example.outcome for example in examples}) < 2:
        raise NothingToLearn("all examples have the same outcome")
    scaling = _scaling(examples) if prior is None else {n: (s.mean, s.scale) for n, s in prior.signals.items()}
    names = list(scaling)
    places = {name: i for i, name in enumerate(names)}
    rows = [_row(example.signals, places, scaling) for example in examples]
    usual = sum(example.weight for example in examples) / len(examples)
    weights = [example.weight / usual for example in examples]
    folds = [_fold_of(example) for example in examples]
    sums = [_Sums(len(names)) for _ in range(FOLDS)]
    for example, row, weight, fold in zip(examples, rows, weights, folds, strict=True):
        sums[fold].add(row, example.outcome, weight, example.group)
    start = [0.0] * len(names) if prior is None else [prior.signals[name].weight for name in names]

    strength, held_out = _strength(sums, start)
    products, outcomes, squares = _Sums.of(sums, len(names)).within_groups()
    solution, triangle = _ridge(products, outcomes, strength, start)
    noise = max(0.0, _loss(solution, products, outcomes, squares)) / len(examples)
    deviations = _deviations(triangle, noise)

    gains = [_dot(row, held_out[fold]) for row, fold in zip(rows, folds, strict=True)]
    forms = [name for name in names if name.startswith("form/")]
    intercept, slope, offsets = _calibration(examples, weights, gains, forms, prior)
    # The scaled rows leave out the signals' means, which the model subtracts.
    shift = sum(
        weight * mean / scale for weight, (mean, scale) in zip(solution, scaling.values(), strict=True)
    )
    intercept += slope * shift
    intercept += sum(offset * scaling[name][0] for name, offset in offsets.items())
    signals = {
        name: Signal(mean, scale, solution[i], tuple(each[i] for each in deviations), offsets.get(name, 0.0))
        for i, (name, (mean, scale)) in enumerate(scaling.items())
    }
    model = DifficultyModel(signals, intercept, slope, threshold=0.5)
    values = [model.score(example.signals).value for example in examples]
    return DifficultyModel(signals, intercept, slope, _median(values, weights))


def _scaling(examples: Sequence[Example]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each signal that enough examples have."""
    counts: dict[str, int] = {}
    totals: dict[str, float] = {}
    squares: dict[str, float] = {}
    for example in examples:
        for name, value in example.signals.items():
            counts[name] = counts.get(name, 0) + 1
            totals[name] = totals.get(name, 0.0) + value
            squares[name] = squares.get(name, 0.0) + value * value
    scaling = {}
    for name in sorted(counts):
        mean = totals[name] / len(examples)
        scale = math.sqrt(max(0.0, squares[name] / len(examples) - mean * mean))
        if counts[name] >= FEWEST_WITH_SIGNAL and scale > 1e-6:
            scaling[name] = (mean, scale)
    return scaling


def _row(
    signals: Mapping[str, float], places: Mapping[str, int], scaling: Mapping[str, tuple[float, float]]
) -> Row:
    """The signals by their places. They are scaled but not centred: a zero stays one, and costs nothing."""
    return sorted(
        (places[name], value / scaling[name][1])
        for name, value in signals.items()
        if value and name in places
    )


def _fold_of(example: Example) -> int:
    """Examples of the same prompt fall into the same fold."""
    return zlib.crc32(repr(sorted(example.signals.items())).encode()) % FOLDS


def _strength(sums: Sequence[_Sums], start: Sequence[float]) -> tuple[float, list[list[float]]]:
    """The strength that is best on what was held out, and the weights that were found without each fold."""
    size = len(start)
    losses = dict.fromkeys(STRENGTHS, 0.0)
    found: dict[float, list[list[float]]] = {strength: [] for strength in STRENGTHS}
    for fold, own in enumerate(sums):
        rest = _Sums.of((each for i, each in enumerate(sums) if i != fold), size)
        products, outcomes, _ = rest.within_groups()
        judge = own.within_groups()
        for strength in STRENGTHS:
            solution, _ = _ridge(products, outcomes, strength, start)
            found[strength].append(solution)
            losses[strength] += _loss(solution, *judge)
    best = min(STRENGTHS, key=lambda strength: losses[strength])
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
    return squares - 2 * sum(map(mul, solution, outcomes)) + quadratic


def _deviations(triangle: Matrix, noise: float) -> list[list[float]]:
    """Draws from the normal distribution of what the weights may be off by, given the examples."""
    drawing = random.Random(SEED)  # noqa: S311: no secret
    spread = math.sqrt(noise)
    return [_backward(triangle, [drawing.gauss(0, spread) for _ in triangle]) for _ in range(HEADS)]


def _dot(row: Row, solution: Sequence[float]) -> float:
    return sum(value * solution[i] for i, value in row)


def _calibration(
    examples: Sequence[Example],
    weights: Sequence[float],
    gains: Sequence[float],
    forms: Sequence[str],
    prior: DifficultyModel | None,
) -> tuple[float, float, dict[str, float]]:
    """Intercept, slope and the forms' offsets of the log odds that only the dearer model would do, by a logistic
    regression on gains that were predicted without the example's fold (Platt), in Newton's steps."""
    columns = [[1.0, gain, *(e.signals.get(f, 0.0) for f in forms)] for e, gain in zip(examples, gains, strict=True)]
    targets = [min(1.0, max(0.0, example.outcome)) for example in examples]
    size = 2 + len(forms)
    share = sum(map(mul, weights, targets)) / sum(weights)
    share = min(0.99, max(0.01, share))
    # A gain of so much is about so much more of the probability.
    usual = 1 / (share * (1 - share)) if prior is None else prior.slope
    at = [math.log(share / (1 - share)), usual, *([0.0] * len(forms))]
    if prior is not None:
        at[2:] = [prior.signals[form].offset for form in forms]
    middle = list(at)
    penalties = [0.0, CALIBRATION_STRENGTH / usual**2, *([CALIBRATION_STRENGTH] * len(forms))]
    at[0] -= usual * sum(map(mul, weights, gains)) / sum(weights)
    for _ in range(CALIBRATION_STEPS):
        gradient = [-penalties[i] * (at[i] - middle[i]) for i in range(size)]
        curvature = [[penalties[i] + 1e-9 if i == j else 0.0 for j in range(i + 1)] for i in range(size)]
        for column, target, weight in zip(columns, targets, weights, strict=True):
            value = probability(sum(map(mul, column, at)))
            error, bend = weight * (target - value), weight * value * (1 - value)
            for i, each in enumerate(column):
                if each:
                    gradient[i] += error * each
                    row, bent = curvature[i], bend * each
                    for j in range(i + 1):
                        row[j] += bent * column[j]
        step, _ = _ridge(curvature, gradient, 0.0, [0.0] * size)
        at = [value + change for value, change in zip(at, step, strict=True)]
        if max(map(abs, step)) < 1e-6:
            break
    # Where the signals tell nothing of the outcome, chance alone must not turn them round.
    return at[0], max(0.0, at[1]), dict(zip(forms, at[2:], strict=True))


def _median(values: Sequence[float], weights: Sequence[float]) -> float:
    order = sorted(range(len(values)), key=lambda i: values[i])
    half, sofar = sum(weights) / 2, 0.0
    for i in order:
        sofar += weights[i]
        if sofar >= half:
            return values[i]
    return values[order[-1]]
