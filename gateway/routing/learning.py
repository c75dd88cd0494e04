"""Learns a model of difficulty from decisions and what was said of their answers. Pure: no I/O.

Of each request one model's answer is known. What the other would have been worth is taken to be what it is
worth on average, so that the answers of both teach: one that the cheaper model got wrong asks for the dearer,
and one that the dearer got wrong too does not. Each model's answers are compared among themselves only
(`Example.group`), since the policy which chose them is what makes the two kinds differ."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from gateway.ids import new_id
from gateway.routing.decision import Decision
from gateway.routing.difficulty import DifficultyModel
from gateway.routing.estimates import Logged
from gateway.routing.fitting import Example, NothingToLearn, fit
from gateway.routing.replay import threshold_for
from gateway.routing.rewards import guesses_of
from gateway.routing.trained_model import FOLDS, Fitted, TrainedModel, fold_of

FEWEST_SCORED = 200
FEWEST_OF_EACH = 5
# What an explored answer counts at most: fewer than it stands for, since a handful must not decide alone.
MOST_WEIGHT = 5.0


class TooLittleFeedback(ValueError):
    """The log cannot teach yet; the text says what is lacking."""


def train(decisions: Sequence[Decision], prior: DifficultyModel, share: float) -> TrainedModel:
    """A model that sends `share` of requests like these to the dearer model. It leaves the `prior` only as
    far as the answers speak for it.

    :raises TooLittleFeedback:
    """
    # Of one policy's abstentions nothing can be learned: they have no signals.
    known = [decision for decision in decisions if decision.signals]
    scored = [each for each in known if each.feedback is not None and each.propensity is not None]
    if len(scored) < FEWEST_SCORED:
        raise TooLittleFeedback(
            f"{len(scored)} of {len(decisions)} decisions have signals and feedback; "
            f"at least {FEWEST_SCORED} are needed"
        )
    for is_dear, called in ((False, "cheaper"), (True, "dearer")):
        count = sum(each.is_dear == is_dear for each in scored)
        if count < FEWEST_OF_EACH:
            raise TooLittleFeedback(
                f"{count} answers of the {called} model have feedback; at least {FEWEST_OF_EACH} are needed, "
                "which ROUTING_EXPLORE brings"
            )
    try:
        whole = _fitted(scored, known, prior, share)
        folds = [
            _fitted([each for each in scored if fold_of(each) != fold], known, prior, share)
            for fold in range(FOLDS)
        ]
    except NothingToLearn as error:
        raise TooLittleFeedback(str(error)) from error
    newest = max(decision.time for decision in known)
    return TrainedModel(new_id()[:8], max(newest, time.time()), len(scored), share, whole, folds)


def examples_of(scored: Sequence[Decision], prior: DifficultyModel) -> list[Example]:
    """What decisions with feedback teach: how much better the dearer model's answer was, as far as is
    known."""
    logged = [
        Logged(
            each.is_dear,
            each.propensity or 1.0,
            each.feedback,
            (math.log1p(each.characters), prior.score(each.signals).value),
        )
        for each in scored
    ]
    examples = []
    for each, (cheap, dear) in zip(scored, guesses_of(logged), strict=True):
        if each.feedback is None or each.propensity is None:
            continue
        better = each.feedback - cheap if each.is_dear else dear - each.feedback
        weight = min(1 / each.propensity, MOST_WEIGHT)
        examples.append(Example(each.signals, better, weight, each.model))
    return examples


def _fitted(
    scored: Sequence[Decision], known: Sequence[Decision], prior: DifficultyModel, share: float
) -> Fitted:
    model = fit(examples_of(scored, prior), prior)
    return Fitted(model, threshold_for(share, [model.score(each.signals).value for each in known]))
