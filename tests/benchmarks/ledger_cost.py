"""`make bench-ledger`: what the ledger costs a request, with one client and with many.

Prints round trips to Redis, commands that Redis executes, and CPU of Redis and of the gateway's workers; what
they do when nobody asks is taken off. `python -m tests.benchmarks.ledger_cost CHECKOUT...` measures others
beside this one, such as that of an earlier commit (`git worktree add CHECKOUT COMMIT`), without keys.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import redis

from tests.support.load import run_load
from tests.support.ports import lasting_port
from tests.support.processes import ROOT, Service, redis_server, running, running_model
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import SHORT

ROUNDS = 3
IDLE_SECONDS = 3.0
# By the number of clients, how many requests they send.
REQUESTS = {1: 400, 64: 4000}
WORKERS = 2
NO_KEY, KEY = "no key", "key with budget and limits"
# What clients send for one round trip, in either way of counting: a script, or the end of a transaction.
ROUND_TRIPS = ("evalsha", "exec")
START = 'cd "$0" && exec "$1" -m gateway'


@dataclass(frozen=True)
class Cost:
    """Totals up to a moment, or what one request adds to them; CPU in milliseconds."""

    round_trips: float
    commands: float
    redis_ms: float
    gateway_ms: float

    def combined(self, other: Cost, act: Callable[[float, float], float]) -> Cost:
        return Cost(*(act(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)))

    def __sub__(self, other: Cost) -> Cost:
        return self.combined(other, lambda one, two: one - two)

    def times(self, factor: float) -> Cost:
        return Cost(*(getattr(self, each.name) * factor for each in fields(self)))


def main(checkouts: list[Path]) -> None:
    print(f"{'':<34}{'clients':>8}" + "".join(f"{name:>20}" for name in HEADINGS), flush=True)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with running_model("cheap_model", folder) as cheap, running_model("expensive_model", folder) as dear:
            models = {"CHEAP_MODEL_URL": f"{cheap.url}/v1", "EXPENSIVE_MODEL_URL": f"{dear.url}/v1"}
            for checkout in [ROOT, *checkouts]:
                here = checkout == ROOT
                for what in (NO_KEY, KEY) if here else (NO_KEY,):
                    for clients in REQUESTS:
                        costs = [measure(checkout, folder, models, what, clients) for _ in range(ROUNDS)]
                        report(f"{'this' if here else checkout.name}, {what}", clients, costs)


HEADINGS = ("round trips", "Redis commands", "Redis CPU ms", "gateway CPU ms")


def report(what: str, clients: int, costs: list[Cost]) -> None:
    """The median of each figure, with the least and the most."""
    columns = ""
    for each in fields(Cost):
        low, middle, high = sorted(getattr(cost, each.name) for cost in costs)
        columns += f"{f'{middle:.2f} ({low:.2f}-{high:.2f})':>20}"
    print(f"{what:<34}{clients:>8}{columns}", flush=True)


def measure(checkout: Path, folder: Path, models: dict[str, str], what: str, clients: int) -> Cost:
    """What one request costs in a gateway and a Redis of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as text, redis_server(Path(text)) as server:
        settings = {"REDIS_URL": server.url, **models}
        if what != NO_KEY:
            settings["GATEWAY_ADMIN_KEY"] = ADMIN_KEY
        with (
            gateway_of(checkout, Path(text), settings) as gateway,
            redis.Redis.from_url(server.url) as client,
        ):
            headers = None
            if what != NO_KEY:
                _, headers = create_key(gateway.url, budget_usd="1000000", rpm=10**6, tpm=10**9)
            run_load([gateway.url], clients=clients, requests=200, body=body, headers=headers)  # warm
            begun, before = time.monotonic(), cost_so_far(gateway, client)
            time.sleep(IDLE_SECONDS)
            idle = (cost_so_far(gateway, client) - before).times(1 / (time.monotonic() - begun))
            before = cost_so_far(gateway, client)
            count = REQUESTS[clients]
            result = run_load([gateway.url], clients=clients, requests=count, body=body, headers=headers)
            spent = cost_so_far(gateway, client) - before - idle.times(result.seconds)
            if len(result.whole) != count:
                print(f"not all were answered: {result}")
            return spent.times(1 / count)


def cost_so_far(gateway: Service, client: redis.Redis) -> Cost:
    commands: dict[str, Any] = client.info("commandstats")
    cpu: dict[str, Any] = client.info("cpu")
    times = [worker.cpu_times() for worker in gateway.workers]
    return Cost(
        sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ROUND_TRIPS),
        sum(
            each["calls"]
            for name, each in commands.items()
            if name not in ("cmdstat_info", "cmdstat_evalsha")
        ),
        1000 * (cpu["used_cpu_user"] + cpu["used_cpu_sys"]),
        1000 * sum(each.user + each.system for each in times),
    )


def body(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": SHORT}], "max_tokens": 50}


@contextmanager
def gateway_of(checkout: Path, folder: Path, settings: dict[str, str]) -> Iterator[Service]:
    port = lasting_port()
    journal = folder / "journal"
    journal.mkdir()
    environ = {"GATEWAY_PORT": str(port), "JOURNAL_DIR": str(journal), "WEB_CONCURRENCY": str(WORKERS)}
    command = ["sh", "-c", START, str(checkout), sys.executable]
    url = f"http://127.0.0.1:{port}"
    with running(command, url, folder / "gateway.log", "/healthz", {**environ, **settings}) as service:
        yield service


if __name__ == "__main__":
    main([Path(argument).resolve() for argument in sys.argv[1:]])
