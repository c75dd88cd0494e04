"""Guesses of what each of two models would have been worth on a request, by a linear regression for each that
has not seen the request itself."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from gateway.routing.estimates import Logged

FOLDS = 5
FEWEST = 10  # rewards for a regression; else their mean has to do
STRENGTH = 5.0  # that holds the slopes back

Guesses: TypeAlias = Sequence[tuple[float, float]]
_Line: TypeAlias = list[float]


def guesses_of(logged: Sequence[Logged]) -> Guesses:
    """For each choice what the cheaper and what the dearer model would have been worth."""
    columns = _scaled([each.covariates for each in logged])
    rewards = [each.reward for each in logged if each.reward is not None]
    usual = fmean(rewards) if rewards else 0.0
    guesses = [(usual, usual)] * len(logged)
    for fold in range(FOLDS):
        lines = []
        for is_dear in (False, True):
            seen = [
                (columns[i], each.reward)
                for i, each in enumerate(logged)
                if each.reward is not None and each.is_dear == is_dear and i % FOLDS != fold
            ]
            size = len(columns[0]) if columns else 1
            lines.append(_line([row for row, _ in seen], [reward for _, reward in seen], usual, size))
        for i in range(fold, len(logged), FOLDS):
            row = columns[i]
            cheap, dear = (sum(a * b for a, b in zip(line, row, strict=True)) for line in lines)
            guesses[i] = (cheap, dear)
    return guesses


def _scaled(rows: Sequence[tuple[float, ...]]) -> list[list[float]]:
    """Each row with a one before it, its columns about zero and as wide as each other."""
    if not rows:
        return []
    columns = []
    for column in zip(*rows, strict=True):
        mean, width = fmean(column), pstdev(column) or 1.0
        columns.append([(value - mean) / width for value in column])
    return [[1.0, *row] for row in zip(*columns, strict=True)] if columns else [[1.0] for _ in rows]


def _line(rows: Sequence[list[float]], rewards: Sequence[float], usual: float, size: int) -> _Line:
    """The `size` coefficients of a ridge regression."""
    if len(rows) < FEWEST:
        # Drawn to what is usual, as a handful says little.
        level = (sum(rewards) + usual * STRENGTH) / (len(rewards) + STRENGTH)
        return [level, *([0.0] * (size - 1))]
    system = [
        [
            *(
                sum(row[i] * row[j] for row in rows) + (STRENGTH if i == j and i else 0.0)
                for j in range(size)
            ),
            sum(row[i] * reward for row, reward in zip(rows, rewards, strict=True)),
        ]
        for i in range(size)
    ]
    return _solved(system)


def _solved(system: list[list[float]]) -> list[float]:
    """The solution of a system of equations that is known to have one, by Gauss and Jordan."""
    for i in range(len(system)):
        pivot = system[i][i]
        system[i] = [value / pivot for value in system[i]]
        for j, row in enumerate(system):
            if j != i and row[i]:
                factor = row[i]
                system[j] = [a - factor * b for a, b in zip(row, system[i], strict=True)]
    return [row[-1] for row in system]
