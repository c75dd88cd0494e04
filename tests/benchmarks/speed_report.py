"""What the speed benchmark says: medians of the rounds, ratios within a round, tables, what was aimed at."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.measured import Slice, StreamSlice
from tests.benchmarks.page import table
from tests.support.plot import Bar, bar_chart

CLIENTS = (1, 16, 64)
DIRECT, PROXY, STOCK = "direct", "nginx proxy_pass", "stock"
BARE, FULL = "ours, bare", "ours, full features"
LEANEST, PLAIN = "ours, leanest", "ours, plain parts"
# What the others are compared with, what the column is called, and how the ratio is written.
COMPARED = ((PROXY, "of proxy_pass", ".1%"), (STOCK, "times stock", ".1f"))
FEW, MANY = CLIENTS[0], CLIENTS[-1]


@dataclass
class Figures:
    """All that was measured of one target, by round; slices also by the number of clients. Memory is in MiB,
    cold starts are seconds from the start to the first answer."""

    name: str
    slices: dict[int, list[Slice]] = field(default_factory=dict)
    streams: list[StreamSlice] = field(default_factory=list)
    cold_starts: list[float] = field(default_factory=list)
    idle_memory: float | None = None

    def median(self, clients: int, of: Callable[[Slice], float]) -> float:
        return statistics.median(map(of, self.slices[clients]))

    def stream_median(self, of: Callable[[StreamSlice], float]) -> float:
        return statistics.median(map(of, self.streams))

    @property
    def loaded_memory(self) -> float:
        """The most that was seen after any load."""
        seen = [each.memory for slices in self.slices.values() for each in slices]
        return max(seen + [each.memory for each in self.streams], default=0.0)

    @property
    def failures(self) -> int:
        """Requests that were refused or broken, and streams that were not whole."""
        loads = [each.load for slices in self.slices.values() for each in slices]
        streams = [each.load for each in self.streams]
        return sum(each.refused + each.broken for each in loads) + sum(
            each.streams - each.whole for each in streams
        )


def ratio(
    one: Sequence[Slice], other: Sequence[Slice], of: Callable[[Slice], float] = lambda each: each.per_second
) -> float:
    """The median of the ratios of one to the other within each round, so that an hour's noise is in both."""
    return statistics.median(of(a) / of(b) for a, b in zip(one, other, strict=True))


def speed_table(all_figures: Sequence[Figures]) -> str:
    """The plain requests, as Markdown."""
    known = {figures.name: figures for figures in all_figures}
    head = ["requests a second, by clients", *map(str, CLIENTS)]
    compared = [each for each in COMPARED if each[0] in known]
    head += [text for _, text, _ in compared]
    head += ["CPU µs a request", "p50 at 1", "p50 at 64", "p99 at 64"]
    rows = []
    for each in all_figures:
        many = each.slices[MANY]
        cpu = each.median(MANY, lambda one: one.cpu_us)
        rows.append(
            [
                each.name,
                *(f"{each.median(count, lambda one: one.per_second):,.0f}" for count in CLIENTS),
                *(format(ratio(many, known[name].slices[MANY]), form) for name, _, form in compared),
                f"{cpu:,.0f}" if cpu else "",
                f"{each.median(FEW, lambda one: one.load.p50_ms):.2f} ms",
                f"{each.median(MANY, lambda one: one.load.p50_ms):,.1f} ms",
                f"{each.median(MANY, lambda one: one.load.p99_ms):,.1f} ms",
            ]
        )
    return table(head, rows)


def stream_table(all_figures: Sequence[Figures]) -> str:
    """The streams, the memory and the start, as Markdown."""
    head = ["", "whole streams", "first chunk p50", "p99", "CPU ms a stream"]
    head += ["MiB idle", "MiB under load", "cold start"]
    rows = []
    for each in all_figures:
        cpu = each.stream_median(lambda one: one.cpu_ms)
        rows.append(
            [
                each.name,
                f"{min(one.load.whole for one in each.streams)} of {each.streams[0].load.streams}",
                *(
                    [
                        f"{each.stream_median(lambda one: one.load.first_p50_ms):,.0f} ms",
                        f"{each.stream_median(lambda one: one.load.first_p99_ms):,.0f} ms",
                    ]
                    if any(one.load.whole for one in each.streams)
                    else ["", ""]
                ),
                f"{cpu:.2f}" if cpu else "",
                f"{each.idle_memory:.0f}" if each.idle_memory else "",
                f"{each.loaded_memory:.0f}" if each.loaded_memory else "",
                f"{statistics.median(each.cold_starts):.2f} s" if each.cold_starts else "",
            ]
        )
    return table(head, rows)


@dataclass(frozen=True)
class Aim:
    """Something wanted, and what came of it."""

    wanted: str
    seen: str
    is_met: bool


def aims(all_figures: Sequence[Figures]) -> list[Aim]:
    """What is wanted of the gateway, as far as it was measured."""
    known = {figures.name: figures for figures in all_figures}
    found: list[Aim] = []

    def at_least(wanted: str, least: float, one: str, other: str, form: str) -> None:
        if one in known and other in known:
            seen = ratio(known[one].slices[MANY], known[other].slices[MANY])
            found.append(Aim(wanted, format(seen, form), seen >= least))

    def at_most(wanted: str, most: float, seen: float, unit: str) -> None:
        found.append(Aim(wanted, f"{seen:.2f}{unit}", seen <= most))

    at_least("bare: at least 6 times stock", 6, BARE, STOCK, ".1f")
    at_least("bare: at least 10% of proxy_pass", 0.10, BARE, PROXY, ".1%")
    at_least("full features: at least 60% of bare", 0.60, FULL, BARE, ".0%")
    at_least("full features: at least 40 times LiteLLM", 40, FULL, "LiteLLM", ".0f")
    at_least("full features: at least 4 times Portkey", 4, FULL, "Portkey", ".1f")
    at_least("bare: more than TensorZero", 1, BARE, "TensorZero", ".2f")
    at_least("leanest: at least sglang-router", 1, LEANEST, "sglang-router", ".2f")
    if full := known.get(FULL):
        if direct := known.get(DIRECT):
            added = full.median(FEW, lambda each: each.load.p50_ms) - direct.median(
                FEW, lambda each: each.load.p50_ms
            )
            at_most("full features: at most 0.5 ms added at 1 client, p50", 0.5, added, " ms")
        at_most("at most 120 MiB a worker under load", 120, full.loaded_memory, " MiB")
    if (bare := known.get(BARE)) and bare.cold_starts:
        at_most("cold start below 1.5 s", 1.5, statistics.median(bare.cold_starts), " s")
    if bare and (stock := known.get(STOCK)):
        pairs = list(zip(bare.streams, stock.streams, strict=True))
        first = statistics.median(one.load.first_p50_ms / other.load.first_p50_ms for one, other in pairs)
        cpu = statistics.median(one.cpu_ms / other.cpu_ms for one, other in pairs)
        at_most("first chunk of 500 streams, p50: at most a third of stock", 1 / 3, first, "")
        at_most("CPU a stream: at most half of stock", 0.5, cpu, "")
    if bare and FULL in known:
        whole = all(
            each.load.whole == each.load.streams for name in (BARE, FULL) for each in known[name].streams
        )
        found.append(Aim("500 streams: all whole", "yes" if whole else "no", whole))
    return found


def aims_table(all_figures: Sequence[Figures]) -> str:
    """Markdown."""
    rows = [[aim.wanted, aim.seen, "yes" if aim.is_met else "no"] for aim in aims(all_figures)]
    return table(["wanted", "measured", "met"], rows)


def chart(title: str, all_figures: Sequence[Figures]) -> str:
    """The requests a second with many clients as SVG; the provider itself would dwarf all else."""
    bars = [
        Bar(each.name, each.median(MANY, lambda one: one.per_second))
        for each in all_figures
        if each.name not in (DIRECT, PROXY)
    ]
    return bar_chart(title, f"requests a second, {MANY} clients, one worker on one core", bars)
