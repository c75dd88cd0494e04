"""A small random share of a policy's choices gets the other model, so that something is known of it too."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

MOST_EXPLORATION = 0.5  # at which the policy has no say left


@dataclass(frozen=True)
class Exploration:
    """`share` is the probability of the other model, 0 to `MOST_EXPLORATION`; `draw` gives numbers from 0 up
    to 1."""

    share: float
    draw: Callable[[], float] = random.random

    def drawn(self) -> tuple[bool, float]:
        """Whether the other model is asked this time, and the probability of what is done."""
        explored = self.draw() < self.share
        return explored, self.share if explored else 1 - self.share


NO_EXPLORATION = Exploration(0.0)
