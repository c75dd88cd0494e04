"""`make bench-flat`: whether a request's CPU stays what it is when there is much of something.

Ten virtual keys and 100,000, two models and 200, bodies of 100 bytes up to a megabyte, and one worker, two
and four. Those that are compared are up at the same time and take turns; told are medians of the rounds, and
of the ratios to the first within each round. `--only` is a regular expression of the tables: `keys`,
`models`, `bodies`, `workers`; `--out docs` writes the page.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from gateway.budget import Budget, Period
from gateway.keys.virtual_key import VirtualKey
from gateway.ledger.connection import connect
from gateway.ledger.names import Names
from tests.benchmarks import page
from tests.benchmarks.gateways import own_gateway
from tests.benchmarks.keys import create, typical
from tests.benchmarks.loads import run_wrk
from tests.benchmarks.measured import Slice, Target, cpu_seconds, measure
from tests.benchmarks.rig import BODY, MODEL, Rig, models_toml, rig
from tests.benchmarks.speed import parser, tell
from tests.benchmarks.speed_report import ratio

CLIENTS = 64
CLIENTS_OF_LARGE_BODIES = 16
KEYS = (10, 100_000)
KEYS_IN_USE = 1000  # of those, so many send requests
MODELS = (2, 200)
BODY_BYTES = (100, 1000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 2, 4)
PROSE = "The quick brown fox jumps over the lazy dog, and the dog does not mind. "
IDLE_SHARE = 0.03
MOST_SECONDS_UNTIL_IDLE = 120.0

# What is measured under a name: a slice of so many seconds.
Cases = dict[str, Callable[[int], Slice]]


def main(arguments: argparse.Namespace) -> int:
    told = f"Medians of {arguments.rounds} rounds of {arguments.seconds} s with {CLIENTS} clients, of bodies "
    told += (
        f"with {CLIENTS_OF_LARGE_BODIES}. Of {KEYS[-1]:,} keys, {KEYS_IN_USE:,} send the requests, in turn."
    )
    blocks = [page.circumstances("make bench-flat"), told]
    with tempfile.TemporaryDirectory() as text, rig(Path(text)) as ground:
        Path(text).chmod(0o755)
        for table in (keys_table, models_table, bodies_table, workers_table):
            if re.search(arguments.only, table.__name__):
                blocks.append(table(ground, arguments.rounds, arguments.seconds))
    block = "\n\n".join(blocks)
    print(block)
    if arguments.out:
        page.write(arguments.out, "flat", block)
    return 0


def keys_table(ground: Rig, rounds: int, seconds: int) -> str:
    """By the number of virtual keys, of which up to a thousand are in use in turn."""
    with ExitStack() as started:
        cases: Cases = {}
        for count in KEYS:
            gateway = own_gateway(ground, f"{count} keys", {})
            client = connect(ground.redis_url, 60)
            texts = create(client, Names(gateway.environ["REDIS_KEY_PREFIX"]), count, generous)
            file = ground.folder / f"keys-{count}.txt"
            file.write_text("\n".join(texts[:: max(1, count // KEYS_IN_USE)][:KEYS_IN_USE]) + "\n")
            target = started.enter_context(gateway.running()).target
            wait_until_idle(target)
            cases[f"{count:,} keys"] = case(ground, target, keys_file=file)
        return costs("virtual keys", take_turns(cases, rounds, seconds))


def generous(key_id: str, text: str, number: int) -> VirtualKey:
    """A key with all that a key can have, which refuses nothing."""
    budget = Budget(Decimal(10**8), Period.MONTH)
    return replace(typical(key_id, text, number), budget=budget, rpm=10**9, tpm=10**12)


def models_table(ground: Rig, rounds: int, seconds: int) -> str:
    """By the number of models, of which the policy chooses one."""
    body = ground.body_file(
        {"model": "auto", "messages": [{"role": "user", "content": PROSE}], "max_tokens": 99}
    )
    with ExitStack() as started:
        cases: Cases = {}
        for count in MODELS:
            file = ground.folder / f"models-{count}.toml"
            file.write_text(models_toml(ground.upstream, ground.upstream, count - 2))
            settings = {"MODELS_FILE": str(file)}
            target = started.enter_context(own_gateway(ground, f"{count} models", settings).running()).target
            cases[f"{count} models"] = case(ground, target, body=body)
        return costs("models", take_turns(cases, rounds, seconds))


def bodies_table(ground: Rig, rounds: int, seconds: int) -> str:
    """By the size of the body, with what each byte costs beyond the smallest one."""
    with own_gateway(ground, "bodies", {}).running() as started:
        cases: Cases = {
            f"{size:,} bytes": case(
                ground, started.target, body=body_of(ground, size), clients=CLIENTS_OF_LARGE_BODIES
            )
            for size in BODY_BYTES
        }
        seen = take_turns(cases, rounds, seconds)
    middle = [statistics.median(each.cpu_us for each in slices) for slices in seen.values()]
    rows = []
    for name, size, cpu_us in zip(seen, BODY_BYTES, middle, strict=True):
        more = size - BODY_BYTES[0]
        rows.append([name, f"{cpu_us:,.0f}", f"{1e3 * (cpu_us - middle[0]) / more:.2f}" if more else ""])
    return page.table(["body", "CPU µs a request", "ns a byte beyond the smallest"], rows)


def body_of(ground: Rig, size: int) -> Path:
    """A request of exactly so many bytes."""

    def body(content: str) -> dict[str, object]:
        return {"model": MODEL, "messages": [{"role": "user", "content": content}]}

    rest = size - len(json.dumps(body(""), separators=(",", ":")))
    return ground.body_file(body((PROSE * (rest // len(PROSE) + 1))[:rest]))


def workers_table(ground: Rig, rounds: int, seconds: int) -> str:
    """By the number of workers, which share the core of what is measured, or have the load's core too."""
    both = f"{ground.core},{ground.load_core}"
    kinds = [(f"{count} on one core", count, "") for count in WORKERS] + [
        ("2 on two cores, one the load's", 2, both)
    ]
    with ExitStack() as started:
        cases: Cases = {}
        for name, count, cores in kinds:
            gateway = own_gateway(ground, name, {"WEB_CONCURRENCY": str(count)}, cores=cores)
            target = started.enter_context(gateway.running()).target
            cases[name] = case(ground, target)
        return costs("workers", take_turns(cases, rounds, seconds))


def case(
    ground: Rig,
    target: Target,
    *,
    body: Path | None = None,
    clients: int = CLIENTS,
    keys_file: Path | None = None,
) -> Callable[[int], Slice]:
    """What to do to measure this target with such requests."""
    sent = body or ground.body_file(BODY)

    def act(seconds: int) -> Slice:
        return measure(
            ground,
            target.processes,
            lambda: run_wrk(target.url, sent, clients=clients, seconds=seconds, keys_file=keys_file),
        )

    return act


def take_turns(cases: Cases, rounds: int, seconds: int) -> dict[str, list[Slice]]:
    """By name, a slice of every round.

    :raises RuntimeError: where a request failed
    """
    for act in cases.values():
        act(2)  # warm
    seen: dict[str, list[Slice]] = {name: [] for name in cases}
    for number in range(1, rounds + 1):
        for name, act in cases.items():
            each = act(seconds)
            if each.load.refused or each.load.broken:
                raise RuntimeError(f"{name}: not all were answered: {each.load}")
            tell(f"round {number}, {name}: {each.cpu_us:,.0f} µs, {each.per_second:,.0f} a second")
            seen[name].append(each)
    return seen


def costs(what: str, seen: dict[str, list[Slice]]) -> str:
    """The table of costs, each beside the first."""
    first = next(iter(seen.values()))
    rows = [
        [
            name,
            f"{statistics.median(each.cpu_us for each in slices):,.0f}",
            f"{ratio(slices, first, lambda each: each.cpu_us):.2f}",
        ]
        for name, slices in seen.items()
    ]
    return page.table([what, "CPU µs a request", "times the first"], rows)


def wait_until_idle(target: Target) -> None:
    """Return when a gateway has done what it does after its start, such as copying its keys."""
    processes = target.processes
    deadline = time.monotonic() + MOST_SECONDS_UNTIL_IDLE
    idle = 0
    while idle < 3 and time.monotonic() < deadline:
        before = cpu_seconds(processes)
        time.sleep(1)
        idle = idle + 1 if cpu_seconds(processes) - before < IDLE_SHARE else 0


if __name__ == "__main__":
    sys.exit(main(parser(__doc__).parse_args()))
