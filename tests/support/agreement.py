"""The gateway's totals against those of the models: what has come since a moment must be the same."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal

import pytest
import redis
import requests

from tests.support.stack import Bill, Stack

POLL_SECONDS = 0.2
# Below this a float counter is noise.
TOLERANCE_USD = Decimal("1e-9")


@dataclass(frozen=True)
class Books:
    """One model's totals: as the gateway counts them, and as the model bills them."""

    counted: Bill
    billed: Bill

    def __sub__(self, earlier: Books) -> Books:
        return Books(self.counted - earlier.counted, self.billed - earlier.billed)

    @property
    def agree(self) -> bool:
        """Whether calls and tokens are equal and the money is within a billionth of a dollar."""
        difference = self.counted - self.billed
        return not any(
            getattr(difference, field.name) for field in fields(Bill) if field.name != "cost_usd"
        ) and (abs(difference.cost_usd) <= TOLERANCE_USD)


def books_of(stack: Stack) -> dict[str, Books]:
    """The books of every model of a stack."""
    return {model: Books(stack.counted(model), stack.billed(model)) for model in stack.model_urls}


def assert_totals_agree(stack: Stack, before: Mapping[str, Books], *, within_seconds: float) -> None:
    """Wait until what each model of `before` has billed since is what the gateway has counted since, and fail
    with both where that does not come; a Redis that cannot be reached yet is waited for as well."""
    deadline = time.monotonic() + within_seconds
    while True:
        last = time.monotonic() >= deadline
        try:
            now = books_of(stack)
        except (redis.RedisError, requests.RequestException) as error:
            if last:
                pytest.fail(f"the totals cannot be read: {error!r}")
        else:
            since = {model: now[model] - before[model] for model in before}
            if all(books.agree for books in since.values()):
                return
            if last:
                pytest.fail(f"not the same after {within_seconds:g} s:\n{table_of(since)}")
        time.sleep(POLL_SECONDS)


def table_of(books: Mapping[str, Books]) -> str:
    """Both sides of each figure, and what is missing or too much at the gateway."""
    lines = [f"{'model':<16}{'figure':<22}{'gateway':>18}{'model itself':>18}{'difference':>18}"]
    for model, both in books.items():
        difference = both.counted - both.billed
        for field in fields(Bill):
            counted, billed, off = (
                getattr(bill, field.name) for bill in (both.counted, both.billed, difference)
            )
            mark = "  <--" if abs(off) > (TOLERANCE_USD if field.name == "cost_usd" else 0) else ""
            figures = "".join(f"{_text(figure):>18}" for figure in (counted, billed, off))
            lines.append(f"{model:<16}{field.name:<22}{figures}{mark}")
    return "\n".join(lines)


def _text(figure: int | Decimal) -> str:
    return f"{figure:.10f}" if isinstance(figure, Decimal) else str(figure)
