"""How probable it is that only the dearer model would do, by what it is expected to gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import mul

from gateway.routing.difficulty import DifficultyModel, probability

# What the signals that name a form of prompt begin with.
FORM = "form/"
STEPS = 30
# In examples: how much the expected slope and the level of all count beside what the examples of a form say.
STRENGTH = 3.0


def form_of(signals: Mapping[str, float]) -> str:
    """The signal that names the form of most of what was measured, or nothing."""
    forms = [name for name in signals if name.startswith(FORM)]
    return max(forms, key=lambda name: signals[name], default="")


def calibrated(
    outcomes: Sequence[float],
    weights: Sequence[float],
    gains: Sequence[float],
    forms: Sequence[str],
    prior: DifficultyModel | None,
) -> tuple[float, dict[str, float], float]:
    """How the log odds that only the dearer model would do rise with the gain; where they are at a gain of 0
    for each form of prompt, and for any other one (""); and the standard error of that. By a logistic
    regression (Platt) on gains that were predicted without the example's fold, in Newton's steps."""
    targets = [min(1.0, max(0.0, outcome)) for outcome in outcomes]
    total = sum(weights)
    share = min(0.99, max(0.01, sum(map(mul, weights, targets)) / total))
    # A gain of so much is about so much more of the probability.
    expected = 1 / (share * (1 - share)) if prior is None else prior.slope
    pull = STRENGTH * share * (1 - share)
    slope, usual = expected, math.log(share / (1 - share))
    levels = dict.fromkeys(forms, usual)
    for _ in range(STEPS):
        gradients = {form: pull * (usual - level) for form, level in levels.items()}
        bends = dict.fromkeys(levels, pull)
        across = dict.fromkeys(levels, 0.0)
        gradient, bend = pull * (expected - slope) / expected**2, pull / expected**2
        for target, weight, gain, form in zip(targets, weights, gains, forms, strict=True):
            value = probability(levels[form] + slope * gain)
            error, curvature = weight * (target - value), weight * value * (1 - value)
            gradients[form] += error
            bends[form] += curvature
            across[form] += curvature * gain
            gradient += error * gain
            bend += curvature * gain * gain
        # Each level meets the others in the slope only, so the system is solved by hand.
        step = (gradient - sum(across[form] * gradients[form] / bends[form] for form in levels)) / (
            bend - sum(across[form] ** 2 / bends[form] for form in levels)
        )
        steps = {form: (gradients[form] - across[form] * step) / bends[form] for form in levels}
        # A whole step can land where all probabilities are 0 or 1, from where none leads back.
        longest = max(abs(step) / expected, *map(abs, steps.values()))
        part = min(1.0, 1.0 / max(longest, 1e-9))
        slope += part * step
        levels = {form: level + part * steps[form] for form, level in levels.items()}
        if longest < 1e-6:
            break
    # Where the signals tell nothing of the outcome, chance alone must not turn them round.
    slope = max(0.0, slope)
    average = sum(weight * levels[form] for weight, form in zip(weights, forms, strict=True)) / total
    return slope, {**levels, "": average}, 1 / math.sqrt(sum(bends.values()))


def median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value below which half of the weight lies."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    half, sofar = sum(weights) / 2, 0.0
    for i in order:
        sofar += weights[i]
        if sofar >= half:
            return values[i]
    return values[order[-1]]
