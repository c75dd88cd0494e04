"""Many clients who spend one budget until it refuses them, and what that must look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import requests

from tests.support.agreement import assert_totals_agree, books_of
from tests.support.load import LoadResult, Outcome, again_if_unavailable, run_load
from tests.support.stack import Stack

ADMIN_KEY = "admin-key-of-the-tests"
BUDGET_USD = Decimal("1.00")
CENT_OF_A_CENT = Decimal("0.0001")
MOST_TOKENS = 800
# What one request may cost at most, at ExpensiveModel's prices: its answer, and some dozens of tokens before.
WORST_CASE_USD = (Decimal(5) * MOST_TOKENS + 60) / 1_000_000


def body_of(number: int) -> dict[str, Any]:
    """A request whose answer takes an eighth up to all of what it may take."""
    tokens = MOST_TOKENS * (number % 8 + 1) // 8
    return {
        "model": "ExpensiveModel",
        "max_tokens": MOST_TOKENS,
        "stream": number % 2 == 1,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": f"Request {number}: [[write {tokens} tokens]]"}],
    } | ({} if number % 2 else {"stream": False, "stream_options": None})


def again_unless_spent(outcome: Outcome) -> float | None:
    """A `retry` for whatever but the budget is in the way."""
    return None if outcome.code == "insufficient_quota" else again_if_unavailable(outcome)


def create_key(gateway_url: str, **fields: Any) -> tuple[str, dict[str, str]]:
    """A new virtual key: its id, and the headers of who uses it."""
    answer = requests.post(
        f"{gateway_url}/admin/keys",
        json={"name": "a key of the tests", **fields},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], {"Authorization": f"Bearer {answer.json()['key']}"}


@dataclass(frozen=True)
class Spending:
    """What came of it. `spent` is what the models billed for it."""

    result: LoadResult
    spent: Decimal

    def refusals_too_early(self) -> list[Outcome]:
        """Those that were refused for the budget although more than one worst case was still left of it, even
        if all that had begun by then had cost all that it did in the end."""
        told = sum((each.cost_usd or Decimal(0) for each in self.result.outcomes), Decimal(0))
        broken = [each.began for each in self.result.broken]
        early = []
        for refused in self.result.outcomes:
            if refused.code != "insufficient_quota":
                continue
            end = refused.began + refused.seconds
            begun = sum(
                (each.cost_usd or Decimal(0) for each in self.result.outcomes if each.began < end), Decimal(0)
            )
            if broken and min(broken) < end:
                begun += self.spent - told  # what those cost that broke, of whom nobody was told
            if BUDGET_USD - begun > WORST_CASE_USD:
                early.append(refused)
        return early


def spend(
    stack: Stack,
    urls: list[str],
    headers: dict[str, str],
    *,
    clients: int = 64,
    seconds: float = 60,
    retry: Callable[[Outcome], float | None] | None = None,
    enough: int = 800,
) -> Spending:
    """Have all clients ask until so many requests were sent or the time is over, and give the bill,
    on which the gateways and the models must agree."""
    before = books_of(stack)
    result = run_load(
        urls, clients=clients, requests=enough, seconds=seconds, body=body_of, headers=headers, retry=retry
    )
    assert_totals_agree(stack, before, within_seconds=30)
    since = [books - before[model] for model, books in books_of(stack).items()]
    return Spending(result, sum((books.billed.cost_usd for books in since), Decimal(0)))
