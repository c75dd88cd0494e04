"""Runs a policy again over the decisions that another one took: for no calls of a model. Pure: no I/O, no
state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from gateway.routing.decision import Decision
from gateway.routing.difficulty import DifficultyModel
from gateway.routing.estimates import Estimate, Logged, difference, doubly_robust, inverse_propensity
from gateway.routing.trained_model import TrainedModel


@dataclass(frozen=True)
class Wish:
    """What a policy would have done: whether it wants the dearer model, and how much."""

    dear: bool
    score: float


# What a policy makes of a decision; None where the log lacks what it goes by.
Replayed = Callable[[Decision], Wish | None]


@dataclass(frozen=True)
class Replay:
    """What a policy would have done with `requests` decisions; `without_signals` more could not be judged,
    since the log has no signals of them. Shares are those of the dearer model, costs USD per request,
    qualities the mean score; `logged_` is what came about. `flipped` are the ids of the requests whose model
    would have been another than the logged policy wanted. `scored` is how many have feedback that tells
    something."""

    requests: int
    without_signals: int
    scored: int
    share: float | None
    logged_share: float | None
    cost: Estimate
    logged_cost: float | None
    quality: Estimate
    quality_by_weights: Estimate
    logged_quality: float | None
    flipped: tuple[str, ...]


def by_length(threshold: float) -> Replayed:
    """The policy `prompt_length`."""
    return lambda decision: Wish(decision.characters > threshold, float(decision.characters))


def by_difficulty(model: DifficultyModel, threshold: float) -> Replayed:
    """The policy `difficulty` by one model."""

    def wish(decision: Decision) -> Wish | None:
        if not _has_signals(decision):
            return None
        score = model.score(decision.signals)
        return Wish(score.is_above(threshold), score.value)

    return wish


def by_trained(trained: TrainedModel, threshold: float | None = None) -> Replayed:
    """The same by a model that learned from the log: of each decision by the one that has not seen it."""

    def wish(decision: Decision) -> Wish | None:
        if not _has_signals(decision):
            return None
        fitted = trained.unseen(decision)
        score = fitted.model.score(decision.signals)
        dear = score.is_above(fitted.threshold if threshold is None else threshold)
        # Each fold has a scale of its own, but the thresholds are where the shares of all are the same.
        return Wish(dear, score.value - fitted.threshold)

    return wish


def at_share(decisions: Sequence[Decision], policy: Replayed, share: float) -> Replayed:
    """A policy with its threshold where it sends that share of the decisions to the dearer model."""
    scores = [wish.score for decision in decisions if (wish := policy(decision)) is not None]
    threshold = threshold_for(share, scores)

    def wish_of(decision: Decision) -> Wish | None:
        wish = policy(decision)
        return None if wish is None else Wish(wish.score > threshold, wish.score)

    return wish_of


def threshold_for(share: float, scores: Sequence[float]) -> float:
    """The threshold above which `share` of the scores lie."""
    ascending = sorted(scores)
    if not ascending or share >= 1:
        return -math.inf if share >= 1 else math.inf
    above = round(share * len(ascending))
    return ascending[len(ascending) - above - 1]


def replay(decisions: Sequence[Decision], policy: Replayed) -> Replay:
    """What a policy would have done, and what that would have been worth."""
    judged = [(decision, wish) for decision in decisions if (wish := policy(decision)) is not None]
    learnable = [(decision, wish) for decision, wish in judged if decision.propensity is not None]
    wanted = [wish.dear for _, wish in learnable]
    qualities = [_logged(decision, wish, decision.feedback) for decision, wish in learnable]
    costs = [_logged(decision, wish, float(decision.cost)) for decision, wish in learnable]
    rewards = [decision.feedback for decision, _ in judged if decision.feedback is not None]
    return Replay(
        requests=len(judged),
        without_signals=len(decisions) - len(judged),
        scored=sum(decision.feedback is not None for decision, _ in learnable),
        share=_mean([float(wish.dear) for _, wish in judged]),
        logged_share=_mean([float(decision.is_dear) for decision, _ in judged]),
        cost=doubly_robust(costs, wanted, None),
        logged_cost=_mean([float(decision.cost) for decision, _ in judged]),
        quality=doubly_robust(qualities, wanted),
        quality_by_weights=inverse_propensity(qualities, wanted),
        logged_quality=_mean(rewards),
        flipped=tuple(decision.request_id for decision, wish in judged if wish.dear != wanted_dear(decision)),
    )


def gain(decisions: Sequence[Decision], policy: Replayed, instead: Replayed) -> Estimate:
    """How much better the mean score would be by one policy than by another."""
    logged: list[Logged] = []
    one: list[bool] = []
    other: list[bool] = []
    for decision in decisions:
        wish, before = policy(decision), instead(decision)
        if wish is None or before is None or decision.propensity is None:
            continue
        logged.append(_logged(decision, wish, decision.feedback))
        one.append(wish.dear)
        other.append(before.dear)
    return difference(logged, one, other)


def wanted_dear(decision: Decision) -> bool:
    """Whether the logged policy asked for the dearer model, whatever chance made of it."""
    return decision.abstained or decision.score > decision.threshold


def _has_signals(decision: Decision) -> bool:
    # One that abstained had none to log.
    return bool(decision.signals) or (decision.abstained and decision.policy == "difficulty")


def _logged(decision: Decision, wish: Wish, reward: float | None) -> Logged:
    propensity = 1.0 if decision.propensity is None else decision.propensity
    return Logged(decision.is_dear, propensity, reward, (math.log1p(decision.characters), wish.score))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
