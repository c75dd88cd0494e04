"""What the users' answers say about their own traffic is learned, and no more than they say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gateway.routing.difficulty import bundled
from gateway.routing.learning import FEWEST_SCORED, TooLittleFeedback, examples_of, train
from gateway.routing.replay import at_share, by_difficulty, by_trained, gain, replay, threshold_for
from gateway.routing.trained_model import TrainedModel, UnreadableModel, fold_of
from tests.support.tenant import HARD, LIVE_SHARE, decisions_of

DECISIONS = decisions_of(1000, seed=1, explored=0.02)
TRAINED = train(DECISIONS, bundled(), LIVE_SHARE)


def test_a_model_learns_what_is_hard_here() -> None:
    def steepness(weight_of: str) -> float:
        easy, hard = ({HARD: 0.5, "length/all": 0.5} | {weight_of: value} for value in (0.0, 1.0))
        model = TRAINED.whole.model
        return model.score(hard).value - model.score(easy).value

    assert steepness(HARD) > 0.1
    assert steepness(HARD) > 3 * abs(steepness("length/all"))


def test_what_was_learned_is_worth_something_on_requests_that_it_has_not_seen() -> None:
    later = [replace(each, time=each.time + 10_000) for each in decisions_of(1500, seed=2, explored=0.3)]
    live = by_difficulty(bundled(), later[0].threshold)
    better = gain(later, by_trained(TRAINED), live)
    assert better.low is not None
    assert better.low > 0


def test_the_share_of_the_dearer_model_stays_as_it_was() -> None:
    assert replay(DECISIONS, by_trained(TRAINED)).share == pytest.approx(LIVE_SHARE, abs=0.03)
    for share in (0.1, 0.5, 0.9):
        for policy in (by_trained(TRAINED), by_difficulty(bundled(), 0.0)):
            assert replay(DECISIONS, at_share(DECISIONS, policy, share)).share == pytest.approx(
                share, abs=0.01
            )


def test_no_decision_is_judged_by_a_model_that_learned_from_it() -> None:
    for each in DECISIONS[:20]:
        assert TRAINED.unseen(each) is TRAINED.folds[fold_of(each)]
    assert TRAINED.unseen(replace(DECISIONS[0], time=TRAINED.trained_at + 1)) is TRAINED.whole


def test_bad_answers_of_the_cheaper_model_ask_for_the_dearer_and_a_few_explored_ones_do_not_decide() -> None:
    cheap = [each for each in DECISIONS if not each.is_dear]
    examples = examples_of(DECISIONS, bundled())
    assert len(examples) == len(cheap)
    assert max(example.weight for example in examples) == 5
    outcomes = {
        right: [e.outcome for e, d in zip(examples, cheap, strict=True) if d.feedback == right]
        for right in (0, 1)
    }
    assert min(outcomes[0]) > 0.5 > max(outcomes[1])


def test_a_model_survives_its_record() -> None:
    again = TrainedModel.from_json(TRAINED.to_json())
    assert len(TRAINED.to_json()) < 300_000
    for each in DECISIONS[:50]:
        assert again.unseen(each).wants_dear(each) == TRAINED.unseen(each).wants_dear(each)
    assert (again.version, again.trained_on, again.share) == (TRAINED.version, 1000, LIVE_SHARE)


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"models": []}', TRAINED.to_json()[:-2]],
    ids=["empty", "no fields", "a list", "null", "no models", "cut"],  # else they hold the time
)
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(UnreadableModel):
        TrainedModel.from_json(text)


def test_few_scores_teach_nothing_and_it_is_said_how_many_are_needed() -> None:
    few = DECISIONS[: FEWEST_SCORED - 1] + [
        replace(each, feedback=None) for each in DECISIONS[FEWEST_SCORED:]
    ]
    with pytest.raises(TooLittleFeedback, match=rf"{FEWEST_SCORED - 1} of 999 .* {FEWEST_SCORED}"):
        train(few, bundled(), 0.5)
    with pytest.raises(TooLittleFeedback):
        train([replace(each, signals={}) for each in DECISIONS], bundled(), 0.5)


def test_scores_of_one_model_alone_teach_nothing() -> None:
    with pytest.raises(TooLittleFeedback, match="ROUTING_EXPLORE"):
        train([each for each in DECISIONS if not each.is_dear] * 2, bundled(), 0.5)


def test_answers_that_are_all_alike_teach_nothing_that_moves_a_model() -> None:
    alike = [replace(each, feedback=1.0) for each in DECISIONS]
    try:
        trained = train(alike, bundled(), 0.5)
    except TooLittleFeedback:
        return
    model = trained.whole.model
    for each in DECISIONS[:20]:
        assert math.isfinite(model.score(each.signals).value)


@pytest.mark.parametrize(("share", "above"), [(0, 0), (0.2, 2), (0.25, 2), (0.5, 5), (1, 10)])
def test_the_threshold_leaves_that_share_above_it(share: float, above: int) -> None:
    scores = [i / 10 for i in range(10)]
    assert sum(score > threshold_for(share, scores) for score in scores) == above
