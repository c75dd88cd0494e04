"""Noticing that a client has left while its answer is still being waited for.

A write to a client that has left fails, but only the next time that there is something to write; a slow
model could run on for minutes at somebody's cost. So the client's socket is watched while the gateway waits.
"""

from __future__ import annotations

import socket
from typing import Any

import gevent

from gateway.errors import ClientClosedRequest, WorkerStopping
from gateway.exchange import Exchange
from gateway.rounds import ROUNDS

READABLE = 1


class ClientLeft(BaseException):
    """The client closed its connection. Like `gevent.Timeout` no `Exception`, since no library on the way may
    take it for an error of its own."""


class ClientWatch:
    """Raises `ClientLeft` in the block of a `with`, at the point where it waits, once the client has gone. It
    serves block after block until it is closed; whoever leaves between two of them is told of by the next.

    It notices at once who leaves later than a tenth of a second after it has begun, and who leaves earlier
    by then. Bytes that the client sends ahead stay where they are, and end the watch. A client that only ends
    its own side of the connection counts as gone, as with other HTTP servers. `connection` is the client's
    socket, or None where there is none to watch.
    """

    __slots__ = ("_connection", "_has_left", "_is_old", "_waiting", "_watcher")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._has_left = False
        self._is_old = False
        self._waiting: Any = None
        self._watcher: Any = None
        self._begin()

    def _begin(self) -> None:
        if self._connection is not None:
            ROUNDS.add(self)

    def __enter__(self) -> None:
        if self._has_left:
            raise ClientLeft
        self._waiting = gevent.getcurrent()

    def __exit__(self, kind: object, struck: BaseException | None, trace: object) -> None:
        self._waiting = None

    def close(self) -> None:
        """Watch no longer. May be called again."""
        ROUNDS.remove(self)
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def look(self, now: float) -> None:
        """For the rounds."""
        if not self._is_old:
            self._is_old = True
            return
        ROUNDS.remove(self)
        if (descriptor := self._connection.fileno()) >= 0:
            self._watcher = gevent.get_hub().loop.io(descriptor, READABLE)
            self._watcher.start(self._look_at_client)

    def _look_at_client(self) -> None:
        # Runs in the event loop, so `_waiting` does wait, and nowhere but in the block.
        self._watcher.stop()
        if has_left(self._connection):
            self._has_left = True
            if self._waiting is not None:
                self._waiting.throw(ClientLeft)


class client_watched(ClientWatch):
    """The same for one block."""

    __slots__ = ()

    def _begin(self) -> None:
        pass

    def __enter__(self) -> None:
        self._waiting = gevent.getcurrent()
        if self._connection is not None:
            ROUNDS.add(self)

    def __exit__(self, kind: object, struck: BaseException | None, trace: object) -> None:
        self._waiting = None
        self.close()


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


class waited_for(client_watched):
    """Stop waiting in the block where nobody waits for the answer any more, or the worker has to stop.

    :raises ClientClosedRequest: when the client has left
    :raises WorkerStopping: when there is no time left
    """

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange, connection: Any) -> None:
        super().__init__(connection)
        self._exchange = exchange

    def __exit__(self, kind: object, struck: BaseException | None, trace: object) -> None:
        super().__exit__(kind, struck, trace)
        if isinstance(struck, ClientLeft):
            self._exchange.client_left = True
            raise ClientClosedRequest("The client closed its side of the connection.") from None
        if isinstance(struck, gevent.GreenletExit):
            raise WorkerStopping from None
