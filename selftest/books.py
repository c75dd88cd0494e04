"""What the gateway has counted against what the models bill: since a moment it must be the same."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING

import redis
import requests

from selftest.mock import Bill
from selftest.verdicts import DoesNotHold

if TYPE_CHECKING:
    from selftest.stack import Stack

# Below this a float counter in Redis is noise.
TOLERANCE_USD = Decimal("1e-9")
POLL_SECONDS = 0.2
# What is counted and not billed cannot come right, but for the moment in which a model books later than the
# gateway.
TOO_MUCH_SECONDS = 4.0
FIGURES = {
    "calls": "answers",
    "input_tokens": "input tokens",
    "cached_input_tokens": "cached tokens",
    "output_tokens": "output tokens",
    "cost_usd": "USD",
}


@dataclass(frozen=True)
class Books:
    """The totals of a moment: of each model as its keys in Redis have it and as it bills itself, and what
    `/metrics` says."""

    counted: Mapping[str, Bill]
    billed: Mapping[str, Bill]
    metrics_calls: Mapping[str, int]
    metrics_total: int
    metrics_usd: Decimal


def books_of(stack: Stack) -> Books:
    """All totals of now.

    :raises requests.RequestException: where the gateway or a model does not tell
    :raises redis.RedisError: where Redis does not
    """
    metrics = stack.metrics()
    return Books(
        counted={mock.name: stack.counted(mock.name) for mock in stack.mocks},
        billed={mock.name: mock.bill() for mock in stack.mocks},
        metrics_calls=metrics["modelUsageCount"],
        metrics_total=metrics["totalRequests"],
        metrics_usd=Decimal(str(metrics["totalCostUsd"])),
    )


def await_agreement(stack: Stack, before: Books, *, all_whole: bool = True) -> str:
    """Wait until what has been counted since `before` is what has been billed since, and say both.

    Where not `all_whole` the numbers of answers are left out: of one that was cut the model says that it
    has answered, and the gateway does not.

    :raises DoesNotHold: where that does not come
    """
    deadline = time.monotonic() + stack.settings.patience
    too_much_since: float | None = None
    while True:
        try:
            now = books_of(stack)
        except (redis.RedisError, requests.RequestException) as error:
            difference, excess = f"the totals cannot be read ({type(error).__name__})", False
        else:
            difference, excess = difference_between(before, now, all_whole)
            if not difference:
                return _summary(before, now, all_whole)
        clock = time.monotonic()
        too_much_since = (too_much_since or clock) if excess else None
        if clock > deadline or (too_much_since and clock - too_much_since > TOO_MUCH_SECONDS):
            raise DoesNotHold(difference)
        time.sleep(POLL_SECONDS)


def difference_between(before: Books, now: Books, all_whole: bool) -> tuple[str, bool]:
    """What has not been counted as it was billed, in words, and whether too much was counted."""
    differences, excess = [], False
    for model in now.billed:
        billed = now.billed[model] - before.billed[model]
        counted = now.counted[model] - before.counted[model]
        off = counted - billed
        for figure in fields(Bill):
            if figure.name == "calls" and not all_whole:
                continue
            difference = getattr(off, figure.name)
            if abs(difference) > (TOLERANCE_USD if figure.name == "cost_usd" else 0):
                told = f"{getattr(counted, figure.name)} counted, {getattr(billed, figure.name)} billed"
                differences.append(f"{model}: {FIGURES[figure.name]}: {told}")
                excess = excess or difference > 0
        calls = now.metrics_calls.get(model, 0) - before.metrics_calls.get(model, 0)
        if all_whole and calls != billed.calls:
            differences.append(f"/metrics: {calls} answers of {model}, {billed.calls} billed")
            excess = excess or calls > billed.calls
    answers, usd = _billed(before, now)
    if all_whole and now.metrics_total - before.metrics_total != answers:
        told = f"{now.metrics_total - before.metrics_total} requests, {answers} billed"
        differences.append(f"/metrics: {told}")
    if abs(now.metrics_usd - before.metrics_usd - usd) > TOLERANCE_USD:
        differences.append(f"/metrics: {now.metrics_usd - before.metrics_usd} USD, {usd} billed")
    return "; ".join(differences[:3]), excess


def _billed(before: Books, now: Books) -> tuple[int, Decimal]:
    since = [now.billed[model] - before.billed[model] for model in now.billed]
    return sum(bill.calls for bill in since), sum((bill.cost_usd for bill in since), Decimal(0))


def _summary(before: Books, now: Books, all_whole: bool) -> str:
    answers, usd = _billed(before, now)
    counts = f"{answers} answers, " if all_whole else ""
    return f"{counts}{usd.normalize():f} USD: the same in Redis, /metrics and at the models"
