"""What `/metrics` reports, read from the counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar, cast

import redis

from gateway.errors import LedgerUnavailable
from gateway.ledger.connection import translating_errors
from gateway.ledger.names import Names

MOST_SECONDS = 5.0
SCAN_COUNT = 1000  # keys that Redis looks at in one go
REPORTED_USD = Decimal("1e-12")  # a float counter in Redis carries noise below this
NO_NUMBER = "A counter in Redis holds what is no number."
MODEL_COUNTERS = ("requests", "errors", "cost_usd", "input_tokens", "output_tokens", "cached_input_tokens")

T = TypeVar("T")


@dataclass(frozen=True)
class Totals:
    """`requests` is the sum of `model_requests`; `cost` is USD."""

    requests: int
    cost: Decimal
    model_requests: dict[str, int]


@dataclass(frozen=True)
class ModelCounters:
    """All that is counted of one model: `requests` are those it answered, `errors` the calls it failed or
    refused, `cost` is USD. `cached_input_tokens` are a part of `input_tokens`."""

    requests: int
    errors: int
    cost: Decimal
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int


@dataclass(frozen=True)
class ModelTotals:
    """The counters of each model by its name; `baseline_cost` is what the dearest would have cost, USD."""

    models: dict[str, ModelCounters]
    baseline_cost: Decimal


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
        return self._read_whole(models, self._totals)

    def read_models(self, models: Sequence[str]) -> ModelTotals:
        """All counters of `models`, and of others where they have answered anything, as of one moment.

        :raises LedgerUnavailable:
        """
        return self._read_whole(models, self._model_totals)

    def _read_whole(self, models: Sequence[str], read: Callable[[Sequence[str]], tuple[int, T]]) -> T:
        """What `read` gives beside the number of the answers that no known model explains."""
        self._known_models.update(models)
        unexplained, figures = read(models)
        if unexplained != self._unexplained:
            # A model that this worker has not heard of, from another catalog or an earlier one, has answered.
            self._known_models |= self._recorded_models()
            # What is left was changed by somebody else, and is not looked for again.
            self._unexplained, figures = read(models)
        return figures

    def _totals(self, models: Sequence[str]) -> tuple[int, Totals]:
        names = self._with_known(models)
        keys = [self._names.total(name) for name in ("requests", "cost_usd")]
        keys += [self._names.model(name, "requests") for name in names]
        recorded, cost, *counts = self._values(keys)
        requests = {name: _count(count) for name, count in zip(names, counts, strict=True)}
        model_requests = {name: count for name, count in requests.items() if count or name in models}
        answered = sum(model_requests.values())
        return _count(recorded) - answered, Totals(answered, _usd(cost), model_requests)

    def _model_totals(self, models: Sequence[str]) -> tuple[int, ModelTotals]:
        names = self._with_known(models)
        keys = [self._names.total(name) for name in ("requests", "baseline_cost_usd")]
        keys += [self._names.model(name, counter) for name in names for counter in MODEL_COUNTERS]
        recorded, baseline_cost, *values = self._values(keys)
        size = len(MODEL_COUNTERS)
        counters = {
            name: _model_counters(values[start : start + size])
            for name, start in zip(names, range(0, len(values), size), strict=True)
        }
        shown = {name: model for name, model in counters.items() if model.requests or name in models}
        answered = sum(model.requests for model in shown.values())
        return _count(recorded) - answered, ModelTotals(shown, _usd(baseline_cost))

    def _with_known(self, models: Sequence[str]) -> list[str]:
        return [*models, *sorted(self._known_models - set(models))]

    def _values(self, keys: list[str]) -> list[str | None]:
        """Read in one command, so that they are those of one moment."""
        with translating_errors(MOST_SECONDS):
            return cast("list[str | None]", self._redis.mget(keys))

    def _recorded_models(self) -> set[str]:
        """Every model that has a counter."""
        start, end = self._names.model("", "requests").removesuffix(":requests"), ":requests"
        with translating_errors(MOST_SECONDS):
            found = list(self._redis.scan_iter(f"{start}*{end}", count=SCAN_COUNT))
        return {name.removeprefix(start).removesuffix(end) for name in found}


def _model_counters(values: Sequence[str | None]) -> ModelCounters:
    """From those of `MODEL_COUNTERS`, in their order."""
    requests, errors, cost, input_tokens, output_tokens, cached_input_tokens = values
    return ModelCounters(
        _count(requests),
        _count(errors),
        _usd(cost),
        _count(input_tokens),
        _count(output_tokens),
        _count(cached_input_tokens),
    )


def _count(value: str | None) -> int:
    """
    :raises LedgerUnavailable: for what is no number
    """
    try:
        return int(value or 0)
    except ValueError as error:
        raise LedgerUnavailable(NO_NUMBER) from error


def _usd(value: str | None) -> Decimal:
    """
    :raises LedgerUnavailable: for what is no number
    """
    try:
        usd = Decimal(value or 0).quantize(REPORTED_USD)
    except ArithmeticError as error:
        raise LedgerUnavailable(NO_NUMBER) from error
    if not usd.is_finite():
        raise LedgerUnavailable(NO_NUMBER)
    return usd
