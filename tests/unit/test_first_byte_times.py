"""How long a model usually takes until its answer begins."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.first_byte_times import KEPT, MOST_MODELS, NEEDED, FirstByteTimes


def times_of(seconds: list[float]) -> FirstByteTimes:
    times = FirstByteTimes()
    for each in seconds:
        times.note("CheapModel", each, stream=False)
    return times


def test_nothing_is_usual_before_twenty_answers() -> None:
    assert times_of([0.1] * (NEEDED - 1)).p95("CheapModel", stream=False) is None
    assert times_of([0.1] * NEEDED).p95("CheapModel", stream=False) == 0.1


@given(st.lists(st.floats(0, 100), min_size=NEEDED, max_size=NEEDED))
def test_nineteen_of_twenty_did_not_take_longer_than_what_is_usual(seconds: list[float]) -> None:
    usual = times_of(seconds).p95("CheapModel", stream=False)
    assert usual == sorted(seconds)[18]


@pytest.mark.parametrize("answers", [20, 39, 40, 100, 200, 500])
def test_what_is_usual_is_at_most_twenty_answers_old(answers: int) -> None:
    seconds = [float(number) for number in range(answers)]
    usual = times_of(seconds).p95("CheapModel", stream=False)
    assert usual is not None

    def p95(known: list[float]) -> float:
        latest = known[-KEPT:]
        return latest[math.ceil(0.95 * len(latest)) - 1]

    assert p95(seconds[: answers - NEEDED + 1] if answers > NEEDED else seconds) <= usual <= p95(seconds)


def test_old_times_are_forgotten() -> None:
    times = times_of([9.0] * 1000 + [0.1] * (KEPT + NEEDED))
    assert times.p95("CheapModel", stream=False) == 0.1


def test_models_and_streams_have_times_of_their_own() -> None:
    times = times_of([0.1] * NEEDED)
    assert times.p95("CheapModel", stream=True) is None
    assert times.p95("ExpensiveModel", stream=False) is None


def test_no_more_models_are_remembered_than_a_catalog_may_have() -> None:
    times = FirstByteTimes()
    for number in range(MOST_MODELS * 2):
        times.note(f"model-{number}", 0.1, stream=False)
    assert len(times._times) == MOST_MODELS
