"""The scores that requests have had lately, as counts by bucket, and where a share of them lies above.

A bucket has the scores that are the same with three digits, which tells them apart to 1 % at worst and whole
numbers up to 999 wholly. Such counts merge by adding them up, whoever counted.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate

LEAST, MOST = -1e12, 1e12  # all scores lie between them
OUT_OF_REACH = 0.9 * MOST  # no score of a request comes near it
KEPT = 300  # fewer forget sooner what the traffic was, more know it better


def bucket_of(score: float) -> float:
    """The score that stands for all of its bucket."""
    return float(f"{score:.3g}")


@lru_cache(maxsize=4096)
def edges_of(bucket: float) -> tuple[float, float]:
    """The scores above the first and up to the second are in the bucket."""
    if bucket == 0:
        return -1e-9, 1e-9
    half = 0.5 * 10.0 ** (math.floor(math.log10(abs(bucket))) - 2)
    return bucket - half, bucket + half


class RecentScores:
    """Those of about the last `KEPT` requests: of a generation of so many, and of the one before, which fades
    as the new one grows. `now` and `before` are counts by bucket."""

    def __init__(
        self, now: Mapping[float, int] | None = None, before: Mapping[float, int] | None = None
    ) -> None:
        self._now, self._before = dict(now or {}), dict(before or {})
        self._count = sum(self._now.values())

    def add(self, bucket: float, count: int = 1) -> None:
        self._now[bucket] = self._now.get(bucket, 0) + count
        self._count += count
        if self._count >= KEPT:
            self._now, self._before, self._count = {}, self._now, 0

    def weights(self) -> dict[float, float]:
        """How much each bucket counts, by its score."""
        weights: dict[float, float] = dict(self._now)
        # What was counted while Redis was away may have come in one generation that is far too large.
        fading = (KEPT - self._count) / max(KEPT, sum(self._before.values()))
        if fading > 0:
            for bucket, count in self._before.items():
                weights[bucket] = weights.get(bucket, 0.0) + count * fading
        return weights


class Line:
    """Where to draw it so that a given share of some scores lies above. `weight` is that of all of them."""

    def __init__(self, weights: Mapping[float, float]) -> None:
        self._scores = sorted(weights, reverse=True)
        # Of each bucket and all above it.
        self._weight_from = list(accumulate(map(weights.__getitem__, self._scores)))
        self.weight = self._weight_from[-1]
        self._top = edges_of(self._scores[0])[1]
        self._bottom = edges_of(self._scores[-1])[0]

    def score_at(self, share: float) -> float:
        """The score that so large a share lies above or is like."""
        return self._scores[self._place_of(share * self.weight)]

    def threshold(self, share: float, score: float, chance: float) -> tuple[float, bool]:
        """The threshold for a request with this score that has drawn `chance`, from 0 up to 1, and whether
        that has decided: where as many are alike that they lie on both sides, and beyond all that were seen,
        where nobody knows how many will follow."""
        if share <= 0:
            return MOST, False
        if share >= 1:
            return LEAST, False
        if score > self._top:
            return (self._top if chance < share else score), True
        if score <= self._bottom:
            return (edges_of(bucket_of(score))[0] if chance < share else self._bottom), True
        wanted = share * self.weight
        place = self._place_of(wanted)
        above = self._weight_from[place - 1] if place else 0.0
        low, high = edges_of(self._scores[place])
        threshold = low if chance * (self._weight_from[place] - above) < wanted - above else high
        return threshold, low < score <= high

    def _place_of(self, weight: float) -> int:
        return min(bisect_left(self._weight_from, weight), len(self._scores) - 1)
