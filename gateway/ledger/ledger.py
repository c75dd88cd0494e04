"""The counters in Redis: the one place that changes or reads them.

Keys, all plain strings below one prefix: `requests`, `cost_usd`, `baseline_cost_usd`, and for each model
`model:NAME:` followed by `requests`, `cost_usd`, `input_tokens`, `output_tokens`, `cached_input_tokens`
and `errors`; where usage had to be estimated also `estimated_calls` and `estimated_cost_usd`. Each record
is one MULTI/EXEC of INCRBY and INCRBYFLOAT, sent in one round trip, so that it counts whole or not at all,
whichever worker or replica writes it, as long as nobody else has put something other than a number into
one of these keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.billing import Usage
from gateway.config import InvalidSetting
from gateway.errors import LedgerUnavailable

CONNECTIONS = 64
# Many answers may end at once and wait for each other here; they are paid for, so they wait rather than fail.
WAIT_FOR_CONNECTION_SECONDS = 10.0
SCAN_COUNT = 1000  # keys that Redis looks at in one go
REPORTED_USD = Decimal("1e-12")  # a float counter in Redis carries noise below this


@dataclass(frozen=True)
class Entry:
    """What one call of a model adds to the counters. Costs are USD, exact."""

    model: str
    answered: bool
    failed: bool
    usage: Usage
    cost: Decimal
    baseline_cost: Decimal


@dataclass(frozen=True)
class Totals:
    """What `/metrics` reports; `requests` is the sum of `model_requests`."""

    requests: int
    cost: Decimal
    model_requests: dict[str, int]


class Ledger:
    """Counters of all workers and replicas that share `prefix` in one Redis."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._redis = client
        self._prefix = prefix
        self._known_models: set[str] = set()
        self._unexplained = 0
        self._failing = False
        self._asking = False

    def require_available(self) -> None:
        """Refuse a call that could not be billed before it costs anything.

        Costs nothing while Redis answers; after a failure one request at a time asks Redis first, and the
        others are refused at once.

        :raises LedgerUnavailable:
        """
        if not self._failing:
            return
        if self._asking:
            raise LedgerUnavailable("The ledger cannot be reached, so no answer can be billed now.")
        self._asking = True
        try:
            self.check()
        finally:
            self._asking = False

    def check(self) -> None:
        """Write nothing, but write it: a Redis that is full or a replica answers PING and takes no bill.

        :raises LedgerUnavailable:
        """
        with self._translating_errors():
            self._redis.incrby(self._key("requests"), 0)

    def record(self, entry: Entry) -> None:
        """Add `entry` to the counters, atomically.

        :raises LedgerUnavailable: when it may not have been added
        """
        with self._translating_errors(), self._redis.pipeline(transaction=True) as pipeline:
            model = f"model:{entry.model}"
            amounts = [
                ("requests", int(entry.answered)),
                (f"{model}:requests", int(entry.answered)),
                (f"{model}:errors", int(entry.failed)),
                (f"{model}:input_tokens", entry.usage.input_tokens),
                (f"{model}:output_tokens", entry.usage.output_tokens),
                (f"{model}:cached_input_tokens", entry.usage.cached_input_tokens),
            ]
            costs = [
                ("cost_usd", entry.cost),
                (f"{model}:cost_usd", entry.cost),
                ("baseline_cost_usd", entry.baseline_cost),
            ]
            if entry.usage.estimated:
                amounts.append((f"{model}:estimated_calls", 1))
                costs.append((f"{model}:estimated_cost_usd", entry.cost))
            for name, amount in amounts:
                pipeline.incrby(self._key(name), amount)
            for name, usd in costs:
                # As text, since a Python float would round what Redis can hold.
                pipeline.execute_command("INCRBYFLOAT", self._key(name), f"{usd:f}")  # type: ignore[no-untyped-call]
            pipeline.execute()

    def totals(self, models: Sequence[str]) -> Totals:
        """All that has been recorded for `models`, and for others where they have answered anything.

        :raises LedgerUnavailable:
        """
        self._known_models.update(models)
        recorded, totals = self._read_totals(models)
        if recorded - totals.requests != self._unexplained:
            # A model that this worker has not heard of, from another catalog or an earlier one, has answered.
            self._known_models |= self._recorded_models()
            recorded, totals = self._read_totals(models)
            # What is left was changed by somebody else, and is not looked for again.
            self._unexplained = recorded - totals.requests
        return totals

    def _read_totals(self, models: Sequence[str]) -> tuple[int, Totals]:
        """The requests of all models and the totals by the models that are known, read in one command."""
        names = [*models, *sorted(self._known_models - set(models))]
        keys = [self._key(name) for name in ("requests", "cost_usd")]
        keys += [self._key(f"model:{name}:requests") for name in names]
        with self._translating_errors(writing=False):
            all_requests, cost, *counts = self._redis.mget(keys)
        try:
            requests = {name: int(count or 0) for name, count in zip(names, counts, strict=True)}
            total_cost = Decimal(str(cost or "0")).quantize(REPORTED_USD)
            recorded = int(all_requests or 0)
        except (ValueError, ArithmeticError) as error:
            raise LedgerUnavailable("A counter in Redis holds what is no number.") from error
        if not total_cost.is_finite():
            raise LedgerUnavailable("A counter in Redis holds what is no number.")
        model_requests = {name: count for name, count in requests.items() if count or name in models}
        return recorded, Totals(sum(model_requests.values()), total_cost, model_requests)

    def _recorded_models(self) -> set[str]:
        """Every model that has a counter."""
        start, end = self._key("model:"), ":requests"
        with self._translating_errors(writing=False):
            found = list(self._redis.scan_iter(f"{start}*{end}", count=SCAN_COUNT))
        return {name.removeprefix(start).removesuffix(end) for name in found}

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"

    @contextmanager
    def _translating_errors(self, *, writing: bool = True) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            self._failing = True
            raise LedgerUnavailable(
                "The ledger cannot be reached, so no answer can be billed now."
            ) from error
        if writing:  # a Redis that can be read takes no bill for that
            self._failing = False


def connect(url: str, timeout: float) -> redis.Redis:
    """A client that gives up after `timeout` seconds, waits for a free connection instead of failing,
    and never sends a command twice, since an increment that timed out may have counted.
    Nothing is sent before the first command.

    :raises InvalidSetting: for a URL whose database or options make no sense
    """
    try:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=WAIT_FOR_CONNECTION_SECONDS,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        # Not connected by this; the URL's options are only looked at here.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise InvalidSetting("REDIS_URL", "has a part that Redis clients do not know") from error
    return redis.Redis.from_pool(pool)
