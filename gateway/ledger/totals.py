"""What `/metrics` reports, read from the counters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import redis

from gateway.errors import LedgerUnavailable
from gateway.ledger.connection import translating_errors
from gateway.ledger.names import Names

SCAN_COUNT = 1000  # keys that Redis looks at in one go
REPORTED_USD = Decimal("1e-12")  # a float counter in Redis carries noise below this
NO_NUMBER = "A counter in Redis holds what is no number."


@dataclass(frozen=True)
class Totals:
    """`requests` is the sum of `model_requests`; `cost` is USD."""

    requests: int
    cost: Decimal
    model_requests: dict[str, int]


class TotalsReader:
    """Reads the totals of all workers and replicas that count below the same prefix."""

    def __init__(self, client: redis.Redis, names: Names) -> None:
        self._redis = client
        self._names = names
        self._known_models: set[str] = set()
        self._unexplained = 0

    def read(self, models: Sequence[str]) -> Totals:
        """All that has been recorded for `models`, and for others where they have answered anything.

        :raises LedgerUnavailable:
        """
        self._known_models.update(models)
        recorded, totals = self._read(models)
        if recorded - totals.requests != self._unexplained:
            # A model that this worker has not heard of, from another catalog or an earlier one, has answered.
            self._known_models |= self._recorded_models()
            recorded, totals = self._read(models)
            # What is left was changed by somebody else, and is not looked for again.
            self._unexplained = recorded - totals.requests
        return totals

    def _read(self, models: Sequence[str]) -> tuple[int, Totals]:
        """The requests of all models and the totals by the models that are known, read in one command."""
        names = [*models, *sorted(self._known_models - set(models))]
        keys = [self._names.total(name) for name in ("requests", "cost_usd")]
        keys += [self._names.model(name, "requests") for name in names]
        with translating_errors():
            all_requests, cost, *counts = self._redis.mget(keys)
        try:
            requests = {name: int(count or 0) for name, count in zip(names, counts, strict=True)}
            total_cost = Decimal(str(cost or "0")).quantize(REPORTED_USD)
            recorded = int(all_requests or 0)
        except (ValueError, ArithmeticError) as error:
            raise LedgerUnavailable(NO_NUMBER) from error
        if not total_cost.is_finite():
            raise LedgerUnavailable(NO_NUMBER)
        model_requests = {name: count for name, count in requests.items() if count or name in models}
        return recorded, Totals(sum(model_requests.values()), total_cost, model_requests)

    def _recorded_models(self) -> set[str]:
        """Every model that has a counter."""
        start, end = self._names.model("", "requests").removesuffix(":requests"), ":requests"
        with translating_errors():
            found = list(self._redis.scan_iter(f"{start}*{end}", count=SCAN_COUNT))
        return {name.removeprefix(start).removesuffix(end) for name in found}
