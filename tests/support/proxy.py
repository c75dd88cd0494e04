"""A TCP proxy before Redis that can be cut, stalled and mended, as networks and servers are."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class TcpProxy:
    """Passes bytes both ways until it is told otherwise. Threads end when it is closed."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = self._listen(0)
        self._port: int = self._listener.getsockname()[1]
        self._links: list[socket.socket] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def cut(self) -> None:
        """Refuse new connections and reset those that exist."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        self._links.clear()

    def stall(self) -> None:
        """Keep the connections and pass nothing on."""
        self._flowing.clear()

    def mend(self) -> None:
        """Work again, after a cut or a stall."""
        self._flowing.set()
        if self._listener.fileno() < 0:
            self._listener = self._listen(self._port)
            self._start()

    def _listen(self, port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port))

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
            except OSError:
                return
            self._links += [near, far]
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with contextlib.suppress(OSError, ValueError), near, far:
            while True:
                readable, _, _ = select.select([near, far], [], [], 0.05)
                for link in readable:
                    data = link.recv(65536)
                    if not data:
                        return
                    self._flowing.wait()
                    other[link].sendall(data)


@contextmanager
def tcp_proxy(redis_url: str) -> Iterator[TcpProxy]:
    parts = urlsplit(redis_url)
    proxy = TcpProxy((parts.hostname or "127.0.0.1", parts.port or 6379))
    try:
        yield proxy
    finally:
        proxy.mend()
        proxy.cut()
