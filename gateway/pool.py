"""Pooled connections to providers that are looked at properly before they are used again.

urllib3 asks the system's poll whether a connection has died. Patched by gevent, that poll misses closed ones
when many requests ask at once; the request then fails on a connection that its provider has long closed. Here
the real one is asked (`readable.py`).

urllib3 keeps idle connections in a queue that threads can wait at, whose locks cost more under gevent than a
request to a provider has to. Here it is a list: no greenlet is interrupted between two of its steps.
"""

from __future__ import annotations

import queue
import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from gateway.readable import Readable

# Providers close idle connections after a minute or so, and a request on its way just then is lost.
MAX_IDLE_SECONDS = 30.0


class _Checked:
    """Mixed into a connection: it counts as connected while it is young and nothing has come to be read,
    be it the end of the connection or bytes that belong to no answer."""

    sock: Any
    _idle_since = 0.0
    _readable: Readable | None = None

    @property
    def is_connected(self) -> bool:
        if self.sock is None or time.monotonic() - self._idle_since > MAX_IDLE_SECONDS:
            return False
        if self._readable is None or self._readable.sock is not self.sock:
            self._readable = Readable(self.sock)
        return not self._readable.now()

    def put_aside(self) -> None:
        self._idle_since = time.monotonic()


class _Connection(_Checked, HTTPConnection):
    pass


class _SecureConnection(_Checked, HTTPSConnection):
    pass


class _Shelf:
    """The idle connections of a pool, the one that came back last on top."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._connections: list[Any] = []

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """
        :raises queue.Empty: where there is none, without a wait: the pool opens one then
        """
        if not self._connections:
            raise queue.Empty
        return self._connections.pop()

    def put(self, connection: Any, block: bool = True) -> None:
        """Take a connection; None, by which urllib3 means one that is not open yet, is nothing to keep.

        :raises queue.Full: where there is no room
        """
        if connection is None:
            return
        if len(self._connections) >= self._size:
            raise queue.Full
        self._connections.append(connection)

    def qsize(self) -> int:
        return len(self._connections)


class _Checking:
    """Mixed into a pool: it notes when a connection comes back."""

    QueueCls = _Shelf

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.put_aside()
        super()._put_conn(conn)  # type: ignore[misc]


class _Pool(_Checking, HTTPConnectionPool):  # type: ignore[misc]  # a queue as far as it is used
    ConnectionCls = _Connection


class _SecurePool(_Checking, HTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _SecureConnection


class CheckedAdapter(HTTPAdapter):
    """A `requests` adapter whose pools hold checked connections."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
