"""A client that leaves is noticed where its answer is waited for, and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from gateway.client import ClientLeft, ClientWatch, client_watched, has_left, waited_for
from gateway.errors import ClientClosedRequest, WorkerStopping
from gateway.exchange import Exchange
from gateway.rounds import SECONDS_BETWEEN_ROUNDS

AT_ONCE = SECONDS_BETWEEN_ROUNDS / 2
LONG = 3 * SECONDS_BETWEEN_ROUNDS  # after which a client is watched


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The gateway's end of a connection, and the client's."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def ours(pair: tuple[socket.socket, socket.socket]) -> socket.socket:
    return pair[0]


@pytest.fixture
def theirs(pair: tuple[socket.socket, socket.socket]) -> socket.socket:
    return pair[1]


WAYS: dict[str, Callable[[Any], Any]] = {"block": client_watched, "blocks": ClientWatch}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("leave", [socket.socket.close, lambda theirs: theirs.shutdown(socket.SHUT_WR)])
@pytest.mark.parametrize("after", [0.0, AT_ONCE, LONG])
def test_a_client_that_leaves_ends_the_wait_for_its_answer(
    ours: socket.socket, theirs: socket.socket, way: str, leave: Callable[[Any], None], after: float
) -> None:
    gevent.spawn_later(after, leave, theirs)
    began = time.monotonic()
    with pytest.raises(ClientLeft), WAYS[way](ours):
        gevent.sleep(5)
    assert time.monotonic() - began < after + 0.5


@pytest.mark.parametrize("way", WAYS)
def test_after_a_while_one_that_leaves_is_noticed_at_once(
    ours: socket.socket, theirs: socket.socket, way: str
) -> None:
    left = []

    def leave() -> None:
        theirs.close()
        left.append(time.monotonic())

    gevent.spawn_later(LONG, leave)
    with pytest.raises(ClientLeft), WAYS[way](ours):
        gevent.sleep(5)
    assert time.monotonic() - left[0] < AT_ONCE


@pytest.mark.parametrize("way", WAYS)
def test_one_that_stays_is_let_be_and_keeps_what_it_sends_ahead(
    ours: socket.socket, theirs: socket.socket, way: str
) -> None:
    theirs.sendall(b"next")
    watch = WAYS[way](ours)
    with watch:
        gevent.sleep(LONG)
    watch.close()
    assert ours.recv(9) == b"next"


@pytest.mark.parametrize("way", WAYS)
def test_where_there_is_no_client_nobody_leaves(way: str) -> None:
    watch = WAYS[way](None)
    with watch:
        gevent.sleep(0)
    watch.close()


def test_who_leaves_behind_the_block_disturbs_nothing(ours: socket.socket, theirs: socket.socket) -> None:
    with client_watched(ours):
        gevent.sleep(LONG)
    theirs.close()
    gevent.sleep(LONG)


def test_who_leaves_between_two_blocks_is_told_of_by_the_next(
    ours: socket.socket, theirs: socket.socket
) -> None:
    watch = ClientWatch(ours)
    with watch:
        gevent.sleep(LONG)
    theirs.close()
    gevent.sleep(AT_ONCE)  # here nothing may strike
    with pytest.raises(ClientLeft), watch:
        pytest.fail("the block was entered")
    watch.close()


def test_what_is_watched_no_longer_disturbs_nothing(ours: socket.socket, theirs: socket.socket) -> None:
    watch = ClientWatch(ours)
    with watch:
        gevent.sleep(LONG)
    watch.close()
    watch.close()
    theirs.close()
    with watch:
        gevent.sleep(AT_ONCE)


def test_a_client_of_two_calls_ends_both(ours: socket.socket, theirs: socket.socket) -> None:
    def wait() -> str:
        try:
            with client_watched(ours):
                gevent.sleep(5)
        except ClientLeft:
            return "left"
        return "stayed"

    calls = [gevent.spawn(wait) for _ in range(2)]
    gevent.sleep(AT_ONCE)
    theirs.close()
    gevent.joinall(calls, timeout=2)
    assert [call.value for call in calls] == ["left", "left"]


def test_whoever_waits_for_it_is_told_and_notes_that_the_client_left(
    ours: socket.socket, theirs: socket.socket
) -> None:
    exchange = Exchange("id", "POST", "/")
    theirs.close()
    with pytest.raises(ClientClosedRequest), waited_for(exchange, ours):
        gevent.sleep(5)
    assert exchange.client_left


def test_a_worker_that_stops_ends_the_wait_in_words_of_its_own(ours: socket.socket) -> None:
    exchange = Exchange("id", "POST", "/")
    with pytest.raises(WorkerStopping), waited_for(exchange, ours):
        raise gevent.GreenletExit
    assert not exchange.client_left


def test_what_else_goes_wrong_is_passed_on(ours: socket.socket) -> None:
    with pytest.raises(ValueError, match="own"), waited_for(Exchange("id", "POST", "/"), ours):
        raise ValueError("own")


def test_a_look_takes_no_byte_and_changes_no_time_out(ours: socket.socket, theirs: socket.socket) -> None:
    ours.settimeout(7)
    assert not has_left(ours)
    theirs.sendall(b"x")
    assert not has_left(ours)
    assert ours.gettimeout() == 7
    assert ours.recv(9) == b"x"
    theirs.close()
    assert has_left(ours)
