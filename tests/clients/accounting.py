"""Whether each answer of a client's session is counted once, and billed as the model itself bills it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from tests.support.stack import MODELS, Bill, Stack

Test = TypeVar("Test", bound=Callable[..., object])


@dataclass(frozen=True)
class Books:
    """What `/metrics`, Redis and the models themselves say at one moment."""

    metrics: Any
    counted: dict[str, Bill]
    billed: dict[str, Bill]


def read_books(stack: Stack) -> Books:
    return Books(
        stack.metrics(),
        {model: stack.counted(model) for model in MODELS},
        {model: stack.billed(model) for model in MODELS},
    )


def assert_answers(count: int, before: Books, after: Books) -> None:
    """The models gave `count` answers between the two; the gateway counts these and no more, and bills them
    exactly as the models do."""
    cost = 0.0
    for model in MODELS:
        counted = (after.counted[model] - before.counted[model]).rounded()
        billed = (after.billed[model] - before.billed[model]).rounded()
        assert counted == billed, f"{model}: the gateway counts {counted}, the model bills {billed}"
        cost += float(billed.cost_usd)
    requests = after.metrics["totalRequests"] - before.metrics["totalRequests"]
    assert requests == count, f"/metrics counts {requests} answers instead of {count}"
    spent = after.metrics["totalCostUsd"] - before.metrics["totalCostUsd"]
    assert spent == pytest.approx(cost, abs=1e-9), f"/metrics counts {spent} USD instead of {cost}"


def answers(count: int) -> Callable[[Test], Test]:
    """Marks a test with the number of answers that models give in it; one where it is not marked."""

    def mark(test: Test) -> Test:
        test.__dict__["answers"] = count
        return test

    return mark


@contextmanager
def counted_exactly(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    """Around a test: its answers, as it is marked, are counted and billed exactly."""
    before = read_books(stack)
    yield
    assert_answers(getattr(request.function, "answers", 1), before, read_books(stack))
