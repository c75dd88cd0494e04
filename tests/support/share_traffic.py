"""Workers that hold a share together, without their gateways: each request goes to one of them, and each
exchanges what it has chosen now and then, as `ShareBoard` does, some time later. All of it in virtual time,
drawn from a seed."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.routing.scores import KEPT
from gateway.routing.share import MOST_DEBT, HeldShare, Known, Recent, Seen
from gateway.routing.share_board import LEAST_SECONDS, LOOK_SECONDS, TICK_SECONDS
from tests.support.prompts import prompts_by_benchmark

DELAY_SECONDS = 0.01
START = 150.0


class Together:
    """What all have chosen, as Redis has it."""

    def __init__(self) -> None:
        self.requests = self.expensive = 0
        self.debt = 0.0
        self._generations = [Counter[float](), Counter[float]()]
        self._expensive = [0, 0]

    def add(self, seen: Seen, *, recent: bool = True) -> Known:
        self.requests += seen.requests
        self.expensive += seen.expensive
        self.debt = max(-MOST_DEBT, min(MOST_DEBT, self.debt + seen.debt))
        self._generations[0].update(seen.scores)
        self._expensive[0] += seen.expensive
        if self._generations[0].total() >= KEPT:
            self._generations = [Counter[float](), self._generations[0]]
            self._expensive = [0, self._expensive[0]]
        now, before = map(dict, self._generations)
        told = Recent(now, before, *self._expensive) if recent else None
        return Known(self.requests, self.expensive, self.debt, told)


@dataclass
class Worker:
    share: HeldShare
    next_exchange: float
    looked: float = -LOOK_SECONDS
    is_exchanging: bool = False


@dataclass
class Traffic:
    """`rate` is requests per second over all workers; `target` may change on the way, by `at_request`."""

    target: float
    workers: int = 1
    rate: float = 100.0
    delay: float = DELAY_SECONDS
    seed: int = 0
    at_request: Callable[[int, Sequence[HeldShare]], None] | None = None
    levels: list[float] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)

    def choices(self, scores: Sequence[float]) -> list[bool]:
        """Whether each request went to the dearest model."""
        drawn, together, order = random.Random(self.seed), Together(), itertools.count()
        workers = [
            Worker(HeldShare(self.target, START), drawn.random() * TICK_SECONDS) for _ in range(self.workers)
        ]
        events: list[tuple[float, int, Worker, Known | None]] = []
        for worker in workers:
            heapq.heappush(events, (worker.next_exchange, next(order), worker, None))
        now, chosen = 0.0, []
        for number, score in enumerate(scores):
            now += drawn.expovariate(self.rate)
            while events and events[0][0] <= now:
                at, _, worker, known = heapq.heappop(events)
                if known is not None:
                    worker.share.learn(known)
                    worker.is_exchanging, worker.next_exchange = False, at + TICK_SECONDS
                    heapq.heappush(events, (worker.next_exchange, next(order), worker, None))
                elif not worker.is_exchanging and at == worker.next_exchange:
                    looks = at - worker.looked >= LOOK_SECONDS
                    worker.looked = at if looks else worker.looked
                    worker.is_exchanging = True
                    known = together.add(worker.share.pending(), recent=looks)
                    heapq.heappush(events, (at + self.delay, next(order), worker, known))
            if self.at_request is not None:
                self.at_request(number, [worker.share for worker in workers])
            worker = drawn.choice(workers)

            def exchange_soon(worker: Worker = worker, now: float = now) -> None:
                if not worker.is_exchanging:
                    soonest = worker.next_exchange - TICK_SECONDS + LEAST_SECONDS
                    worker.next_exchange = max(now, soonest)
                    heapq.heappush(events, (worker.next_exchange, next(order), worker, None))

            worker.share.on_news = exchange_soon
            threshold, _ = worker.share.threshold(score, drawn.random())
            chosen.append(score > threshold)
            worker.share.saw(score, expensive=score > threshold)
            self.levels.append(worker.share.level)
            self.thresholds.append(worker.share.usual_threshold)
        return chosen


def shares(chosen: Sequence[bool], window: int = 500) -> list[float]:
    """The share of the dearest model in each window of so many requests, every request beginning one."""
    sums = [0, *itertools.accumulate(chosen)]
    return [(sums[end] - sums[end - window]) / window for end in range(window, len(sums))]


@dataclass(frozen=True)
class Order:
    """Scores one after the other, which change for good at a request, 0 for never."""

    scores: Sequence[float]
    changes_at: int = 0


def orders(seed: int, by_benchmark: Sequence[float] = ()) -> dict[str, Order]:
    """Scores, those of a benchmark together, in orders that come up, and in the worst that there are; by
    default the lengths of the tests' prompts."""
    drawn = random.Random(seed)
    by_benchmark = by_benchmark or [float(len(prompt)) for prompt in prompts_by_benchmark()]
    shuffled, ascending = drawn.sample(by_benchmark, len(by_benchmark)), sorted(by_benchmark)
    half = len(ascending) // 2
    low, high = ascending[:half], ascending[half:]
    drawn.shuffle(low)
    drawn.shuffle(high)
    return {
        "shuffled": Order(shuffled),
        "lowest first": Order(ascending),
        "highest first": Order(ascending[::-1]),
        "by benchmark": Order(by_benchmark),
        "high after low": Order(low + high + high, half),
        "low after high": Order(high + low + low, half),
        "one score after another": Order([low[0]] * half + [ascending[-1]] * 2 * half, half),
    }
