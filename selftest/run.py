"""Tries the promises one after the other, and leaves the stack as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import redis
import requests

from selftest.books import Books, books_of, difference_between
from selftest.stack import Stack
from selftest.verdicts import DoesNotHold, NotTried, Outcome, Promise, Trial, Verdict

# No promise is begun later than this; the longest ones take half a minute.
LATEST_START_SECONDS = 150.0
OUT_OF_TIME = f"not begun: {LATEST_START_SECONDS:g} s were over"

SETTLE_SECONDS = 5.0
SETTLE_POLL_SECONDS = 0.1

Notify = Callable[[Promise, Verdict | None], None]


def try_promises(stack: Stack, promises: Sequence[Promise], notify: Notify) -> list[Verdict]:
    """A verdict on each; `notify` hears of each when it is begun, and with its verdict when it is over.

    :raises CannotRun: see `Stack.require_mocks`
    """
    verdicts = []
    with tidied(stack):
        stack.require_mocks()
        stack.books_at_start = books = books_of(stack)
        begun = time.monotonic()
        for promise in promises:
            notify(promise, None)
            books = settled_books(stack, books)
            if time.monotonic() - begun > LATEST_START_SECONDS:
                verdict = Verdict(promise, Outcome.NOT_TRIED, 0, OUT_OF_TIME, 0.0)
            else:
                verdict = try_promise(stack, promise)
            verdicts.append(verdict)
            notify(promise, verdict)
    return verdicts


def settled_books(stack: Stack, books: Books) -> Books:
    """The books of now, once what an earlier promise has left in the air is counted: the bill of a call that
    broke off is asked for afterwards, and would be taken for one too much of the next promise."""
    deadline = time.monotonic() + SETTLE_SECONDS
    with suppress(requests.RequestException, redis.RedisError):
        while True:
            now = books_of(stack)
            if not difference_between(books, now, all_whole=False)[0] or time.monotonic() > deadline:
                return now
            time.sleep(SETTLE_POLL_SECONDS)
    return books


def try_promise(stack: Stack, promise: Promise) -> Verdict:
    """The verdict on one."""
    trial, begun = Trial(), time.monotonic()
    outcome = Outcome.BROKEN
    try:
        seen = promise.check(stack, trial)
        outcome = Outcome.HOLDS
    except NotTried as reason:
        outcome, seen = Outcome.NOT_TRIED, str(reason)
    except DoesNotHold as found:
        seen = str(found)
    except requests.RequestException as error:
        seen = f"no answer: {type(error).__name__}"
    except redis.RedisError as error:
        seen = f"Redis: {type(error).__name__}: {error}"
    return Verdict(promise, outcome, trial.times, seen, time.monotonic() - begun)


@contextmanager
def tidied(stack: Stack) -> Iterator[None]:
    """However the block ends: faults are ended, Redis goes on, keys that were made are revoked."""
    try:
        yield
    finally:
        with suppress(requests.RequestException):
            stack.mend()
        with suppress(redis.RedisError), stack.redis() as client:
            if stack.settings.redis_is_own:
                client.client_unpause()
        with suppress(requests.RequestException):
            stack.revoke_keys()
