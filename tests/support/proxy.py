"""A TCP proxy before Redis that can be cut, stalled and mended, as networks and servers are, and that can
lose or delay the replies to what Redis has executed."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import urlsplit

from tests.support.resp import PUSH, Messages

LINGER_RESET = struct.pack("ii", 1, 0)
SCRIPT_CALL = b"EVALSHA"


@dataclass
class ReplyFault:
    """What happens to the replies to a share of those requests that contain `matching`: they come `seconds`
    late, or, where that is `None`, never, their connection being reset instead. `struck` counts them."""

    share: Fraction
    seconds: float | None
    matching: bytes
    struck: int = 0
    _seen: int = field(default=0, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def strikes(self, request: bytes) -> bool:
        """Whether this request is one of those; of a share of 1/100 that is every hundredth."""
        if self.matching not in request:
            return False
        with self._lock:
            self._seen += 1
            due = int(self._seen * self.share) > self.struck
            self.struck += due
        return due


@dataclass(frozen=True)
class _Awaited:
    """A request that was passed on, and what is to happen to its reply."""

    fault: ReplyFault | None
    sent: float


class TcpProxy:
    """Passes bytes both ways until it is told otherwise. Threads end when it is closed."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = self._listen(0)
        self._port: int = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []
        self._faults: tuple[ReplyFault, ...] = ()
        self._flowing = threading.Event()
        self._flowing.set()
        self._start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def cut(self) -> None:
        """Refuse new connections and reset those that exist."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            _reset(link)
        self._links.clear()

    def stall(self) -> None:
        """Keep the connections and pass nothing on."""
        self._flowing.clear()

    def delay_replies(self, share: float, seconds: float, matching: bytes = SCRIPT_CALL) -> ReplyFault:
        """From now on this share of the requests that contain `matching` is executed at once and answered so
        much later, as is all that follows on the connection."""
        return self._add(share, seconds, matching)

    def drop_replies(self, share: float, matching: bytes = SCRIPT_CALL) -> ReplyFault:
        """From now on this share of the requests that contain `matching` is executed and never answered: its
        connection is reset where the reply would come."""
        return self._add(share, None, matching)

    def mend(self) -> None:
        """Work again, whatever was done before."""
        self._faults = ()
        self._flowing.set()
        if self._listener.fileno() < 0:
            self._listener = self._listen(self._port)
            self._start()

    def _add(self, share: float, seconds: float | None, matching: bytes) -> ReplyFault:
        fault = ReplyFault(Fraction(share).limit_denominator(1_000_000), seconds, matching)
        self._faults = (*self._faults, fault)
        return fault

    def _listen(self, port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port))

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                _reset(near)
                continue
            for link in (near, far):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links = [link for link in self._links if link.fileno() >= 0] + [near, far]
            if listener.fileno() < 0:  # cut while the other side was being reached
                _reset(near)
                _reset(far)
            awaited: deque[_Awaited] = deque()
            for pump in (self._pass_requests, self._pass_replies):
                threading.Thread(target=pump, args=(near, far, awaited), daemon=True).start()

    def _pass_requests(self, near: socket.socket, far: socket.socket, awaited: deque[_Awaited]) -> None:
        requests = Messages()
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                self._flowing.wait()
                for request in requests.feed(data):
                    fault = next((fault for fault in self._faults if fault.strikes(request)), None)
                    awaited.append(_Awaited(fault, time.monotonic()))
                far.sendall(data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)  # what was passed on is executed all the same

    def _pass_replies(self, near: socket.socket, far: socket.socket, awaited: deque[_Awaited]) -> None:
        replies = Messages()
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                for reply in replies.feed(data):
                    if awaited and not reply.startswith(PUSH):
                        _hold(near, awaited.popleft())
                    self._flowing.wait()
                    near.sendall(reply)
        _end(near)
        _end(far)


def _hold(near: socket.socket, awaited: _Awaited) -> None:
    """Do to a reply what its fault says; raise `ConnectionResetError` where it is never to come."""
    if awaited.fault is None:
        return
    if awaited.fault.seconds is None:
        _reset(near)
        raise ConnectionResetError
    time.sleep(max(0.0, awaited.sent + awaited.fault.seconds - time.monotonic()))


def _end(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
    link.close()


def _reset(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        link.shutdown(socket.SHUT_RD)  # wakes the thread that reads from it, without a word to the other side
    link.close()


@contextmanager
def tcp_proxy(redis_url: str) -> Iterator[TcpProxy]:
    parts = urlsplit(redis_url)
    proxy = TcpProxy((parts.hostname or "127.0.0.1", parts.port or 6379))
    try:
        yield proxy
    finally:
        proxy.mend()
        proxy.cut()
