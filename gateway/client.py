"""Noticing that a client has left while its answer is still being waited for.

A write to a client that has left fails, but only the next time that there is something to write; a slow
model could run on for minutes at somebody's cost. So the client's socket is watched while the gateway waits.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent

from gateway.errors import ClientClosedRequest, WorkerStopping
from gateway.exchange import Exchange

READABLE = 1


class ClientLeft(BaseException):
    """The client closed its connection. Like `gevent.Timeout` no `Exception`, since no library on the way may
    take it for an error of its own."""


@contextmanager
def client_watched(connection: Any) -> Iterator[None]:
    """Raise `ClientLeft` in the block, at the point where it waits, once the client has gone.

    Bytes that the client sends ahead stay where they are, and end the watch. A client that only ends its own
    side of the connection counts as gone, as with other HTTP servers. `connection` is the client's socket,
    or None where there is none to watch.
    """
    if connection is None:
        yield
        return
    waiting = gevent.getcurrent()
    watcher = gevent.get_hub().loop.io(connection.fileno(), READABLE)

    def look() -> None:
        # Runs in the event loop, so `waiting` does wait, and nowhere but in the block.
        watcher.stop()
        if has_left(connection):
            waiting.throw(ClientLeft)

    watcher.start(look)
    try:
        yield
    finally:
        watcher.stop()
        watcher.close()


def has_left(connection: Any) -> bool:
    """Whether the other side has closed or reset the connection; takes no byte from it."""
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK) == b"")
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout)


@contextmanager
def waited_for(exchange: Exchange, connection: Any) -> Iterator[None]:
    """Stop waiting in the block where nobody waits for the answer any more, or the worker has to stop.

    :raises ClientClosedRequest: when the client has left
    :raises WorkerStopping: when there is no time left
    """
    try:
        with client_watched(connection):
            yield
    except ClientLeft:
        exchange.client_left = True
        raise ClientClosedRequest("The client closed its side of the connection.") from None
    except gevent.GreenletExit:
        raise WorkerStopping from None
