"""Learns a model of difficulty from decisions and what was said of their answers. Pure: no I/O.

Only the cheaper model's answers teach, those that were explored among them: each is held against what the
dearer would have been worth by a regression on its own answers, and a bad one asks for the dearer model. The
dearer's answers teach nothing more. It fails most at what is hardest, where nobody has seen the cheaper one
fail too, so that learning from them turns the order round (docs/learning.md has the figures).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

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
# By which the weights are held to the prior's; what a thousand answers say is mostly noise.
STRENGTH = 10_000.0


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
    """What the cheaper model's answers teach: how much better the dearer one's would have been."""
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
    for each, (_, dear) in zip(scored, guesses_of(logged), strict=True):
        if not each.is_dear and each.feedback is not None and each.propensity is not None:
            weight = min(1 / each.propensity, MOST_WEIGHT)
            examples.append(Example(each.signals, dear - each.feedback, weight))
    return examples


def _fitted(
    scored: Sequence[Decision], known: Sequence[Decision], prior: DifficultyModel, share: float
) -> Fitted:
    model = fit(examples_of(scored, prior), prior, [STRENGTH])
    if not model.slope:
        # So few examples may not bear out what they told of each other; the order is not lost for that.
        model = replace(model, slope=prior.slope)
    return Fitted(model, threshold_for(share, [model.score(each.signals).value for each in known]))
