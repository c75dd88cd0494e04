"""`make bench`: how fast the gateway is, with one worker on a core of its own.

Requests a second with 1, 16 and 64 clients, latency, CPU of a request, 500 streams of 50 chunks that begin at
once, memory and cold start. Beside the gateway as it comes, without a key (bare) and with one that has a
budget and limits (full features), stand its leanest settings, plain parts below Flask and requests, a stock
gateway, nginx's proxy_pass and the provider itself; all take turns in every round, and figures are medians.

`--rounds`, `--seconds` of each slice, `--only REGEX` of the names; `--out docs` writes the page and its plot.
What was seen is in `.run/speed.json`. Exit status 1 where one of ours failed or was not whole.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from tests.benchmarks import page
from tests.benchmarks.gateways import DEFAULT, VARIANTS, Gateway, key_header, own_gateway, stock_gateway
from tests.benchmarks.gateways import LEANEST as LEANEST_VARIANT
from tests.benchmarks.gateways import PLAIN as PLAIN_VARIANT
from tests.benchmarks.measured import Target, memory
from tests.benchmarks.rig import CHAT, Rig, nginx_proxy, rig
from tests.benchmarks.speed_report import (
    BARE,
    CLIENTS,
    DIRECT,
    FULL,
    LEANEST,
    PLAIN,
    PROXY,
    STOCK,
    Figures,
    aims_table,
    chart,
    speed_table,
    stream_table,
)
from tests.support.processes import ROOT

RUN = ROOT / ".run"
COLD_STARTS = 3
STREAMS = 500
OURS = (BARE, FULL, LEANEST, PLAIN)
WARM_CLIENTS, WARM_SECONDS = 8, 2


def main(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder, rig(Path(folder)) as ground:
        Path(folder).chmod(0o755)
        with standing(ground, arguments.only) as (targets, all_figures):
            take_turns(ground, targets, all_figures, arguments.rounds, arguments.seconds)
        shown = [all_figures[target.name] for target in targets]
    return report(shown, arguments, "make bench", "speed", "The gateway beside others")


@contextmanager
def standing(ground: Rig, only: str) -> Iterator[tuple[list[Target], dict[str, Figures]]]:
    """All that is measured, warm, and what is known of it already."""
    names = {
        name
        for name in (DIRECT, PROXY, BARE, FULL, LEANEST, PLAIN, STOCK)
        if re.search(only, name) or name in (DIRECT, PROXY)
    }
    all_figures = {name: Figures(name) for name in names}
    with ExitStack() as started:
        proxy, stream_port = started.enter_context(nginx_proxy(ground))
        proxy_streams = f"http://127.0.0.1:{stream_port}{CHAT}"
        targets = [direct(ground), Target(PROXY, proxy.url + CHAT, proxy_streams, service=proxy)]
        for cases, gateway in (
            ((BARE, FULL), own_gateway(ground, "ours", VARIANTS[DEFAULT])),
            ((LEANEST,), own_gateway(ground, "ours, leanest", VARIANTS[LEANEST_VARIANT])),
            ((PLAIN,), own_gateway(ground, "ours, plain", VARIANTS[PLAIN_VARIANT])),
            ((STOCK,), stock_gateway(ground, STOCK)),
        ):
            wanted = [name for name in cases if name in names]
            if wanted:
                target, cold_starts, idle = begin(gateway, started)
                for name in wanted:
                    all_figures[name].cold_starts = cold_starts
                    all_figures[name].idle_memory = idle
                    headers = (key_header(target),) if name == FULL else target.headers
                    targets.append(replace(target, name=name, headers=headers))
        warm_up(ground, targets)
        yield targets, all_figures


def direct(ground: Rig) -> Target:
    """The provider itself."""
    upstream, streams = (
        f"http://127.0.0.1:{port}{CHAT}" for port in (ground.upstream, ground.stream_upstream)
    )
    return Target(DIRECT, upstream, streams)


def begin(gateway: Gateway, started: ExitStack) -> tuple[Target, list[float], float]:
    """The gateway, which serves from now on, its cold starts, and its memory while it is idle."""
    cold_starts = []
    for _ in range(COLD_STARTS - 1):
        with gateway.running() as once:
            cold_starts.append(once.cold_start)
    last = started.enter_context(gateway.running())
    cold_starts.append(last.cold_start)
    tell(f"{gateway.name}: cold start {min(cold_starts):.2f} to {max(cold_starts):.2f} s")
    return last.target, cold_starts, memory(last.target.processes)


def warm_up(ground: Rig, targets: Sequence[Target]) -> None:
    for target in targets:
        target.measure(ground, WARM_CLIENTS, WARM_SECONDS)


def take_turns(
    ground: Rig, targets: Sequence[Target], all_figures: dict[str, Figures], rounds: int, seconds: int
) -> None:
    """Measure all of them in each round."""
    for number in range(1, rounds + 1):
        for clients in CLIENTS:
            for target in targets:
                seen = target.measure(ground, clients, seconds)
                all_figures[target.name].slices.setdefault(clients, []).append(seen)
                tell(
                    f"round {number}, {target.name}, {clients} clients: {seen.per_second:,.0f} a second, "
                    f"{seen.cpu_us:,.0f} µs, p50 {seen.load.p50_ms:.2f} ms, p99 {seen.load.p99_ms:.2f} ms, "
                    f"failed {seen.load.refused + seen.load.broken}, noise {seen.noise:.0%}"
                )
        for target in targets:
            streamed = target.measure_streams(ground, STREAMS)
            all_figures[target.name].streams.append(streamed)
            tell(
                f"round {number}, {target.name}, streams: {streamed.load.whole} whole, first chunk "
                f"p50 {streamed.load.first_p50_ms:.0f} ms, p99 {streamed.load.first_p99_ms:.0f} ms, "
                f"{streamed.cpu_ms:.2f} ms of CPU each"
            )


def report(
    shown: Sequence[Figures], arguments: argparse.Namespace, command: str, name: str, title: str, *more: str
) -> int:
    """Print it, and write it where that is wanted; the exit status."""
    rounds = f"Medians of {arguments.rounds} rounds of {arguments.seconds} s."
    parts = [page.circumstances(command), rounds, speed_table(shown), stream_table(shown)]
    block = "\n\n".join([*parts, aims_table(shown), *more])
    print(block)
    RUN.mkdir(exist_ok=True)
    (RUN / f"{name}.json").write_text(json.dumps([asdict(each) for each in shown], indent=1))
    if arguments.out:
        svg = "performance.svg" if name == "speed" else f"performance-{name}.svg"
        (arguments.out / svg).write_text(chart(title, shown))
        page.write(arguments.out, name, f"{block}\n\n![{title}]({svg})")
    failed = {each.name: each.failures for each in shown if each.failures}
    if failed:
        print(f"\nNot all were answered well: {failed}")
    return 1 if any(each in OURS for each in failed) else 0


def tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all speed benchmarks have."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--only", default="", help="a regular expression of the names")
    options.add_argument("--out", type=Path, help="the folder with the page")
    return options


if __name__ == "__main__":
    sys.exit(main(parser(__doc__).parse_args()))
