"""A client's socket, which gives up a client that does not take its answer."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import gevent
import gevent.socket

from gateway.readable import wait_to_read

PIECE_BYTES = 256 * 1024
# A client that sends faster than it is read never makes its reader wait: the others have their turn after so
# many reads, and their time-outs theirs.
READS_AT_ONCE = 16


class ClientSocket(gevent.socket.socket):
    """The accepted socket `accepted`, which it takes over.

    Each piece of an answer has to be taken within `stall_timeout` seconds. So a reader of a large answer may
    be slow, but one that takes a byte now and then holds nobody up for long. What a time-out of the socket
    itself leaves is the most that all pieces of one write may take.
    """

    def __init__(self, accepted: Any, stall_timeout: float) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.has_written = False
        self.request: Any = None  # gunicorn's, that is being answered
        self._stall_timeout = stall_timeout
        self._put_back = b""
        self._reads = 0
        # What the kernel still holds when the last piece was written ends with a client that is gone.
        if hasattr(socket, "TCP_USER_TIMEOUT") and self.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # gone already
                milliseconds = int(stall_timeout * 1000)
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def begin_answer(self, request: Any) -> None:
        """Take note of the request, gunicorn's or ours, that is answered from now on."""
        self.has_written, self.request = False, request

    def put_back(self, data: bytes) -> None:
        """Have `recv` begin with these bytes, which it has given before."""
        self._put_back = data

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not flags:
            if self._put_back:
                data, self._put_back = self._put_back[:size], self._put_back[size:]
                return data
            if self.has_written:
                wait_to_read(self)  # who has just got an answer has yet to ask again
            self._reads += 1
            if self._reads % READS_AT_ONCE == 0:
                gevent.sleep(0)
        received: bytes = super().recv(size, flags)
        return received

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of `data`.

        :raises TimeoutError: when the client takes it too slowly; some of it may have been sent
        """
        self.has_written = True
        # Nearly always there is room for all of it at once, and nobody to be waited for.
        try:
            sent = self._sock.send(data, flags)  # type: ignore[attr-defined] # gevent's, that never waits
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        within = self.gettimeout()
        if within == 0:
            super().sendall(rest, flags)
            return
        ends = None if within is None else time.monotonic() + within
        try:
            for start in range(0, len(rest), PIECE_BYTES):
                left = self._stall_timeout if ends is None else ends - time.monotonic()
                # No time at all would mean not to wait, and fail as if the client were full.
                self.settimeout(max(min(left, self._stall_timeout), 0.001))
                super().sendall(rest[start : start + PIECE_BYTES], flags)
        finally:
            self.settimeout(within)

    def close_after_answer(self) -> None:
        """Answer with `Connection: close`: the client's next request may find another worker."""
        if self.request is not None:
            self.request.force_close()

    def has_arrived(self) -> bool:
        """Whether bytes of the client wait to be read; takes none of them."""
        timeout = self.gettimeout()
        self.settimeout(0)
        try:
            return bool(self.recv(1, socket.MSG_PEEK))
        except OSError:
            return False
        finally:
            self.settimeout(timeout)
