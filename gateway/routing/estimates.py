"""What a policy would have been worth on requests that another one routed. Pure: no I/O, no state.

Of each request only the answer of one model is known. Where chance had a part in which, the answers that came
from the model which the policy would have asked stand for the others too, each for the more of them the
smaller its chance was (inverse propensity, self-normalised). The doubly robust estimate has a regression
guess every answer first, and takes from the weighted ones only what the guesses were off by: it is right when
either is, and its interval is mostly narrower.

Requests are taken in two strata, those which the log mostly sent where the policy would, and those which it
seldom did: the share of each is known exactly, whatever was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from gateway.routing.rewards import Guesses, guesses_of

CONFIDENCE = 0.95
# No answer stands for more than so many.
MOST_WEIGHT = 200.0
# Of what was never tried; where it is more, nobody can say what a policy would have been worth.
MOST_NEVER_TRIED = 0.01
# The interval is told as if so many answers had been seen besides, as widely spread about what is guessed as
# can be, so that a few that happen to agree are not taken for certainty (Agresti and Coull).
PRIOR_ANSWERS = 4.0


@dataclass(frozen=True)
class Logged:
    """A choice between two models and what came of it: whether it was the dearer one, the probability with
    which it was that one, the reward where it is known, and what a reward may be guessed by."""

    is_dear: bool
    propensity: float
    reward: float | None
    covariates: tuple[float, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """`value` is None where it cannot be told: too much was never tried. The true value lies between `low`
    and `high` with a probability of about `CONFIDENCE`; None where nothing bounds it. `answers` is how many
    answers of equal weight would tell as much; `clipped` how many would have stood for more than
    `MOST_WEIGHT`."""

    value: float | None
    low: float | None
    high: float | None
    answers: float
    never_tried: float = 0.0
    clipped: int = 0


@dataclass(frozen=True)
class _Part:
    """A mean, the middle of its interval, its variance, and the degrees of freedom of that."""

    mean: float
    middle: float
    variance: float
    freedom: float
    answers: float
    never_tried: float
    clipped: int


def inverse_propensity(
    logged: Sequence[Logged], wanted: Sequence[bool], bounds: tuple[float, float] | None = (0.0, 1.0)
) -> Estimate:
    """The mean reward had each choice been the dearer model where it is `wanted`, else the cheaper one.
    `bounds` are those of a reward, None where it has none."""
    rewards = [each.reward for each in logged if each.reward is not None]
    usual = fmean(rewards) if rewards else 0.0
    return _estimate(_part(logged, wanted, [(usual, usual)] * len(logged), bounds), bounds)


def doubly_robust(
    logged: Sequence[Logged], wanted: Sequence[bool], bounds: tuple[float, float] | None = (0.0, 1.0)
) -> Estimate:
    """The same, by guesses that are put right."""
    return _estimate(_part(logged, wanted, guesses_of(logged), bounds), bounds)


def difference(logged: Sequence[Logged], wanted: Sequence[bool], instead: Sequence[bool]) -> Estimate:
    """How much more the mean reward, 0 to 1, would be by `wanted` than by `instead`, doubly robust. Only the
    requests on which they differ count, so that it is told apart from zero sooner than two values from each
    other."""
    if not logged:
        return Estimate(None, None, None, 0.0)
    guesses = guesses_of(logged)
    places = [i for i, (one, other) in enumerate(zip(wanted, instead, strict=True)) if one != other]
    if not places:
        return Estimate(0.0, 0.0, 0.0, float(len(logged)))
    some, guessed = [logged[i] for i in places], [guesses[i] for i in places]
    bounds = (0.0, 1.0)  # of a reward
    one = _part(some, [wanted[i] for i in places], guessed, bounds)
    other = _part(some, [instead[i] for i in places], guessed, bounds)
    share, mean = len(places) / len(logged), one.mean - other.mean
    variance = share**2 * (one.variance + other.variance) + share * (1 - share) * mean**2 / len(logged)
    parts = [(share**2 * part.variance, part.freedom) for part in (one, other)]
    never = share * max(one.never_tried, other.never_tried)
    whole = _Part(
        share * mean,
        share * (one.middle - other.middle),
        variance,
        _freedom(parts),
        min(one.answers, other.answers),
        never,
        one.clipped + other.clipped,
    )
    return _estimate(whole, (-1.0, 1.0))


def _part(
    logged: Sequence[Logged],
    wanted: Sequence[bool],
    guesses: Guesses,
    bounds: tuple[float, float] | None,
) -> _Part:
    """The mean reward by `wanted`. `guesses` are, for each choice, of the cheaper and of the dearer model."""
    strata: tuple[list[int], list[int]] = ([], [])
    count = len(logged)
    never = 0
    for i, (each, want) in enumerate(zip(logged, wanted, strict=True)):
        chance = _chance(each, want)
        if chance > 0:
            strata[chance < 0.5].append(i)
        else:
            never += 1
    guessed = [guess[want] for guess, want in zip(guesses, wanted, strict=True)]
    spread = _spread([each.reward for each in logged if each.reward is not None], bounds)
    off = [0.0] * count
    shift = 0.0
    parts: list[tuple[float, float]] = []
    answers, clipped = 0.0, 0
    for stratum in strata:
        weights, residuals = [], []
        for i in stratum:
            reward = logged[i].reward
            if logged[i].is_dear == wanted[i] and reward is not None:
                weight = 1 / logged[i].propensity
                clipped += weight > MOST_WEIGHT
                weights.append(min(weight, MOST_WEIGHT))
                residuals.append(reward - guessed[i])
        if not stratum:
            continue
        mean, middle, variance, effective = _weighted_mean(residuals, weights, spread)
        answers += effective
        share = len(stratum) / count
        shift += share * (middle - mean)
        parts.append((share**2 * variance, effective + PRIOR_ANSWERS - 1))
        for i in stratum:
            off[i] = mean
    values = [guess + each for guess, each in zip(guessed, off, strict=True)]
    mean = fmean(values) if values else 0.0
    between = sum((value - mean) ** 2 for value in values) / max(1, count) ** 2
    variance = sum(each for each, _ in parts) + between
    return _Part(mean, mean + shift, variance, _freedom(parts), answers, never / max(1, count), clipped)


def _chance(logged: Logged, wants_dear: bool) -> float:
    """The probability with which the log's choice would have been the wanted one."""
    return logged.propensity if logged.is_dear == wants_dear else 1 - logged.propensity


def _spread(rewards: Sequence[float], bounds: tuple[float, float] | None) -> float:
    """The variance that is taken for granted before anything is known."""
    if bounds is not None:
        return ((bounds[1] - bounds[0]) / 2) ** 2
    if not rewards:
        return 0.0
    mean = fmean(rewards)
    return fmean([(reward - mean) ** 2 for reward in rewards])


def _weighted_mean(
    values: Sequence[float], weights: Sequence[float], spread: float
) -> tuple[float, float, float, float]:
    """The mean; then the mean and its variance with the answers that are taken for granted; and how many
    values of equal weight would tell as much as these."""
    total = sum(weights)
    if not total:
        return 0.0, 0.0, spread / PRIOR_ANSWERS, 0.0
    mean = sum(weight * value for weight, value in zip(weights, values, strict=True)) / total
    effective = total**2 / sum(weight**2 for weight in weights)
    squares = sum(weight * (value - mean) ** 2 for weight, value in zip(weights, values, strict=True)) / total
    count = effective + PRIOR_ANSWERS
    apart = effective * PRIOR_ANSWERS / count * mean**2
    variance = (squares * effective + spread * PRIOR_ANSWERS + apart) / count
    return mean, mean * effective / count, variance / count, effective


def _freedom(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own (Welch and Satterthwaite)."""
    total = sum(variance for variance, _ in parts)
    below = sum(variance**2 / freedom for variance, freedom in parts)
    return total**2 / below if below else math.inf


def _estimate(part: _Part, bounds: tuple[float, float] | None) -> Estimate:
    known = part.answers > 0 and part.never_tried <= MOST_NEVER_TRIED
    margin = _quantile(part.freedom) * math.sqrt(part.variance)
    low, high = part.middle - margin, part.middle + margin
    value = part.mean
    if bounds is None:
        if part.never_tried:
            return Estimate(
                value if known else None, None, None, part.answers, part.never_tried, part.clipped
            )
    else:
        # What was never tried may have been as bad or as good as can be.
        width = part.never_tried * (bounds[1] - bounds[0])
        low, high = max(bounds[0], low - width), min(bounds[1], high + width)
        value = min(bounds[1], max(bounds[0], value))
        if not part.answers:
            low, high = bounds
    return Estimate(value if known else None, low, high, part.answers, part.never_tried, part.clipped)


def _quantile(freedom: float) -> float:
    """That of Student's distribution for both tails together, by its expansion about the normal one."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    if math.isinf(freedom):
        return z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2
