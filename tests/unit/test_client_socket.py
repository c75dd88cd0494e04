"""A client that takes its answer gets all of it, one that does not is given up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gevent
import pytest
from gevent import socket

from gateway.client_socket import READS_AT_ONCE, ClientSocket

STALL_SECONDS = 0.1
ANSWER = bytes(range(256)) * 40_000  # more than the kernel holds for a client


@pytest.fixture
def pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    """The gateway's end of a connection, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    ours = ClientSocket(accepted, STALL_SECONDS)
    yield ours, theirs
    ours.close()
    theirs.close()


def taken(theirs: socket.socket, pause: float = 0.0) -> bytes:
    """All that a client takes until the other side ends, with a pause before each piece."""
    pieces = []
    while piece := theirs.recv(500_000):
        pieces.append(piece)
        gevent.sleep(pause)
    return b"".join(pieces)


@pytest.mark.parametrize("pause", [0.0, STALL_SECONDS / 10], ids=["fast", "slow"])
@pytest.mark.parametrize("within", [None, 5.0])
def test_a_client_that_takes_its_answer_gets_every_byte(
    pair: tuple[ClientSocket, socket.socket], pause: float, within: float | None
) -> None:
    ours, theirs = pair
    ours.settimeout(within)
    client = gevent.spawn(taken, theirs, pause)
    for answer in (b"", b"short", ANSWER, b"end"):
        ours.sendall(answer)
    assert ours.gettimeout() == within
    ours.shutdown(socket.SHUT_WR)
    client.join(5)
    assert client.value == b"short" + ANSWER + b"end"


@pytest.mark.parametrize(("within", "seconds"), [(None, STALL_SECONDS), (0.03, 0.03), (5.0, STALL_SECONDS)])
def test_a_client_that_takes_nothing_is_given_up(
    pair: tuple[ClientSocket, socket.socket], within: float | None, seconds: float
) -> None:
    ours, _ = pair
    ours.settimeout(within)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ours.sendall(ANSWER)
    assert seconds <= time.monotonic() - began < seconds + 1
    assert ours.gettimeout() == within


def test_what_would_wait_is_an_error_where_nothing_may(pair: tuple[ClientSocket, socket.socket]) -> None:
    ours, _ = pair
    ours.settimeout(0)
    with pytest.raises((BlockingIOError, TimeoutError)):
        ours.sendall(ANSWER)


def test_a_client_that_has_gone_is_an_error(pair: tuple[ClientSocket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.close()
    ours.sendall(b"the first after that the kernel takes")
    gevent.sleep(0.01)
    with pytest.raises(OSError, match=r"(?i)reset|broken"):
        ours.sendall(b"x")


def test_a_client_that_sends_faster_than_it_is_read_holds_up_nobody(
    pair: tuple[ClientSocket, socket.socket],
) -> None:
    ours, theirs = pair
    reads, turns = 400, 0
    theirs.sendall(b"x" * reads)
    reading = gevent.spawn(lambda: [ours.recv(1) for _ in range(reads)])
    while not reading.ready():
        turns += 1
        gevent.sleep(0)
    assert b"".join(reading.get()) == b"x" * reads
    assert turns >= reads / READS_AT_ONCE
