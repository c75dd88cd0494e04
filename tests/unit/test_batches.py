"""The next events of a stream can be waited for for a while, and none is lost by that."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from gateway.batches import Batches
from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.headers import UpstreamHeaders
from gateway.sse import Event
from gateway.upstream import AnswerStream

A_WHILE = 0.01
FIRST, SECOND, THIRD = ([Event(raw, raw, None)] for raw in (b"1", b"2", b"3"))


class SlowStream(AnswerStream):
    """Gives each batch after a pause; an exception is raised in its turn."""

    def __init__(self, *steps: list[Event] | BaseException, pause: float = 10 * A_WHILE) -> None:
        self.headers = UpstreamHeaders({})
        self.steps = steps
        self.pause = pause
        self.reads = 0
        self.struck: BaseException | None = None

    def __iter__(self) -> Iterator[list[Event]]:
        for step in self.steps:
            self.reads += 1
            try:
                gevent.sleep(self.pause)
            except BaseException as error:
                self.struck = error
                raise
            if isinstance(step, BaseException):
                raise step
            yield step


def all_of(batches: Batches) -> list[list[Event]]:
    return list(iter(batches.next, None))


def test_they_come_in_their_order_to_whoever_waits_for_none() -> None:
    assert all_of(Batches(SlowStream(FIRST, SECOND, pause=0))) == [FIRST, SECOND]


def test_what_does_not_come_in_time_comes_next() -> None:
    stream = SlowStream(FIRST, SECOND, THIRD)
    batches = Batches(stream)
    assert not batches.comes_within(A_WHILE)
    assert not batches.comes_within(0)
    assert stream.reads == 1
    assert all_of(batches) == [FIRST, SECOND, THIRD]


def test_what_comes_in_time_is_kept_until_it_is_asked_for() -> None:
    stream = SlowStream(FIRST, SECOND)
    batches = Batches(stream)
    assert batches.comes_within(1)
    assert batches.comes_within(0)
    assert stream.reads == 1
    assert batches.next() == FIRST
    assert not batches.comes_within(A_WHILE)
    assert all_of(batches) == [SECOND]


def test_no_time_at_all_is_a_look_at_what_is_there() -> None:
    batches = Batches(SlowStream(FIRST))
    assert not batches.comes_within(-1)
    gevent.sleep(15 * A_WHILE)
    assert batches.comes_within(-1)
    assert batches.next() == FIRST


@pytest.mark.parametrize("waits", [False, True])
def test_the_end_is_one_of_them(waits: bool) -> None:
    batches = Batches(SlowStream(FIRST, pause=0))
    assert batches.next() == FIRST
    if waits:
        assert batches.comes_within(1)
    assert batches.next() is None
    assert batches.next() is None


@pytest.mark.parametrize("patience", [0, 1], ids=["afterwards", "meanwhile"])
@pytest.mark.parametrize("kind", [UpstreamError, UpstreamTimeout])
def test_a_provider_that_stops_is_told_of_when_the_next_one_is_asked_for(
    kind: type[UpstreamError], patience: float
) -> None:
    batches = Batches(SlowStream(FIRST, kind("It broke off."), pause=A_WHILE))
    assert batches.comes_within(1)
    assert batches.next() == FIRST
    assert batches.comes_within(patience) is bool(patience)
    with pytest.raises(kind, match="broke off"):
        batches.next()


def test_who_leaves_while_they_are_waited_for_leaves_the_read_to_be_stopped() -> None:
    stream = SlowStream(FIRST, pause=5)
    batches = Batches(stream)
    waiting = gevent.spawn(batches.comes_within, 5)
    gevent.sleep(A_WHILE)
    waiting.kill()
    assert stream.struck is None

    batches.stop()
    assert isinstance(stream.struck, gevent.GreenletExit)


def test_a_stop_before_any_wait_does_nothing() -> None:
    batches = Batches(SlowStream(FIRST, pause=0))
    batches.stop()
    assert batches.next() == FIRST
