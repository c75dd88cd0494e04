"""Of two calls for one request the first answer wins, and the other is ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import gevent
import pytest

from gateway.errors import ClientClosedRequest, UpstreamError
from gateway.headers import UpstreamHeaders
from gateway.hedging import first_to_answer
from gateway.model_call import Answered, HedgeLost, ModelCall
from gateway.outcome import Unanswered
from gateway.upstream import Answer, Refusal

USUAL = 0.02
FAILURE = Unanswered(UpstreamError("failed"))
REFUSAL = Refusal(429, None, "Too much.", UpstreamHeaders({}))


def answer_of(name: str) -> Answer:
    return Answer(name.encode(), {}, UpstreamHeaders({}))


class FakeCall:
    """Says what it was made to say after so many seconds, and keeps what was done to it."""

    def __init__(
        self, name: str, seconds: float, says: Answered | Unanswered | BaseException | None = None
    ) -> None:
        self.answer: Answered | Unanswered | BaseException = says or answer_of(name)
        self.seconds = seconds
        self.done: list[str] = []
        self.discarded: object = None

    def ask(self) -> Answered | Unanswered:
        try:
            gevent.sleep(self.seconds)
        except HedgeLost:
            self.done.append("lost")
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def discard(self, reply: object) -> None:
        self.done.append("discarded")
        self.discarded = reply

    def end(self) -> None:
        self.done.append("ended")


def race(first: FakeCall, second: FakeCall | None) -> tuple[FakeCall, Answered | Unanswered]:
    another: Callable[[], ModelCall | None] = lambda: cast(ModelCall, second) if second else None  # noqa: E731
    call, reply = first_to_answer(cast(ModelCall, first), USUAL, another)
    return cast(FakeCall, call), reply


def test_a_call_that_takes_no_longer_than_usual_stays_alone() -> None:
    first, second = FakeCall("first", 0), FakeCall("second", 0)
    assert race(first, second) == (first, first.answer)
    assert (first.done, second.done) == ([], [])


def test_a_slow_call_gets_a_second_one_beside_it_and_is_ended_when_that_answers() -> None:
    first, second = FakeCall("first", 5), FakeCall("second", 0)
    began = time.monotonic()
    assert race(first, second) == (second, second.answer)
    assert USUAL <= time.monotonic() - began < 1
    assert first.done == ["lost", "discarded", "ended"]
    assert isinstance(first.discarded, HedgeLost)
    assert second.done == []


def test_a_slow_call_that_answers_first_after_all_wins() -> None:
    first, second = FakeCall("first", USUAL * 2), FakeCall("second", 5)
    assert race(first, second) == (first, first.answer)
    assert (first.done, second.done) == ([], ["lost", "discarded", "ended"])


def test_a_slow_call_goes_on_alone_where_no_other_may_be_made() -> None:
    first = FakeCall("first", USUAL * 3)
    assert race(first, None) == (first, first.answer)


@pytest.mark.parametrize("fails", ["first", "second"])
def test_the_one_that_is_left_is_waited_for_when_the_other_fails(fails: str) -> None:
    first = FakeCall("first", USUAL * 2, FAILURE if fails == "first" else None)
    second = FakeCall("second", USUAL * 2, FAILURE if fails == "second" else None)
    first.seconds += 0 if fails == "first" else 0.05
    second.seconds += 0 if fails == "second" else 0.05
    winner, loser = (second, first) if fails == "first" else (first, second)
    assert race(first, second) == (winner, winner.answer)
    assert (winner.done, loser.done) == ([], ["ended"])


def test_when_both_fail_the_later_failure_counts() -> None:
    later = Unanswered(UpstreamError("later"))
    first, second = FakeCall("first", USUAL * 2, FAILURE), FakeCall("second", USUAL * 4, later)
    assert race(first, second) == (second, later)
    assert (first.done, second.done) == (["ended"], [])


@pytest.mark.parametrize("refused", ["first", "second"])
def test_a_refusal_of_one_does_not_end_the_other(refused: str) -> None:
    first = FakeCall("first", USUAL * 2, REFUSAL if refused == "first" else None)
    second = FakeCall("second", USUAL * 2, REFUSAL if refused == "second" else None)
    first.seconds += 0 if refused == "first" else 0.05
    second.seconds += 0 if refused == "second" else 0.05
    winner, loser = (second, first) if refused == "first" else (first, second)
    assert race(first, second) == (winner, winner.answer)
    assert (winner.done, loser.done) == ([], ["discarded", "ended"])
    assert loser.discarded is REFUSAL


def test_when_both_are_refused_the_later_refusal_counts() -> None:
    later = replace(REFUSAL, status=400)
    first, second = FakeCall("first", USUAL * 4, later), FakeCall("second", USUAL, REFUSAL)
    assert race(first, second) == (first, later)
    assert (first.done, second.done) == ([], ["discarded", "ended"])


def test_a_refusal_that_is_no_slower_than_usual_stays_alone() -> None:
    first, second = FakeCall("first", 0, REFUSAL), FakeCall("second", 0)
    assert race(first, second) == (first, REFUSAL)
    assert (first.done, second.done) == ([], [])


def test_who_leaves_while_a_second_call_is_admitted_ends_the_first() -> None:
    first = FakeCall("first", 5)

    def another() -> ModelCall:
        raise ClientClosedRequest("left")

    with pytest.raises(ClientClosedRequest):
        first_to_answer(cast(ModelCall, first), USUAL, another)
    assert first.done == ["lost", "discarded", "ended"]


def test_a_client_that_leaves_ends_both() -> None:
    left = ClientClosedRequest("left")
    first, second = FakeCall("first", USUAL * 2, left), FakeCall("second", 5)
    with pytest.raises(ClientClosedRequest):
        race(first, second)
    assert first.done == ["ended"]
    assert second.done == ["lost", "discarded", "ended"]


def test_whoever_waits_is_struck_and_leaves_no_call_behind() -> None:
    first, second = FakeCall("first", 5), FakeCall("second", 5)
    waiting = gevent.spawn(race, first, second)
    gevent.sleep(USUAL * 3)
    waiting.kill()
    for call in (first, second):
        assert call.done == ["lost", "discarded", "ended"]
