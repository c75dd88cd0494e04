"""What keys and owners have used: read from Redis, never changed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import redis

from gateway.budget import Scope
from gateway.errors import LedgerUnavailable
from gateway.ledger.connection import translating_errors
from gateway.ledger.names import Names

REPORTED_USD = Decimal("1e-12")  # a float counter in Redis carries noise below this
USAGE_FIELDS = ("requests", "cost_usd", "input_tokens", "cached_input_tokens", "output_tokens")


@dataclass(frozen=True)
class KeyUsage:
    """All that a key has used since its creation. `requests` are those that a model answered."""

    requests: int = 0
    cost_usd: Decimal = Decimal(0)
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class BudgetState:
    """What is gone of a budget in the run of its period that is now, USD; `held` is for calls in work.
    `resets_at` is None for a total."""

    spent: Decimal
    held: Decimal
    resets_at: datetime | None


class KeyAccounts:
    """Reads accounts of many keys or budgets in one round trip."""

    def __init__(self, client: redis.Redis, names: Names) -> None:
        self._redis = client
        self._names = names

    def usages(self, key_ids: Sequence[str]) -> list[KeyUsage]:
        """
        :raises LedgerUnavailable:
        """
        with translating_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for key_id in key_ids:
                pipeline.hmget(self._names.key_usage(key_id), USAGE_FIELDS)
            answers = pipeline.execute()
        with _translating_nonsense():
            return [
                KeyUsage(
                    int(requests or 0), _usd(cost), int(inputs or 0), int(cached or 0), int(outputs or 0)
                )
                for requests, cost, inputs, cached, outputs in answers
            ]

    def states(self, scopes: Sequence[Scope], now: datetime) -> list[BudgetState]:
        """
        :raises LedgerUnavailable:
        """
        windows = [scope.budget.window(now) for scope in scopes]
        with translating_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for scope, window in zip(scopes, windows, strict=True):
                pipeline.hmget(self._names.budget(scope.name, window), ("spent", "held"))
                pipeline.zrangebyscore(self._names.holds(scope.name, window), "-inf", now.timestamp())
            answers = pipeline.execute()
        states = []
        with _translating_nonsense():
            for window, (spent, held), lapsed in zip(windows, answers[::2], answers[1::2], strict=True):
                # A hold that has lapsed is only taken off when somebody next asks for the budget.
                given_back = sum((_usd(member.rpartition(":")[2]) for member in lapsed), Decimal(0))
                still_held = max(_usd(held) - given_back, Decimal(0))
                states.append(BudgetState(_usd(spent), still_held, window.ends))
        return states


def _usd(text: str | None) -> Decimal:
    return Decimal(text or "0").quantize(REPORTED_USD)


@contextmanager
def _translating_nonsense() -> Iterator[None]:
    try:
        yield
    except (ValueError, ArithmeticError) as error:
        raise LedgerUnavailable("A counter in Redis holds what is no number.") from error
