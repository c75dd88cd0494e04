"""A policy for one request, with a threshold that holds the share of the dearest model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gateway.routing.features import Features
from gateway.routing.policy import Policy, Score
from gateway.routing.scores import LEAST, MOST, OUT_OF_REACH
from gateway.routing.share import HeldShare


@dataclass(frozen=True)
class Undecided(Score):
    """The score of a policy that had nothing to go by, and whether it gets the dearest model all the same."""

    is_granted: bool = False

    def is_above(self, threshold: float) -> bool:
        return self.is_granted


def rank_of(score: Score) -> float:
    """Where a score stands among those of all: below 1e12, or just there where there was nothing to go by."""
    return score.value if LEAST < score.value < MOST and not score.abstains else MOST


class HeldPolicy:
    """`threshold` is the request's own from the moment that its score is known. Where the scores do not part
    requests, their ids do: the same id draws the same lot. A policy that abstains asks for the dearest model
    more than any score does, but the share holds for these too."""

    def __init__(self, policy: Policy, share: HeldShare, request_id: str) -> None:
        self.name = policy.name
        self.threshold = policy.threshold
        self._policy = policy
        self._share = share
        self._request_id = request_id
        self._by_lot = False

    def score(self, features: Features) -> Score:
        """The policy's score."""
        score = self._policy.score(features)
        rank = rank_of(score)
        self.threshold, self._by_lot = self._share.threshold(rank, lot_of(self._request_id))
        if rank < MOST:
            return score
        is_granted, self.threshold = rank > self.threshold, self._share.usual_threshold
        return Undecided(score.value, score.uncertainty, score.factors, True, is_granted)

    def in_words(self, score: Score, threshold: float) -> str:
        """The policy's words, and that the share is held."""
        if rank_of(score) == MOST:
            words = "nothing to go by"
        elif not self._by_lot and threshold == MOST:
            words = "the expensive model is ahead of its share"
        elif threshold >= OUT_OF_REACH:
            words = "those with nothing to go by have the expensive share"
        elif not self._by_lot and threshold == LEAST:
            words = "the expensive model is behind its share"
        else:
            words = self._policy.in_words(score, threshold)
        words += f"; the expensive share is held at {100 * self._share.target:.3g} %"
        return words + (", here by the request's id" if self._by_lot else "")


def lot_of(request_id: str) -> float:
    """From 0 up to 1; no other id of a client's making comes near it."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=4).digest()
    return int.from_bytes(digest) / 2**32
