"""The figures of a policy on a benchmark, and the mean of them over several benchmarks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluation.data import Outcome, Pair
from evaluation.metrics import (
    Interval,
    Ranking,
    calls_for,
    interval,
    mean,
    mean_samples,
    paired_samples,
)
from evaluation.policies import Policy
from evaluation.prices import LEAST_CHARACTERS, price_of

MACRO = "macro"
# Points of a curve that is drawn or whose area is taken.
CORNERS = 200


@dataclass(frozen=True)
class Point:
    """What comes of a share of expensive calls: quality and cost, as parts of those of sending everything to
    the expensive model. A cost is never shown without its quality."""

    quality: float
    cost: float


@dataclass(frozen=True)
class Figures:
    """`by_cost` is the area over the share of the extra cost that is spent, where APGR has that of calls: .5
    for a random order as well; it is the mean of the pairs of models, as money spent on a dear pair is not to
    be saved on another. `half` is what comes of sending half of the calls to the cheap model;
    `samples` are the bootstrap's, and belong in pairs to those of other policies on the same benchmark."""

    policy: str
    benchmark: str
    apgr: Interval
    cpt50: float
    cpt80: float
    by_cost: float
    half: Point
    samples: Sequence[float] = field(repr=False)


def figures_of(
    policies: Sequence[Policy], benchmark: str, outcomes: Sequence[Outcome], times: int
) -> dict[str, Figures]:
    """Those of each policy, by its name, all with the same bootstrap samples.

    :raises NoGap: where the expensive model is not better on this benchmark
    """
    gains = [outcome.gain for outcome in outcomes]
    scores = [policy.scores(outcomes) for policy in policies]
    rankings = [Ranking(each, gains) for each in scores]
    samples = paired_samples(rankings, [outcome.stem for outcome in outcomes], times)
    found = {}
    for policy, own_scores, ranking, own_samples in zip(policies, scores, rankings, samples, strict=True):
        curve = ranking.curve()
        found[policy.name] = Figures(
            policy=policy.name,
            benchmark=benchmark,
            apgr=interval(ranking.apgr(), own_samples),
            cpt50=calls_for(curve, 0.5),
            cpt80=calls_for(curve, 0.8),
            by_cost=mean_area_by_cost(own_scores, outcomes),
            half=points(own_scores, outcomes, [0.5])[0],
            samples=own_samples,
        )
    return found


def macro(figures: Sequence[Figures]) -> Figures:
    """The mean over one policy's benchmarks, each counted alike."""
    samples = mean_samples([each.samples for each in figures])
    return Figures(
        policy=figures[0].policy,
        benchmark=MACRO,
        apgr=interval(mean([each.apgr.value for each in figures]), samples),
        cpt50=mean([each.cpt50 for each in figures]),
        cpt80=mean([each.cpt80 for each in figures]),
        by_cost=mean([each.by_cost for each in figures]),
        half=Point(mean([each.half.quality for each in figures]), mean([each.half.cost for each in figures])),
        samples=samples,
    )


def difference(one: Figures, other: Figures) -> Interval:
    """By how much the APGR of one is above that of the other, on the same bootstrap samples."""
    differences = [a - b for a, b in zip(one.samples, other.samples, strict=True)]
    return interval(one.apgr.value - other.apgr.value, differences)


def points(scores: Sequence[float], outcomes: Sequence[Outcome], shares: Sequence[float]) -> list[Point]:
    """What comes of each share of expensive calls, given from the smallest to the largest; among prompts with
    the same score all orders count alike."""
    order = sorted(range(len(outcomes)), key=lambda row: -scores[row])
    quality = sum(outcome.cheap_score for outcome in outcomes)
    cost = sum(cost_of(outcome, outcome.pair.cheap, outcome.cheap_out_chars) for outcome in outcomes)
    best = sum(outcome.expensive_score for outcome in outcomes)
    dearest = sum(
        cost_of(outcome, outcome.pair.expensive, outcome.expensive_out_chars) for outcome in outcomes
    )
    found: list[Point] = []
    calls, begin = 0.0, 0
    remaining = list(shares)
    while begin < len(order):
        end = begin
        while end < len(order) and scores[order[end]] == scores[order[begin]]:
            end += 1
        tied = [outcomes[row] for row in order[begin:end]]
        more_quality = sum(outcome.gain for outcome in tied)
        more_cost = sum(extra_cost(outcome) for outcome in tied)
        while remaining and remaining[0] * len(order) <= calls + len(tied):
            part = (remaining.pop(0) * len(order) - calls) / len(tied)
            found.append(Point((quality + part * more_quality) / best, (cost + part * more_cost) / dearest))
        quality, cost, calls, begin = quality + more_quality, cost + more_cost, calls + len(tied), end
    return found


def mean_area_by_cost(scores: Sequence[float], outcomes: Sequence[Outcome]) -> float:
    """The mean of the areas of each pair of models."""
    places: dict[Pair, list[int]] = {}
    for place, outcome in enumerate(outcomes):
        places.setdefault(outcome.pair, []).append(place)
    return mean(
        [
            area_by_cost([scores[place] for place in own], [outcomes[place] for place in own])
            for own in places.values()
        ]
    )


def area_by_cost(scores: Sequence[float], outcomes: Sequence[Outcome]) -> float:
    """The area below (share of the extra cost that is spent, recovered gap)."""
    corners = points(scores, outcomes, [step / CORNERS for step in range(CORNERS + 1)])
    cheap = corners[0]
    area = sum(
        (b.cost - a.cost) * ((a.quality + b.quality) / 2 - cheap.quality)
        for a, b in itertools.pairwise(corners)
    )
    return area / ((1 - cheap.cost) * (1 - cheap.quality))


def extra_cost(outcome: Outcome) -> float:
    """USD that the expensive model costs more."""
    expensive = cost_of(outcome, outcome.pair.expensive, outcome.expensive_out_chars)
    return expensive - cost_of(outcome, outcome.pair.cheap, outcome.cheap_out_chars)


def cost_of(outcome: Outcome, model: str, answer_characters: int | None) -> float:
    """USD; an answer of unknown length is one letter, as those of MMLU were."""
    characters = LEAST_CHARACTERS if answer_characters is None else answer_characters
    return price_of(model).of(len(outcome.prompt), characters)
