"""The counters of money are floats in Redis, and stay within a billionth of a dollar of the exact sum."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from decimal import Decimal

import pytest
import redis

from gateway.billing import Usage
from gateway.ledger.entry import Entry
from gateway.ledger.ledger import Ledger
from gateway.prices import Price, TokenPrice

SEED = 20260
REQUESTS = 10**6
DRAWN = 20_000  # costs, of which all are made
BATCH = 10_000
ENTRIES = 5_000
TOLERANCE = Decimal("1e-9")


def per_million(uncached: str, cached: str, written: str, output: str) -> TokenPrice:
    return TokenPrice(Decimal(uncached), Decimal(cached), Decimal(output), Decimal(written))


# The two mock models, a small, a usual and a very dear price, and one whose costs have most digits.
PRICES = {
    "CheapModel": per_million("0.10", "0.025", "0.10", "0.40"),
    "ExpensiveModel": per_million("1.00", "0.10", "1.00", "5.00"),
    "small": per_million("0.0375", "0.01", "0.0375", "0.15"),
    "usual": per_million("3.00", "0.30", "3.75", "15.00"),
    "dearest": per_million("150.00", "150.00", "150.00", "600.00"),
    "crooked": per_million("0.123457", "0.030864", "0.154321", "0.987653"),
}


@pytest.fixture
def prefix(redis_url: str) -> Iterator[str]:
    prefix = f"test-{uuid.uuid4().hex}"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        for name in client.scan_iter(f"{prefix}:*"):
            client.delete(name)


def usages(rng: random.Random) -> Iterator[Usage]:
    """Calls as they come: most prompts and answers are short, a few very long."""
    while True:
        prompt, output = (min(200_000, int(rng.lognormvariate(mean, 1.3))) for mean in (5.5, 5))
        cached = rng.randrange(prompt // 128 + 1) * 128 if rng.random() < 0.3 else 0
        written = rng.randrange(prompt - cached + 1) if rng.random() < 0.1 else 0
        yield Usage(prompt, cached, output, cache_write_tokens=written)


@pytest.mark.heavy
@pytest.mark.timeout(180)
def test_a_million_costs_add_up_to_the_exact_sum(
    redis_url: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(SEED)
    calls = usages(rng)
    prices: list[Price] = list(PRICES.values())
    drawn = [rng.choice(prices).cost(next(calls)) for _ in range(DRAWN)]
    key, exact, worst = f"{prefix}:cost_usd", Decimal(0), Decimal(0)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        for _ in range(REQUESTS // BATCH):
            with client.pipeline(transaction=False) as pipeline:
                for cost in rng.choices(drawn, k=BATCH):
                    exact += cost
                    pipeline.execute_command("INCRBYFLOAT", key, f"{cost:f}")
                replies = pipeline.execute()
            worst = max(worst, abs(Decimal(replies[-1]) - exact))
    with capsys.disabled():
        print(f"\n{REQUESTS:,} costs, {exact:.9f} USD in all, never off by more than {worst:.1e} USD")
    assert worst <= TOLERANCE


def test_what_the_ledger_counts_adds_up_to_the_exact_sums(redis_url: str, prefix: str) -> None:
    rng = random.Random(SEED)
    calls = usages(rng)
    exact = dict.fromkeys(PRICES, Decimal(0))
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        ledger = Ledger(client, prefix)
        for _ in range(ENTRIES):
            model, usage = rng.choice(list(PRICES)), next(calls)
            cost = PRICES[model].cost(usage)
            exact[model] += cost
            ledger.record(
                Entry(model, answered=True, failed=False, usage=usage, cost=cost, baseline_cost=cost)
            )

        total = sum(exact.values())
        for name, sum_of_costs in {f"model:{model}:cost_usd": usd for model, usd in exact.items()}.items():
            assert abs(Decimal(str(client.get(f"{prefix}:{name}"))) - sum_of_costs) <= TOLERANCE, name
        for name in ("cost_usd", "baseline_cost_usd"):
            assert abs(Decimal(str(client.get(f"{prefix}:{name}"))) - total) <= TOLERANCE, name
        totals = ledger.totals(list(PRICES))
    assert totals.requests == ENTRIES
    assert abs(totals.cost - total) <= TOLERANCE
