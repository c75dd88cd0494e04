"""Whether the whole service is stopping, which all of its processes see at once.

gunicorn tells a worker to go by the same signal whether it alone is replaced or all stop. In the one case
others take the new requests, in the other they have to be told that nobody will. So the master says it in a
byte of memory that is shared with every worker it forks.
"""

from __future__ import annotations

import mmap

from gateway.errors import WorkerStopping

# What is asked to learn how the service is, and costs nothing.
STILL_ANSWERED = ("/healthz", "/readyz", "/metrics")

_announced = mmap.mmap(-1, 1)


def announce_stop() -> None:
    """Tell this process, and those it has forked or will fork, that the whole service is stopping."""
    _announced[0] = 1


def service_stops() -> bool:
    """Whether the whole service is stopping; a look at one byte."""
    return _announced[0] != 0


def refuse_when_stopping(path: str) -> None:
    """Refuse new work while the whole service is stopping.

    :raises WorkerStopping: for a request at `path` that would be work
    """
    if service_stops() and path not in STILL_ANSWERED:
        raise WorkerStopping
