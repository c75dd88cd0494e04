"""`make bench-one-model-down`: what it costs that one of two models fails whenever it is asked.

10,000 requests of 64 clients, all of which the policy sends to `CheapModel`, which answers nothing but 503;
`ExpensiveModel` answers them instead. No client may see an error. What that adds to the p50 of a request once
the circuit is open is measured against the same questions to `ExpensiveModel` by its name, in turns: by 64
clients who take their time, so that the workers are not always busy, and by 4 who do not.
Exit status 1 where a client saw an error, or 2 ms or more were added.
`python -m tests.benchmarks.one_model_down 2000` sends fewer.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.fast_load import Call, Tally, post, run_calls
from tests.support.fast_provider import fast_provider
from tests.support.processes import Service, redis_server, running_gateway
from tests.support.stack import SHORT

REQUESTS = 10_000
CLIENTS = 64
COMPARED = {64: 0.5, 4: 0.0}  # by clients at once, the seconds that the provider and they take
ROUNDS = 3
SLICES = 10  # of each round, half of them by name
WARM_UP = 500
PER_SLICE = 200
MAY_ADD_SECONDS = 0.002
EVERY_ONE = 1


def main(count: int) -> int:
    failures = []
    with one_model_down(seconds=0) as gateway:
        everything = send(gateway, "auto", count, CLIENTS)
    print(f"{count:,} requests of {CLIENTS} clients: {told(everything)}", flush=True)
    if everything.ends != {"200": count}:
        failures.append(f"clients saw errors: {dict(everything.ends)}")
    for clients, seconds in COMPARED.items():
        with one_model_down(seconds) as gateway:
            send(gateway, "auto", WARM_UP, clients, seconds)
            added = [compare(gateway, clients, seconds) for _ in range(ROUNDS)]
        median = statistics.median(added)
        figures = ", ".join(f"{each * 1000:.2f}" for each in sorted(added))
        print(f"{clients} clients: {median * 1000:.2f} ms added to the p50 (rounds: {figures})", flush=True)
        if median >= MAY_ADD_SECONDS:
            failures.append(f"{median * 1000:.2f} ms were added with {clients} clients")
    print("; ".join(failures) if failures else "Everything holds.")
    return 1 if failures else 0


@contextmanager
def one_model_down(seconds: float) -> Iterator[Service]:
    """A gateway whose dear model answers after so many seconds, and whose cheap one never does."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with (
            redis_server(folder) as server,
            fast_provider(folder, EVERY_ONE) as down,
            fast_provider(folder, seconds=seconds) as healthy,
        ):
            settings = {
                "REDIS_URL": server.url,
                "CHEAP_MODEL_URL": f"{down.url}/v1",
                "EXPENSIVE_MODEL_URL": f"{healthy.url}/v1",
                "WEB_CONCURRENCY": "2",
            }
            with running_gateway(folder, **settings) as gateway:
                yield gateway


def compare(gateway: Service, clients: int, pause: float) -> float:
    """How many seconds longer the p50 of those is that a model which is down would have answered."""
    instead, straight = Tally(), Tally()
    cpu = [0.0, 0.0]
    for number in range(SLICES):
        by_name, before = number % 2, cpu_seconds(gateway)
        slice_ = send(gateway, "ExpensiveModel" if by_name else "auto", PER_SLICE, clients, pause)
        (straight if by_name else instead).seconds += slice_.seconds
        cpu[by_name] += cpu_seconds(gateway) - before
    each = [1000 * seconds / (PER_SLICE * SLICES / 2) for seconds in cpu]
    print(f"  instead of the other: {told(instead)}, {each[0]:.2f} ms CPU each", end="; ")
    print(f"by its name: {told(straight)}, {each[1]:.2f} ms CPU each", flush=True)
    return instead.percentile(0.5) - straight.percentile(0.5)


def cpu_seconds(gateway: Service) -> float:
    """What the workers have taken so far."""
    return sum(times.user + times.system for times in (worker.cpu_times() for worker in gateway.workers))


def send(gateway: Service, model: str, count: int, clients: int, pause: float = 0) -> Tally:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": SHORT}]}).encode()
    call, tally = Call(post("/v1/chat/completions", body)), Tally()
    asyncio.run(run_calls(gateway.url, lambda number: call, iter(range(count)), clients=clients, tally=tally))
    return tally


def told(tally: Tally) -> str:
    ends = ", ".join(f"{end}: {count:,}" for end, count in tally.ends.most_common())
    times = " ".join(f"p{share} {tally.percentile(share / 100) * 1000:.1f} ms" for share in (50, 99))
    return f"{ends}{', ' if ends else ''}{times}"


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS))
