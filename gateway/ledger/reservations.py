"""Reserving before the call what it may cost at most, in all budgets at once."""

from __future__ import annotations

import logging
import math
import random
import time
from datetime import UTC, datetime

import gevent
import redis

from gateway.errors import InsufficientQuota, LedgerUnavailable, RateLimitExceeded
from gateway.ledger.committer import Committer
from gateway.ledger.connection import translating_errors
from gateway.ledger.journal import JournalUnwritable
from gateway.ledger.names import Names
from gateway.ledger.rates import Usage, rate_headers, rate_states
from gateway.ledger.reservation import BudgetWindow, Call, Reservation, windows_of
from gateway.ledger.script_group import ScriptGroup
from gateway.ledger.scripts import Script
from gateway.ledger.tally import Tally

TRIES = 10  # of one that Redis does not answer, as long as it turns out to be well
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25  # seconds between two looks at a budget that others hold
RENEW_AT_ONCE = 200
# For a step that no request waits for, and for the verdict on a suspect Redis: two tries at its time-out, and
# whatever the loop of a busy worker adds to that.
MOST_SECONDS = 2.0
SPENT_FOR_GOOD_SECONDS = 24 * 3600  # what is said of a budget without a next period
UNCHECKED = "The ledger cannot be reached, so the budget or the limits of this key cannot be checked now."

logger = logging.getLogger(__name__)


class Reservations:
    """`lease` is how long a hold lasts that nobody renews, `wait` how long a request waits for others' holds
    on the last of a budget, both seconds. `refuse_without_redis` says what happens to calls with a budget
    while Redis is away."""

    def __init__(
        self,
        client: redis.Redis,
        names: Names,
        committer: Committer,
        *,
        patience: float,
        lease: int,
        wait: float,
        refuse_without_redis: bool,
    ) -> None:
        self._names = names
        self._committer = committer
        self._health = committer.health
        self._reserve = ScriptGroup(Script(client, "reserve"), patience)
        self._renew = Script(client, "renew")
        self._lease = lease
        self._wait = wait
        self._refuse_without_redis = refuse_without_redis
        self._held: dict[str, Reservation] = {}
        committer.outbox.restore = self._restore

    def start(self) -> None:
        """Renew the holds of running calls from now on, in a greenlet of this worker."""
        gevent.spawn(self._keep_renewing)

    def reserve(self, call: Call, *, wait: bool = True, follows: Reservation | None = None) -> Reservation:
        """Have a call that may be made noted, and what it may cost at most held in all of its budgets: `most`
        where they afford it, else what they afford, if that is not below `least`. Without `wait` it is
        refused also where others only hold what it would need. A call that `follows` another for the same
        request is no further request, and its tokens count as those of the first.

        :raises InsufficientQuota: where a budget affords less
        :raises RateLimitExceeded:
        :raises LedgerUnavailable: where that cannot be known, or the call could not be billed
        """
        reservation = Reservation(call, tuple(windows_of(call.tenant, self._names)))
        if follows is not None:
            reservation.is_limited = False
            reservation.counted_in, reservation.rates = follows.counted_in, follows.rates
        outbox = self._committer.outbox
        is_limited = bool(reservation.budgets) or _has_rates(reservation)
        try:
            outbox.open_call(call.id, {**reservation.record(), "reserving": is_limited})
        except JournalUnwritable:
            if not self._health.is_well:
                outbox.close_call(call.id)
                raise LedgerUnavailable(
                    "The ledger cannot be reached, so no answer can be billed now."
                ) from None
        if not is_limited:
            return reservation
        self._hold(reservation, wait)
        outbox.note_asked(call.id)
        if reservation.usd is not None:
            self._held[call.id] = reservation
        return reservation

    def forget(self, reservation: Reservation) -> None:
        """Renew it no more."""
        self._held.pop(reservation.call.id, None)

    def give_back(self, reservation: Reservation, tally: Tally, used_tokens: int) -> None:
        """Add to `tally` what ends a reservation whose call used so many tokens."""
        call = reservation.call
        if reservation.is_unsure:
            self._drop(reservation, tally)
        elif reservation.usd is not None:
            for budget in reservation.budgets:
                tally.free(budget.holds, budget.key, reservation.member, reservation.usd)
        if reservation.counted_in is not None and call.tenant.key and used_tokens != call.tokens:
            rate = self._names.rate(call.tenant.key.id)
            tally.correct_tokens(rate, reservation.counted_in, used_tokens - call.tokens)

    def _hold(self, reservation: Reservation, wait: bool) -> None:
        if self._health.is_lost:
            if reservation.budgets and self._refuse_without_redis:
                self._committer.outbox.close_call(reservation.call.id)
                raise LedgerUnavailable(UNCHECKED)
            return
        try:
            self._hold_in_redis(reservation, wait)
        except (InsufficientQuota, RateLimitExceeded):
            self._committer.outbox.close_call(reservation.call.id)
            raise
        except LedgerUnavailable as error:
            self._committer.suspect(error)
            is_refused = bool(reservation.budgets) and self._refuse_without_redis
            self._void(reservation, closes=is_refused)
            if is_refused:
                raise LedgerUnavailable(UNCHECKED) from error
        except BaseException:
            self._void(reservation, closes=True)
            raise

    def _hold_in_redis(self, reservation: Reservation, wait: bool) -> None:
        deadline, pause = time.monotonic() + (self._wait if wait else 0), FIRST_PAUSE
        while True:
            outcome, usd, index, *rate = self._ask(reservation)
            usage = Usage.read(rate)
            key = reservation.call.tenant.key
            if outcome == "held":
                reservation.usd = usd if reservation.budgets else None
                if key is not None and _has_rates(reservation):
                    reservation.counted_in = usage.second
                    reservation.rates = rate_states(key, usage, 1, reservation.call.tokens)
                return
            if outcome in ("requests", "tokens") and key is not None:
                raise _rate_limit_exceeded(outcome, reservation.call, usage)
            if outcome == "void":
                raise LedgerUnavailable(UNCHECKED)
            short = reservation.budgets[int(index) - 1]
            if outcome == "spent":
                raise _insufficient_quota(short)
            if time.monotonic() > deadline:
                raise InsufficientQuota(
                    "What is left of this budget is held for requests that are running; ask again soon.",
                    headers={"Retry-After": "1"},
                )
            gevent.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - only spreads the looks
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ask(self, reservation: Reservation) -> list[str]:
        """The script's answer. Where it does not come although Redis turns out to be well, it is asked again.

        :raises LedgerUnavailable:
        """
        call, key = reservation.call, reservation.call.tenant.key
        keys = [self._names.void(call.id), self._names.rate(key.id if key else "")]
        args: list[str | int | float] = [call.id, f"{call.most:f}", f"{call.least:f}", self._lease]
        if key is not None and reservation.is_limited:
            args += [key.rpm or "", key.tpm or "", call.tokens]
        else:
            args += ["", "", call.tokens]
        budgets: list[str | int | float] = []
        for budget in reservation.budgets:
            keys += [budget.key, budget.holds]
            budgets += [f"{budget.scope.budget.usd:f}", budget.kept_until]
        for tries_left in reversed(range(TRIES)):
            if not self._health.is_well and not self._health.wait_until_known(MOST_SECONDS):
                break
            try:
                again = "again" if reservation.is_unsure else ""
                answer: list[str] = self._reserve(keys, [*args, again, *budgets])
                return answer
            except LedgerUnavailable as error:
                if tries_left == 0:
                    raise
                self._committer.suspect(error)
                reservation.is_unsure = True
        raise LedgerUnavailable(UNCHECKED)

    def _void(self, reservation: Reservation, *, closes: bool) -> None:
        """Give up a reservation that Redis may have got, or may get yet. A call that it `closes` is not made;
        it stays open in the journal until what it may hold is given back."""
        tally = Tally()
        self._drop(reservation, tally)
        self._committer.add_later(tally, [reservation.call.id] if closes else ())

    def _drop(self, reservation: Reservation, tally: Tally) -> None:
        """Have `tally` end whatever Redis holds for a call, or would hold by a try that it gets later."""
        tally.void(self._names.void(reservation.call.id), self._lease)
        for budget in reservation.budgets:
            tally.drop(budget.holds, budget.key, reservation.call.id)

    def _keep_renewing(self) -> None:
        while True:
            gevent.sleep(self._lease / 6)
            if self._health.is_well:
                try:
                    self._renew_all("")
                except LedgerUnavailable as error:
                    self._committer.suspect(error)
                except Exception:
                    logger.exception("renewing holds failed")

    def _restore(self) -> None:
        """Hold again what is held for running calls, since Redis has lost a part of its memory. No settlement
        of theirs is on its way meanwhile: both go through the same outbox.

        :raises LedgerUnavailable:
        """
        self._renew_all("restore")

    def _renew_all(self, how: str) -> None:
        held = [(each, budget) for each in self._held.values() for budget in each.budgets]
        for start in range(0, len(held), RENEW_AT_ONCE):
            some = held[start : start + RENEW_AT_ONCE]
            keys = [key for _, budget in some for key in (budget.holds, budget.key)]
            with translating_errors(MOST_SECONDS):
                self._renew(keys, [self._lease, how, *(each.member for each, _ in some)])


def _has_rates(reservation: Reservation) -> bool:
    key = reservation.call.tenant.key
    return reservation.is_limited and key is not None and bool(key.rpm or key.tpm)


def _insufficient_quota(budget: BudgetWindow) -> InsufficientQuota:
    what, _, _ = budget.scope.name.partition(":")
    ends, seconds = budget.window.ends, SPENT_FOR_GOOD_SECONDS
    until = "for good"
    if ends is not None:
        seconds = max(1, int((ends - datetime.now(UTC)).total_seconds()) + 1)
        until = f"until {ends:%Y-%m-%d %H:%M} UTC"
    usd = f"{budget.scope.budget.usd.normalize():f}"
    return InsufficientQuota(
        f"The budget of this {what}, {usd} USD, has not enough left for this request, {until}.",
        headers={"Retry-After": str(seconds), "X-Should-Retry": "false"},
    )


def _rate_limit_exceeded(outcome: str, call: Call, usage: Usage) -> RateLimitExceeded:
    key = call.tenant.key
    assert key is not None  # noqa: S101 - only keys have limits
    limit = (key.rpm if outcome == "requests" else key.tpm) or 0
    seconds = usage.seconds_until_room
    told = rate_headers(rate_states(key, usage, 0, 0))
    message = f"This key is limited to {limit} {outcome} per minute."
    if seconds is None:
        raise RateLimitExceeded(
            f"{message} This request alone needs about {call.tokens}.",
            limit=outcome,
            headers={"Retry-After": "60", "X-Should-Retry": "false", **told},
        )
    headers = {"Retry-After": str(max(1, math.ceil(seconds))), **told}
    return RateLimitExceeded(f"{message} Ask again in {seconds:.1f} s.", limit=outcome, headers=headers)
