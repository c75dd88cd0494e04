"""A policy for one request, with a threshold that holds the share of the dearest model."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from gateway.routing.features import Features
from gateway.routing.policy import Policy, Score
from gateway.routing.scores import LEAST, MOST
from gateway.routing.share import HeldShare


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
        self._abstained = self._by_lot = False

    def score(self, features: Features) -> Score:
        """The policy's score, below 1e12; as much where it abstains."""
        score = self._policy.score(features)
        self._abstained = score.abstains or not LEAST < score.value < MOST
        if self._abstained:
            score = replace(score, value=MOST, abstains=False)
        self.threshold, self._by_lot = self._share.threshold(score.value, lot_of(self._request_id))
        return score

    def in_words(self, score: Score, threshold: float) -> str:
        """The policy's words, and that the share is held."""
        if self._abstained:
            words = "nothing to go by"
        elif not self._by_lot and threshold == MOST:
            words = "the expensive model is ahead of its share"
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
