"""How good a router is, by the metrics of RouteLLM (arXiv 2406.18665).

A router orders prompts by its score; the expensive model gets those with the highest. The recovered gap, at a
share of expensive calls, is what part of the way from the cheap model's quality to the expensive one's that
gives: 0 with none, 1 with all, and more than 1 where the cheap model is kept for what it does better. APGR is
the area below the recovered gap, over all shares: .5 for a random order. CPT(x) is the smallest share that
recovers x.

Prompts with the same score are taken in a random order, and what is said is the mean of all such orders: the
straight line across them. So a router that gives one score to all is a random one, and the order of the data
never counts.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

RESAMPLES = 500
SEED = 7
# Sums of scores that cancel out leave a little behind.
NOTHING = 1e-9


class NoGap(ValueError):
    """The expensive model is not better than the cheap one here, so there is no gap to recover."""


@dataclass(frozen=True)
class Interval:
    """A figure, and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


class Ranking:
    """Prompts in the order in which a router would give them to the expensive model."""

    def __init__(self, scores: Sequence[float], gains: Sequence[float]) -> None:
        """:raises ValueError: where there are not as many scores as gains, or a score is not a number"""
        if len(scores) != len(gains):
            raise ValueError(f"{len(scores)} scores for {len(gains)} prompts")
        if any(score != score for score in scores):
            raise ValueError("a score is not a number")
        order = sorted(range(len(scores)), key=lambda row: -scores[row])
        following: list[int | None] = [*order[1:], None][: len(order)]
        # Whether the row is the last one of those with its score.
        self._rows = [
            (row, gains[row], after is None or scores[after] != scores[row])
            for row, after in zip(order, following, strict=True)
        ]

    def curve(self) -> list[tuple[float, float]]:
        """The corners of (share of expensive calls, recovered gap), both from 0 to 1.

        :raises NoGap: where the expensive model is not better
        """
        calls, gained = 0, 0.0
        corners = [(0, 0.0)]
        for _, gain, is_last in self._rows:
            calls += 1
            gained += gain
            if is_last:
                corners.append((calls, gained))
        if gained <= NOTHING:
            raise NoGap(f"the expensive model gains {gained:.3f} over {calls} prompts")
        return [(calls_by_then / calls, gain / gained) for calls_by_then, gain in corners]

    def apgr(self, weights: Sequence[int] | None = None) -> float:
        """The area below the curve; with weights, as if every prompt were there so many times.

        :raises NoGap: where the expensive model is not better
        """
        calls, gained, area = 0, 0.0, 0.0
        tied_calls, tied_gain = 0, 0.0
        for row, gain, is_last in self._rows:
            weight = 1 if weights is None else weights[row]
            tied_calls += weight
            tied_gain += weight * gain
            if is_last:
                area += tied_calls * (gained + tied_gain / 2)
                calls += tied_calls
                gained += tied_gain
                tied_calls, tied_gain = 0, 0.0
        if gained <= NOTHING:
            raise NoGap(f"the expensive model gains {gained:.3f} over {calls} prompts")
        return area / (calls * gained)


def recovered_at(curve: Sequence[tuple[float, float]], share: float) -> float:
    """The gap recovered where this share of the calls goes to the expensive model."""
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if share <= x1:
            return y0 + (y1 - y0) * (share - x0) / (x1 - x0)
    return curve[-1][1]


def calls_for(curve: Sequence[tuple[float, float]], recovered: float) -> float:
    """CPT: the smallest share of expensive calls at which so much of the gap is recovered."""
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if y1 >= recovered:
            return x1 if y1 == y0 else x0 + (x1 - x0) * max(0.0, recovered - y0) / (y1 - y0)
    return 1.0


def oracle(gains: Sequence[float]) -> Ranking:
    """The best order there is: by what the expensive model adds."""
    return Ranking(gains, gains)


def resamples(groups: Sequence[Hashable], times: int = RESAMPLES, seed: int = SEED) -> Iterator[list[int]]:
    """The rows' weights in each of so many bootstrap samples. Whole groups are drawn, since the rows of one
    prompt, asked of several pairs of models, are no independent evidence."""
    drawing = random.Random(seed)
    names = list(dict.fromkeys(groups))
    for _ in range(times):
        drawn = Counter(drawing.choices(names, k=len(names)))
        yield [drawn[group] for group in groups]


def apgr_samples(
    ranking: Ranking, groups: Sequence[Hashable], times: int = RESAMPLES, seed: int = SEED
) -> list[float]:
    """The APGR in each of so many bootstrap samples of the rows' groups."""
    return paired_samples([ranking], groups, times, seed)[0]


def paired_samples(
    rankings: Sequence[Ranking], groups: Sequence[Hashable], times: int = RESAMPLES, seed: int = SEED
) -> list[list[float]]:
    """The APGR of each of several rankings of the same rows, all in the same bootstrap samples, so that their
    differences are the samples of the difference. A sample in which there is no gap says nothing and is left
    out."""
    samples: list[list[float]] = [[] for _ in rankings]
    for weights in resamples(groups, times, seed):
        with suppress(NoGap):
            for found, ranking in zip(samples, rankings, strict=True):
                found.append(ranking.apgr(weights))
    return samples


def interval(value: float, samples: Sequence[float], coverage: float = 0.95) -> Interval:
    """The percentile interval of bootstrap samples.

    :raises ValueError: where there are no samples
    """
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    cut = (1 - coverage) / 2
    return Interval(value, _quantile(ordered, cut), _quantile(ordered, 1 - cut))


def mean_samples(all_samples: Sequence[Sequence[float]]) -> list[float]:
    """The samples of the mean of several figures, such as the macro over benchmarks."""
    return [sum(sample) / len(sample) for sample in zip(*all_samples, strict=False)]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
