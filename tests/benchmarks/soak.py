"""`make soak`: whether anything grows in a gateway that serves a day's worth of requests.

A gateway of two workers with a journal and a Redis of its own serves a million requests of 48 clients before
a provider that costs next to nothing: plain and streamed, in four APIs, a fifth of them with keys that have a
budget, some refused, some whose clients leave, some that the provider fails. Meanwhile memory, open files
and threads of each process are looked at, and Redis's memory and those of its keys that do not lapse.

Growth is from what is seen right after the first tenth of the requests to what is seen in the last one: the
medians of each. Exit status 1 where anything grew by 10 % or more, a worker died, or a request ended as none
should. `python -m tests.benchmarks.soak 50000` sends fewer, `--minutes 30` no more than there is time for;
`--out FOLDER` is where `soak.svg` goes. What was seen is in `.run/soak.csv`.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import redis

from tests.support.fast_load import BROKEN, LEFT, Call, Tally, post, run_calls
from tests.support.fast_provider import fast_provider
from tests.support.plot import Line, line_chart
from tests.support.processes import ROOT, RedisServer, Service, redis_server, running_gateway
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import LONG, SHORT

RUN = ROOT / ".run"
REQUESTS = 1_000_000
CLIENTS = 48
KEYS = 50
FAULT_EVERY = 97
WARM_UP = 0.1
MAY_GROW = 0.10
EVERY_SECONDS = 5.0
FEW = 50_000  # requests, up to which samples are taken ten times as often
MEBIBYTE = 2**20
BAD_GATEWAY = "502 upstream_error"
# How a request may end. The provider fails now and then, and not each failure can be hidden.
FINE = {"200", LEFT, BROKEN, "404", BAD_GATEWAY}
FAILED = (BROKEN, BAD_GATEWAY)
MAY_FAIL = 0.01
# Of 128 requests, whose clients leave: at once, or after so many pieces of a stream.
LEAVING = {30: 0, 31: 0, 63: 3, 95: 6}
# A few more of these are no growth: connections come and go.
SLACK = {"memory": 1.0, "files": 16.0, "threads": 1.0, "keys": 4.0}


@dataclass(frozen=True)
class Sample:
    """What was seen when so many requests had ended: by name, MiB or counts."""

    requests: int
    seconds: float
    values: dict[str, float]


@dataclass(frozen=True)
class Growth:
    """A figure after the warm-up and at the end."""

    name: str
    early: float
    late: float

    @property
    def share(self) -> float:
        return self.late / self.early - 1 if self.early else 0.0

    @property
    def is_fine(self) -> bool:
        slack = SLACK[self.name.rpartition(" ")[2]]
        return self.share < MAY_GROW or self.late - self.early <= slack


def main(count: int, minutes: float, out: Path) -> int:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with redis_server(folder) as server, fast_provider(folder, FAULT_EVERY) as provider:
            settings = {
                "REDIS_URL": server.url,
                "CHEAP_MODEL_URL": f"{provider.url}/v1",
                "EXPENSIVE_MODEL_URL": f"{provider.url}/v1",
                "GATEWAY_ADMIN_KEY": ADMIN_KEY,
                "WEB_CONCURRENCY": "2",
                "REDIS_TIMEOUT_SECONDS": "1",  # a machine's hiccup is no growth
            }
            with running_gateway(folder, **settings) as gateway:
                return soak(count, minutes, gateway, server, out)


def soak(count: int, minutes: float, gateway: Service, server: RedisServer, out: Path) -> int:
    """Send them, and say what came of it."""
    keys = [create_key(gateway.url, budget_usd="1000000", rpm=10**6, tpm=10**9)[1] for _ in range(KEYS)]
    headers = [f"Authorization: {key['Authorization']}" for key in keys]
    workers = [worker.pid for worker in gateway.workers]
    tally = Tally(keep_seconds=False)
    began = time.monotonic()
    numbers = itertools.takewhile(lambda _: time.monotonic() < began + 60 * minutes, range(count))
    samples = asyncio.run(load_and_look(numbers, gateway, server, headers, tally))
    seconds, count = time.monotonic() - began, tally.total
    out.mkdir(exist_ok=True, parents=True)
    RUN.mkdir(exist_ok=True)
    write_csv(RUN / "soak.csv", samples)
    (out / "soak.svg").write_text(chart(count, samples))
    growths = growths_of(samples, count)
    print(
        f"{count:,} requests in {seconds / 60:.1f} min, {count / seconds:.0f} a second: {dict(tally.ends)}\n"
    )
    print(table(growths))
    failures = [f"{growth.name} grew by {growth.share:.1%}" for growth in growths if not growth.is_fine]
    if [worker.pid for worker in gateway.workers] != workers:
        failures.append("a worker died")
    odd = {end: number for end, number in tally.ends.items() if end not in FINE}
    if odd:
        failures.append(f"requests ended as none should: {odd}")
    if sum(tally.ends[end] for end in FAILED) > MAY_FAIL * count:
        failures.append("too many requests failed")
    print("\n" + ("; ".join(failures) if failures else f"Nothing grew by {MAY_GROW:.0%} or more."))
    return 1 if failures else 0


async def load_and_look(
    numbers: Iterator[int], gateway: Service, server: RedisServer, keys: list[str], tally: Tally
) -> list[Sample]:
    """Send all requests, looking at the processes meanwhile."""
    began = time.monotonic()
    samples: list[Sample] = []
    looked = Looks(gateway, server)
    last_told = 0.0

    async def look() -> None:
        nonlocal last_told
        while True:
            samples.append(Sample(tally.total, time.monotonic() - began, looked.look()))
            if time.monotonic() - last_told > 15:
                last_told = time.monotonic()
                print(
                    f"{tally.total:>10,} requests, {tally.total / (last_told - began):,.0f} a second",
                    flush=True,
                )
            await asyncio.sleep(EVERY_SECONDS if tally.total > FEW else EVERY_SECONDS / 10)

    looking = asyncio.create_task(look())
    await run_calls(
        gateway.url,
        lambda number: call(number, keys),
        numbers,
        clients=CLIENTS,
        tally=tally,
    )
    if looking.done():
        looking.result()  # raises what kept it from looking on
    looking.cancel()
    return samples


class Looks:
    """Looks at the processes and at Redis."""

    def __init__(self, gateway: Service, server: RedisServer) -> None:
        self._client = redis.Redis.from_url(server.url)
        self._processes = {"master": psutil.Process(gateway.process.pid)}
        self._processes |= {f"worker {number}": each for number, each in enumerate(gateway.workers, 1)}

    def look(self) -> dict[str, float]:
        """Memory in MiB, as far as it is the process's own, and counts."""
        values: dict[str, float] = {}
        for name, process in self._processes.items():
            try:
                values[f"{name} memory"] = process.memory_full_info().uss / MEBIBYTE
                values[f"{name} files"] = process.num_fds()
                values[f"{name} threads"] = process.num_threads()
            except psutil.NoSuchProcess:
                continue  # told in the end
        memory: dict[str, int] = self._client.info("memory")
        values["Redis memory"] = memory["used_memory"] / MEBIBYTE
        space: dict[str, int] = self._client.info("keyspace")["db0"]
        # Marks that lapse after minutes are as many as the traffic makes in that time, and no more.
        values["Redis keys"] = float(space["keys"] - space["expires"])
        return values


def call(number: int, keys: list[str]) -> Call:
    """The request of this number; no two are the same."""
    streamed = number % 2 == 1
    headers = [f"X-Request-Id: soak-{number}"]
    if number % 5 == 0:
        headers.append(keys[number // 5 % len(keys)])
    question = f"{number}: {LONG if number % 7 == 0 else SHORT}"
    path = "/v1/chat/completions"
    body: dict[str, object] = {"model": "auto", "messages": [{"role": "user", "content": question}]}
    match number // 2 % 10:
        case 0:
            path, body = "/v1/responses", {"model": "auto", "input": question}
        case 1:
            path, body = "/v1/messages", {**body, "max_tokens": 100}
        case 2 if not streamed:
            path, body = "/v1/embeddings", {"model": "auto", "input": question}
        case 3 if number % 20 == 7:
            body["model"] = "nobody"
    if streamed:
        body["stream"] = True
    leave_after = LEAVING.get(number % 128)
    return Call(post(path, json.dumps(body).encode(), *headers), leave_after)


def growths_of(samples: list[Sample], count: int) -> list[Growth]:
    """Each figure's growth; of those that are missing at one end, none."""
    early = [each.values for each in samples if WARM_UP * count <= each.requests < 2 * WARM_UP * count]
    late = [each.values for each in samples if each.requests >= (1 - WARM_UP) * count]
    names = [
        name for name in samples[0].values if all(name in values for values in itertools.chain(early, late))
    ]
    if not early or not late:
        sys.exit("too few requests to compare anything")
    return [
        Growth(name, *(statistics.median(values[name] for values in part) for part in (early, late)))
        for name in names
    ]


def table(growths: list[Growth]) -> str:
    """The figures as Markdown."""
    lines = ["| | after the first tenth | in the last tenth | growth |", "|---|---|---|---|"]
    for each in growths:
        name, _, kind = each.name.rpartition(" ")
        unit = " MiB" if kind == "memory" else ""
        digits = ".1f" if kind == "memory" else ".0f"
        lines.append(
            f"| {name}, {kind} | {each.early:{digits}}{unit} | {each.late:{digits}}{unit} "
            f"| {each.share:+.1%} |"
        )
    return "\n".join(lines)


def chart(count: int, samples: list[Sample]) -> str:
    names = [name for name in samples[0].values if name.endswith(" memory")]
    lines = [
        Line(
            name.removesuffix(" memory"), [(s.requests, s.values[name]) for s in samples if name in s.values]
        )
        for name in names
    ]
    title = f"Memory of the master, each worker and Redis over {count:,} requests"
    return line_chart(title, "requests", "MiB", lines, shaded_until=WARM_UP * count)


def write_csv(path: Path, samples: list[Sample]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["requests", "seconds", *samples[0].values])
        for sample in samples:
            values = (
                f"{sample.values[name]:.6g}" if name in sample.values else "" for name in samples[0].values
            )
            writer.writerow([sample.requests, f"{sample.seconds:.1f}", *values])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.soak")
    parser.add_argument("requests", nargs="?", type=int, default=REQUESTS)
    parser.add_argument("--minutes", type=float, default=24 * 60)
    parser.add_argument("--out", type=Path, default=RUN)
    arguments = parser.parse_args()
    sys.exit(main(arguments.requests, arguments.minutes, arguments.out))
