"""The log of the routing policies' decisions in Redis: read, and scored by those who got the answers.

The decisions themselves come with the bills of their answers (`entry.py`), in the same round trip.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import redis

from gateway.ledger.connection import translating_errors
from gateway.ledger.names import Names
from gateway.ledger.scripts import Script
from gateway.routing.decision import Decision, UnreadableDecision, name_of

AT_ONCE = 500

logger = logging.getLogger(__name__)


class DecisionLog:
    """All decisions that are kept below one prefix. Every method raises `LedgerUnavailable` where Redis
    cannot be asked; a score may have been noted then."""

    def __init__(self, client: redis.Redis, names: Names) -> None:
        self._redis = client
        self._names = names
        self._score = Script(client, "score_decision")

    def score(self, request_id: str, key_id: str | None, score: float) -> bool:
        """Note how good the answer to a request was, 0 to 1; the last word counts. Whether its decision is
        kept, as that of this key."""
        (known,) = self.score_all([(name_of(request_id, key_id), score)])
        return known

    def score_all(self, scores: Sequence[tuple[str, float]]) -> list[bool]:
        """The same for many decisions, by their names."""
        keys, known = [self._names.decisions, self._names.decision_scores], []
        for start in range(0, len(scores), AT_ONCE):
            calls = [(keys, [name, repr(score)]) for name, score in scores[start : start + AT_ONCE]]
            with translating_errors():
                answers = self._score.run_all(calls)
                if failures := [answer for answer in answers if isinstance(answer, Exception)]:
                    raise failures[0]
            known += [answer == 1 for answer in answers]
        return known

    def names(self) -> list[str]:
        """Of all decisions, from the oldest."""
        with translating_errors():
            return cast("list[str]", self._redis.zrange(self._names.decision_times, 0, -1))

    def read(self, since: float = 0.0) -> list[Decision]:
        """The decisions since a time, in seconds since 1970, from the oldest. Those that cannot be read are
        left out, and told in the log."""
        with translating_errors():
            found = self._redis.zrangebyscore(self._names.decision_times, since, "+inf")
            names = cast("list[str]", found)
        decisions = []
        unreadable = 0
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            with translating_errors(), self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hmget(self._names.decisions, some)
                pipeline.hmget(self._names.decision_scores, some)
                records, scores = pipeline.execute()
            for name, record, score in zip(some, records, scores, strict=True):
                if record is None:
                    continue  # dropped meanwhile
                try:
                    decisions.append(Decision.of(name, record, None if score is None else float(score)))
                except (UnreadableDecision, ValueError):
                    unreadable += 1
        if unreadable:
            logger.warning(
                "decisions in the log cannot be read and are left out", extra={"count": unreadable}
            )
        return decisions
