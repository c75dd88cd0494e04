"""Held shares in Redis, where what all workers choose is one. Each worker gives and takes a few times per
second, beside its requests. Without Redis each holds the share by what it sees itself, and tells later."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain

import gevent
import orjson
import redis
from gevent.event import Event

from gateway.errors import LedgerUnavailable
from gateway.ledger.connection import translating_errors
from gateway.ledger.names import Names
from gateway.ledger.scripts import Script
from gateway.routing.dollars import FIRST_SHARE, DaySpend, day_of, next_share, share_for
from gateway.routing.scores import KEPT
from gateway.routing.share import MOST_DEBT, HeldShare, Known, Recent, Seen

TICK_SECONDS = 0.1
LEAST_SECONDS = 0.05
LOOK_SECONDS = 1.0  # at the scores of all, which are much to read
MOST_SECONDS = 1.0
REMEMBERED_SECONDS = 3600  # longer than Redis is away, as a rule
COUNTED = ("requests", "expensive")  # beside the buckets of a generation

logger = logging.getLogger(__name__)


class ShareBoard:
    """One worker's way to what all workers choose. `dollars` are USD per day, None where the share is a
    fixed one; the scores of all are looked at every `look_seconds`."""

    def __init__(
        self,
        client: redis.Redis,
        names: Names,
        shares: Mapping[str, HeldShare],
        dollars: Decimal | None = None,
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.dollars = dollars
        self.day: DaySpend | None = None
        self._shares = shares
        self._names = names
        self._worker = uuid.uuid4().hex
        self._number = 0
        self._numbers: dict[str, int] = {}  # of the choices on their way, by the policy
        self._add = Script(client, "add_choices")
        self._steer = Script(client, "steer_dollars")
        self._wake = Event()
        self._look_seconds = look_seconds
        self._looked = -look_seconds
        self._is_away = False
        for share in shares.values():
            share.on_news = self._wake.set

    def start(self) -> None:
        """Give and take from now on, in a greenlet of this worker."""
        gevent.spawn(self._run)

    def exchange(self) -> None:
        """Give Redis what it has not got yet, and take over what all have chosen.

        :raises LedgerUnavailable: where Redis may not have got it; the same is given again, and counts once
        """
        now = time.monotonic()
        looks = now - self._looked >= self._look_seconds
        policies = [policy for policy, share in self._shares.items() if looks or share.has_news]
        if not policies:
            return
        with translating_errors(MOST_SECONDS):
            answers = self._add.run_all([self._call(policy, looks=looks) for policy in policies])
            for policy, answer in zip(policies, answers, strict=True):
                if isinstance(answer, Exception):
                    raise answer
                known = _known(answer)
                self._numbers.pop(policy, None)
                self._shares[policy].learn(known)
            if looks:
                self._looked = now
                if self.dollars is not None:
                    self._steer_by(self.dollars)

    def _call(self, policy: str, *, looks: bool) -> tuple[Sequence[str], Sequence[str | int | float]]:
        seen, names = self._shares[policy].pending(), self._names
        if policy not in self._numbers:
            self._number += 1
            self._numbers[policy] = self._number
        generations = [names.scores(policy, generation) for generation in ("now", "before")]
        keys = [names.share(policy), *generations, names.share_writer(policy, self._worker)]
        number, how = self._numbers[policy], "recent" if looks else ""
        return keys, [number, REMEMBERED_SECONDS, _as_json(seen), KEPT, MOST_DEBT, how]

    def _steer_by(self, dollars: Decimal) -> None:
        now, known = datetime.now(UTC), self.day
        share = None if known is None else next_share(dollars, known, now)
        keys = [self._names.dollars, self._names.total("cost_usd")]
        step = known.step if known is not None else ""
        answer = self._steer(
            keys, [f"{day_of(now):%Y-%m-%d}", step, "" if share is None else repr(share), FIRST_SHARE]
        )
        self.day = _day_spend(answer)
        for held in self._shares.values():
            held.target = share_for(dollars, self.day)

    def _run(self) -> None:
        gevent.sleep(TICK_SECONDS * random.random())  # noqa: S311 - only spreads them
        while True:
            try:
                self.exchange()
                self._set_away(None)
            except LedgerUnavailable as error:
                self._set_away(error)
            except Exception:
                logger.exception("holding the share failed")
                gevent.sleep(LOOK_SECONDS)
            self._wake.clear()
            gevent.sleep(TICK_SECONDS if self._is_away else LEAST_SECONDS)
            self._wake.wait(TICK_SECONDS)

    def _set_away(self, error: LedgerUnavailable | None) -> None:
        was_away, self._is_away = self._is_away, error is not None
        if error is not None and not was_away:
            cause = type(error.__cause__ or error).__name__  # its text may hold addresses
            logger.warning("each worker holds the share by what it sees itself", extra={"cause": cause})
        elif error is None and was_away:
            logger.info("all workers hold the share together again")


def _as_json(seen: Seen) -> str:
    if not seen.requests:
        return ""
    scores = list(chain.from_iterable((f"{bucket:.3g}", count) for bucket, count in seen.scores.items()))
    return orjson.dumps([seen.requests, seen.expensive, f"{seen.debt:.6f}", scores]).decode()


def _known(answer: Sequence[object]) -> Known:
    """
    :raises LedgerUnavailable: for what are no numbers
    """
    requests, expensive, debt, *generations = answer
    recent = None
    try:
        if generations:
            (now, now_expensive), (before, before_expensive) = map(_generation, generations)
            recent = Recent(now, before, now_expensive, before_expensive)
        return Known(int(str(requests)), int(str(expensive)), float(str(debt)), recent)
    except ValueError as error:
        raise LedgerUnavailable("What Redis has of a share is no number.") from error


def _generation(flat: object) -> tuple[dict[float, int], int]:
    """Its scores by bucket, and how many requests went to the dearest model."""
    assert isinstance(flat, list)  # noqa: S101 - as the script says
    counts = dict(zip(flat[::2], map(int, flat[1::2]), strict=True))
    _, expensive = (counts.pop(name, 0) for name in COUNTED)
    return {float(bucket): count for bucket, count in counts.items()}, expensive


def _day_spend(answer: Sequence[str]) -> DaySpend:
    day, began, share, step, seconds, spent_at_step, spent = answer
    return DaySpend(
        day, Decimal(began), float(share), int(step), float(seconds), Decimal(spent_at_step), Decimal(spent)
    )
