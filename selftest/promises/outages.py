"""Promises for when Redis or a worker goes away."""

from __future__ import annotations

import time
from contextlib import suppress

import redis

from selftest.books import Books, await_agreement, books_of
from selftest.promises.budgets import AMPLE_USD, require_no_hold
from selftest.stack import Stack
from selftest.traffic import TRIES, Result, traffic
from selftest.verdicts import DoesNotHold, NotTried, Promise, Trial

PAUSE_SECONDS = 3.0
BEFORE_SECONDS = 0.7  # of traffic before something happens, so that requests are in work then
AFTER_SECONDS = 1.5
BACK_SECONDS = 60.0
SLOWEST_SECONDS = 10.0
KILLS = 2


def paused_redis_stops_nobody(stack: Stack, trial: Trial) -> str:
    before = _own_redis(stack)
    with traffic(stack) as result:
        time.sleep(BEFORE_SECONDS)
        with stack.redis() as client:
            client.client_pause(int(PAUSE_SECONDS * 1000))
        time.sleep(PAUSE_SECONDS + AFTER_SECONDS)
    return _require_served(stack, trial, result, before)


def restarted_redis_stops_nobody(stack: Stack, trial: Trial) -> str:
    before = _own_redis(stack)
    with traffic(stack) as result:
        time.sleep(BEFORE_SECONDS)
        with stack.redis() as client:
            run = client.info("server")["run_id"]
            with suppress(redis.ConnectionError):  # it says nothing more
                client.shutdown()
        gone = time.monotonic()
        _await_redis(stack, str(run))
        away = time.monotonic() - gone
        time.sleep(AFTER_SECONDS)
    return f"{_require_served(stack, trial, result, before)}; Redis was away for {away:.1f} s"


def killed_workers_lose_nothing(stack: Stack, trial: Trial) -> str:
    workers = stack.workers.alive()
    trial.expect(bool(workers), "no worker lives")
    before = books_of(stack)
    key_id, key = stack.make_key(budget_usd=AMPLE_USD) if stack.settings.admin_key else (None, None)
    with traffic(stack, key=key, tries=TRIES) as result:
        for kill in range(KILLS):
            time.sleep(BEFORE_SECONDS)
            alive = stack.workers.alive()
            stack.workers.kill(alive[kill % len(alive)])
            if len(workers) == 1:
                break  # while the only one starts again, nobody is served
        time.sleep(AFTER_SECONDS)
        stack.workers.await_number(len(workers))
    result.require_all(trial)
    trial.times = kill + 1
    agreed = await_agreement(stack, before)
    if key_id is not None:
        require_no_hold(stack, key_id)
    return f"{result.whole} of {result.asked} answered, {result.again} of them asked again; {agreed}"


def _own_redis(stack: Stack) -> Books:
    """The books before.

    :raises NotTried: where the Redis is not the stack's own, or requests cannot do without it
    """
    if not stack.settings.redis_is_own:
        raise NotTried("this Redis may not be the stack's own, so it is left alone")
    if stack.settings.gateway_budget:
        raise NotTried(
            "GATEWAY_BUDGET_USD is set: while Redis is away no request is served that has a budget"
        )
    return books_of(stack)


def _await_redis(stack: Stack, earlier_run: str) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        with suppress(redis.RedisError), stack.redis() as client:
            if client.info("server")["run_id"] != earlier_run:
                return
        if time.monotonic() > deadline:
            raise DoesNotHold(f"Redis did not come back within {BACK_SECONDS:g} s of its stop")
        time.sleep(0.1)


def _require_served(stack: Stack, trial: Trial, result: Result, before: Books) -> str:
    result.require_all(trial)
    slow = f"a request took {result.slowest:.1f} s"
    trial.expect(result.slowest <= SLOWEST_SECONDS, slow)
    agreed = await_agreement(stack, before)
    deadline = time.monotonic() + stack.settings.patience
    while (ready := stack.get("/readyz")).status_code != 200:
        if time.monotonic() > deadline:
            raise DoesNotHold(f"/readyz is still {ready.status_code}: {ready.text[:80].strip()}")
        time.sleep(0.2)
    return f"all of {result.asked} answered, the slowest in {result.slowest:.1f} s; {agreed}"


PROMISES = (
    Promise(
        "redis-paused",
        "While Redis hangs, requests are served, and counted afterwards",
        f"CLIENT PAUSE of {PAUSE_SECONDS:g} s under 8 clients",
        paused_redis_stops_nobody,
    ),
    Promise(
        "redis-restarted",
        "A restart of Redis loses no request and no cent",
        "SHUTDOWN under 8 clients",
        restarted_redis_stops_nobody,
    ),
    Promise(
        "worker-killed",
        "A killed worker loses no cent and no hold",
        f"kill -9 of {KILLS} workers under 8 clients that ask again",
        killed_workers_lose_nothing,
    ),
)
