"""Requests as bytes on a socket, for what no HTTP client would send."""

from __future__ import annotations

import http.client
import io
import json
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CHAT = "/v1/chat/completions"
SECONDS = 15


@dataclass(frozen=True)
class Answer:
    """One answer, and when it had come whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float
    version: int  # 10 or 11

    def json(self) -> Any:
        return json.loads(self.body)


class _Kept:
    """The file of a connection, which outlives each answer that is read from it."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file

    def makefile(self, mode: str) -> _Kept:
        return self

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Connection:
    """A client's side of one connection."""

    def __init__(self, client: socket.socket, file: io.BufferedIOBase) -> None:
        self._socket = client
        self._file = file
        self._opened = time.monotonic()

    def send(self, data: bytes) -> None:
        """Send as much as the other side takes; it may refuse the rest of what it will not read."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def end(self) -> None:
        """Say that no more will be sent, but go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset_on_close(self) -> None:
        """Leave with a TCP reset instead of a goodbye."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def answer(self, method: str = "POST") -> Answer:
        """The next final answer, read by its own length."""
        response = http.client.HTTPResponse(_Kept(self._file), method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        seconds = time.monotonic() - self._opened
        return Answer(response.status, response.headers, body, seconds, response.version)

    def rest(self) -> bytes:
        """All that comes until the other side closes the connection."""
        received = b""
        try:
            while data := self._file.read1(65536):
                received += data
        except ConnectionResetError:
            pass
        return received


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    parts = urlsplit(url)
    address = parts.hostname or "", parts.port or 80
    with socket.create_connection(address, SECONDS) as client, client.makefile("rb") as file:
        yield Connection(client, file)


def ask(url: str, data: bytes, method: str = "POST") -> Answer:
    """The answer to one request on a connection of its own."""
    with connected(url) as connection:
        connection.send(data)
        return connection.answer(method)


def head(*headers: str | bytes, method: str = "POST", path: str = CHAT) -> bytes:
    """The head of a request with these header lines besides `Host`."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: gateway"]
    lines += [line.encode() if isinstance(line, str) else line for line in headers]
    return b"\r\n".join([*lines, b"", b""])


def post(body: bytes, *headers: str | bytes, path: str = CHAT) -> bytes:
    """A whole request with a body."""
    return head(f"Content-Length: {len(body)}", *headers, path=path) + body


def chunked(body: bytes, size: int = 65536) -> bytes:
    """A whole request whose body comes in chunks."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
    return head("Transfer-Encoding: chunked") + b"".join(chunks) + b"0\r\n\r\n"
