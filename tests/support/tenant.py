"""A tenant whose traffic is unlike what the bundled model of difficulty learned from, with known truth."""

from __future__ import annotations

import random
import time
from decimal import Decimal

from gateway.routing.decision import Decision
from gateway.routing.difficulty import bundled

# What makes a prompt hard here, and what the others are.
HARD, OTHERS = "wording/variety", ("numbers/density", "length/all", "wording/quotes")
LIVE_SHARE = 0.5


def right(hardness: float, *, is_dear: bool) -> float:
    """The probability that a model's answer is right."""
    return 0.9 if is_dear else 0.95 - 0.9 * hardness


def decisions_of(count: int, seed: int, explored: float, *, told: float = 1.0) -> list[Decision]:
    """What the bundled model made of so many requests of the last hour, half of them for the dearer model."""
    drawing = random.Random(seed)
    all_signals = [
        {HARD: drawing.random()} | {name: drawing.random() for name in OTHERS} for _ in range(count)
    ]
    scores = [bundled().score(signals).value for signals in all_signals]
    threshold = sorted(scores)[int(count * (1 - LIVE_SHARE))]
    begun = time.time() - 3600
    found = []
    for i, (signals, score) in enumerate(zip(all_signals, scores, strict=True)):
        explores = drawing.random() < explored
        is_dear = (score > threshold) != explores
        feedback = float(drawing.random() < right(signals[HARD], is_dear=is_dear))
        found.append(
            Decision(
                request_id=f"request-{i}",
                key_id=None,
                time=round(begun + i / 10, 3),
                policy="difficulty",
                characters=drawing.randrange(10, 500),
                score=score,
                threshold=threshold,
                model="dear" if is_dear else "cheap",
                other="cheap" if is_dear else "dear",
                is_dear=is_dear,
                propensity=explored if explores else 1 - explored,
                signals=signals,
                cost=Decimal("0.002" if is_dear else "0.0001"),
                feedback=feedback if drawing.random() < told else None,
            )
        )
    return found
