"""A tenant who lets the gateway learn from its own traffic, simulated on public outcomes.

One benchmark is the tenant's whole traffic: a thousand requests, routed by the bundled policy with half of them
to the expensive model, a few percent of them by chance to the other one. Only the answer that was given gets a
score. What is learned from that is judged on questions that were not among the requests and that the bundled
model has not seen either.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

from evaluation.data import FOLDS, Outcome, Pair, by_pair, split
from evaluation.figures import cost_of
from evaluation.metrics import NoGap, Ranking, mean
from evaluation.train_difficulty import Trained
from gateway.routing.decision import Decision
from gateway.routing.difficulty import DifficultyModel
from gateway.routing.exploration import Exploration
from gateway.routing.learning import TooLittleFeedback, threshold_for, train
from gateway.routing.replay import Replayed, by_difficulty, by_length, by_trained, gain, replay
from gateway.routing.signals import signals_of

REQUESTS = 1000
EXPLORED = 0.02
SHARE = 0.5


@dataclass(frozen=True)
class Request:
    """A prompt of the tenant's with what both models would have made of it."""

    outcome: Outcome
    signals: dict[str, float]


@dataclass(frozen=True)
class Learned:
    """One tenant's run. The APGRs are on the questions that were kept back; the covers say whether a replay's
    interval held the true quality on the requests; `is_promoted` whether the interval of the gain was above
    zero, and `true_gain` what it was."""

    trained: float
    bundled: float
    length: float
    covers: dict[str, bool]
    is_promoted: bool
    true_gain: float


def learn(outcomes: Sequence[Outcome], bundled: Trained, seed: int) -> Learned:
    """A run on one pair's outcomes; `bundled` has not seen the fold of the seed.

    :raises NoGap: where the expensive model is not better on what was kept back
    :raises TooLittleFeedback: where so few requests teach nothing
    """
    drawing = random.Random(seed)
    others, kept = split(outcomes, seed % FOLDS)
    drawn = drawing.sample(others, min(REQUESTS, len(others)))
    drawn += drawing.choices(others, k=REQUESTS - len(drawn))
    requests = [Request(each, signals_of([each.prompt], bundled.topics)) for each in drawn]
    scores = [bundled.model.score(each.signals) for each in requests]
    threshold = threshold_for(SHARE, [score.value for score in scores])
    exploration = Exploration(EXPLORED, drawing.random)
    decisions = []
    for number, (request, score) in enumerate(zip(requests, scores, strict=True)):
        is_explored, propensity = exploration.drawn()
        is_dear = score.is_above(threshold) != is_explored
        decisions.append(
            _decided(number, request, score.value, score.abstains, threshold, is_dear, propensity)
        )
    trained = train(decisions, bundled.model, SHARE)
    before = by_difficulty(bundled.model, threshold)
    after = by_trained(trained)
    middle = median(len(each.prompt) for each in drawn)
    estimate = gain(decisions, after, before)
    policies = {"bundled": before, "trained": after, "prompt_length": by_length(middle)}
    return Learned(
        trained=_apgr(trained.whole.model, bundled, kept),
        bundled=_apgr(bundled.model, bundled, kept),
        length=Ranking([len(each.prompt) for each in kept], [each.gain for each in kept]).apgr(),
        covers={name: _covers(decisions, drawn, policy) for name, policy in policies.items()},
        is_promoted=estimate.low is not None and estimate.low > 0,
        true_gain=_true_quality(decisions, drawn, after) - _true_quality(decisions, drawn, before),
    )


def _decided(
    number: int,
    request: Request,
    score: float,
    abstained: bool,
    threshold: float,
    is_dear: bool,
    propensity: float,
) -> Decision:
    outcome = request.outcome
    models = (outcome.pair.cheap, outcome.pair.expensive)
    characters = outcome.expensive_out_chars if is_dear else outcome.cheap_out_chars
    return Decision(
        request_id=str(number),
        key_id=None,
        time=float(number),
        policy="difficulty",
        characters=len(outcome.prompt),
        score=score,
        threshold=threshold,
        model=models[is_dear],
        other=models[not is_dear],
        is_dear=is_dear,
        propensity=propensity,
        abstained=abstained,
        signals=request.signals,
        cost=Decimal(str(cost_of(outcome, models[is_dear], characters))),
        feedback=outcome.expensive_score if is_dear else outcome.cheap_score,
    )


def _apgr(model: DifficultyModel, bundled: Trained, kept: Sequence[Outcome]) -> float:
    scores = [model.score(signals_of([each.prompt], bundled.topics)).value for each in kept]
    return Ranking(scores, [each.gain for each in kept]).apgr()


def _true_quality(decisions: Sequence[Decision], drawn: Sequence[Outcome], policy: Replayed) -> float:
    """The mean score that the policy would have had on the very requests, of those it can judge."""
    wishes = [(policy(decision), outcome) for decision, outcome in zip(decisions, drawn, strict=True)]
    return mean(
        [
            outcome.expensive_score if wish.dear else outcome.cheap_score
            for wish, outcome in wishes
            if wish is not None
        ]
    )


def _covers(decisions: Sequence[Decision], drawn: Sequence[Outcome], policy: Replayed) -> bool:
    quality = replay(decisions, policy).quality
    true = _true_quality(decisions, drawn, policy)
    return quality.low is not None and quality.high is not None and quality.low <= true <= quality.high


def runs(
    outcomes: Sequence[Outcome], by_fold: Sequence[Trained], seeds: int
) -> dict[Pair, list[Learned]]:
    """The runs of each pair of models, with a bundled model that has not seen what each is judged on."""
    found: dict[Pair, list[Learned]] = {}
    for pair, rows in by_pair(outcomes).items():
        found[pair] = []
        for seed in range(seeds):
            try:
                found[pair].append(learn(rows, by_fold[seed % FOLDS], seed))
            except (NoGap, TooLittleFeedback) as exc:
                raise RuntimeError(f"seed {seed} of {pair}") from exc
    return found
