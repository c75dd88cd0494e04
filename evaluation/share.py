"""`python -m evaluation.share`: how well a share is held on the public prompts, into docs/share.md.

Workers, their exchanges and their delays are simulated; the control is the gateway's own.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import timeit
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.data import DataError, load
from gateway.routing.by_difficulty import ByDifficulty
from gateway.routing.features import Features
from gateway.routing.held_policy import HeldPolicy, rank_of
from gateway.routing.policy import Policy, PromptLength
from gateway.routing.share import HeldShare
from tests.benchmarks.page import circumstances, replaced, table
from tests.support.plot import Line, line_chart
from tests.support.share_traffic import Order, Traffic, orders, shares

PAGE, PICTURE = "share.md", "share.svg"
BENCHMARKS = ("gsm8k-fixed", "math-l5", "mmlu-clean", "mmlu-pro")
PROMPTS = 750  # of each benchmark, or all
TARGET = 0.2
SEEDS = 10
WINDOW = 500
SMALL, USUAL, LARGE = (1, 100.0), (4, 100.0), (16, 200.0)  # workers, and requests per second of all
DEPLOYMENTS = (SMALL, (4, 20.0), USUAL, (4, 500.0), LARGE)
TARGETS = (0.05, 0.2, 0.5, 0.8)
DRAWN = ("shuffled", "lowest first", "highest first", "by benchmark", "high after low")
EVERY = 25  # requests between two points that are drawn


@dataclass(frozen=True)
class Held:
    """The shares that came about: of the 500 requests from the change on (or from the first), and the lowest
    and the highest of any 500 that begin 500 later."""

    first: float
    least: float
    most: float

    @classmethod
    def of(cls, order: Order, target: float, deployment: tuple[int, float], seed: int) -> Held:
        workers, rate = deployment
        found = shares(Traffic(target, workers, rate, seed=seed).choices(order.scores), WINDOW)
        later = found[order.changes_at + WINDOW :]
        return cls(found[order.changes_at], min(later), max(later))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation.share", description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder of the page; without it the tables are printed")
    arguments = parser.parse_args()
    try:
        texts = drawn_prompts()
    except DataError as exc:
        sys.exit(str(exc))
    policies: list[Policy] = [PromptLength(150), ByDifficulty()]
    scores = {
        policy.name: [policy.score(Features(len(text), [text])).value for text in texts]
        for policy in policies
    }
    command = "python -m evaluation.share --out docs"
    block = "\n\n".join(
        [
            circumstances(command, f"{len(texts)} prompts of {', '.join(BENCHMARKS)}, {SEEDS} seeds"),
            by_order(scores),
            by_target(scores["prompt_length"]),
            *(agreement(name, found) for name, found in scores.items()),
            cost(texts),
        ]
    )
    if arguments.out is None:
        print(block)
        return
    page = arguments.out / PAGE
    page.write_text(replaced(page.read_text(), "share", block))
    (arguments.out / PICTURE).write_text(picture(scores["prompt_length"]))


def drawn_prompts() -> list[str]:
    """Different prompts, those of a benchmark together.

    :raises DataError: where the data is missing or spoilt
    """
    drawn, texts = random.Random(0), []
    for benchmark in BENCHMARKS:
        found = list(dict.fromkeys(outcome.prompt for outcome in load(benchmark)))
        texts += drawn.sample(found, min(PROMPTS, len(found)))
    return texts


def by_order(scores: dict[str, list[float]]) -> str:
    """The table of all orders, for both policies."""
    rows = []
    for order in orders(0, next(iter(scores.values()))):
        row = [order]
        for found in scores.values():
            held = [Held.of(orders(seed, found)[order], TARGET, USUAL, seed) for seed in range(SEEDS)]
            row += _told(held)
        rows.append(row)
    head = ["order of the scores", *(f"{name}: {what}" for name in scores for what in ("500", "later"))]
    workers, rate = USUAL
    return (
        f"Target {TARGET:.0%}, {workers} workers, {rate:.0f} requests per second. `500`: the share of the "
        "500 requests from the change of traffic on (or from a cold start), the least and the most of all "
        "seeds; `later`: of any 500 in a row that begin 500 requests after it.\n\n" + table(head, rows)
    )


def by_target(found: list[float]) -> str:
    """The table of targets and deployments, for the usual order and for a change."""
    rows = []
    for target in TARGETS:
        for deployment in DEPLOYMENTS:
            workers, rate = deployment
            row = [f"{target:.0%}, {workers} worker{'s' if workers > 1 else ''}, {rate:.0f}/s"]
            for order in ("shuffled", "high after low"):
                held = [
                    Held.of(orders(seed, found)[order], target, deployment, seed) for seed in range(SEEDS)
                ]
                row += _told(held)
            rows.append(row)
    head = ["`prompt_length`", "shuffled: 500", "later", "high after low: 500", "later"]
    return "Other targets and deployments:\n\n" + table(head, rows)


def agreement(name: str, found: Sequence[float]) -> str:
    """How many of the choices are those of the best fixed line."""
    line = sorted(found)[round(len(found) * (1 - TARGET))]
    parts = []
    for seed in range(SEEDS):
        scores = orders(seed, found)["shuffled"].scores
        chosen = Traffic(TARGET, *USUAL, seed=seed).choices(scores)
        pairs = list(zip(scores, chosen, strict=True))[WINDOW:]
        parts.append(statistics.mean(went == (score >= line) for score, went in pairs))
    return (
        f"While the traffic stays as it is (`shuffled`), `{name}` chooses as the fixed threshold with the "
        f"same share would for {statistics.mean(parts):.1%} of the requests."
    )


def cost(texts: Sequence[str]) -> str:
    """What holding a share adds to a request, in microseconds of this machine."""
    features = [Features(len(text), [text]) for text in texts]
    policy, share = PromptLength(150), HeldShare(TARGET, 150)

    def plain() -> None:
        for feature in features:
            score = policy.score(feature)
            score.is_above(policy.threshold)
            policy.in_words(score, policy.threshold)

    def held() -> None:
        for number, feature in enumerate(features):
            held_policy = HeldPolicy(policy, share, f"{number:032x}")
            score = held_policy.score(feature)
            is_above = score.is_above(held_policy.threshold)
            held_policy.in_words(score, held_policy.threshold)
            share.saw(rank_of(score), expensive=is_above)

    seconds = [
        min(timeit.repeat(run, number=1, repeat=15, timer=time.process_time)) / len(features)
        for run in (plain, held)
    ]
    return (
        f"Choosing takes {seconds[0] * 1e6:.1f} µs per request with a fixed threshold and "
        f"{seconds[1] * 1e6:.1f} µs with a held share, drawing the line included."
    )


def picture(found: list[float]) -> str:
    """The share over the requests, in several orders, and what a fixed threshold would have made of one."""
    lines = []
    for name in DRAWN:
        order = orders(0, found)[name]
        workers, rate = USUAL
        drawn = shares(Traffic(TARGET, workers, rate).choices(order.scores), WINDOW)
        lines.append(Line(name, _points(drawn)))
    line = sorted(found)[round(len(found) * (1 - TARGET))]
    fixed = shares([score >= line for score in orders(0, found)["high after low"].scores], WINDOW)
    lines.append(Line("fixed, high after low", _points(fixed)))
    return line_chart(
        f"The share of the dearest model, held at {TARGET:.0%} through five orders of the prompts",
        "requests",
        "share of the last 500",
        lines,
    )


def _points(found: Sequence[float]) -> list[tuple[float, float]]:
    return [(place + WINDOW, found[place]) for place in range(0, len(found), EVERY)]


def _told(held: Sequence[Held]) -> list[str]:
    first = [one.first for one in held]
    return [
        f"{100 * min(first):.1f} to {100 * max(first):.1f} %",
        f"{100 * min(one.least for one in held):.1f} to {100 * max(one.most for one in held):.1f} %",
    ]


if __name__ == "__main__":
    main()
