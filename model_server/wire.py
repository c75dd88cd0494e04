"""What the mock does to a client's connection: watch it, stall it, break it.

An `OSError` raised while a body is iterated makes gunicorn close the connection at once, without the end of
the body and without a word in its log: that is how connections break here.
"""

import errno
import socket
import struct
import time
from typing import NoReturn, Protocol

POLL_SECONDS = 0.1
LINGER_RESET = struct.pack("ii", 1, 0)


class Connection(Protocol):
    """The few things that are done to a socket here."""

    def settimeout(self, value: float | None, /) -> None: ...
    def gettimeout(self) -> float | None: ...
    def recv(self, size: int, flags: int, /) -> bytes: ...
    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...


def cut() -> NoReturn:
    """Close the connection where the body stands."""
    raise ConnectionResetError(errno.ECONNRESET, "cut on request")


def reset(connection: Connection | None) -> NoReturn:
    """Close the connection with a TCP reset."""
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    cut()


def stall(connection: Connection | None, seconds: float) -> NoReturn:
    """Send nothing until the client leaves or `seconds` are over, then close the connection."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if connection is not None and client_has_left(connection):
            break
        time.sleep(min(POLL_SECONDS, left))
    cut()


def wait(connection: Connection | None, seconds: float) -> None:
    """Take so long over an answer, but end at once where its client leaves meanwhile."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(POLL_SECONDS, left))
        if connection is not None and client_has_left(connection):
            cut()


def client_has_left(connection: Connection) -> bool:
    """Whether the other side has closed or reset the connection; takes no byte from it."""
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout)
