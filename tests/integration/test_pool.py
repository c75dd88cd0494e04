"""Pooled connections of a worker, under gevent as in a worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

# How many of 250 pooled connections count as connected when as many requests ask at once. With urllib3's own
# connections it is about half of those that their provider has closed.
PROBE = """
from gevent import monkey; monkey.patch_all()
import socket, sys, time, gevent
from gateway import pool

kept, theirs = [], []
for _ in range(250):
    ours, other = socket.socketpair()
    connection = pool._Connection("provider")
    connection.sock, connection._idle_since = ours, time.monotonic() - float(sys.argv[2])
    kept.append(connection); theirs.append(other)
for other in theirs:
    {"quiet": lambda: None, "closed": other.close, "babbling": lambda: other.send(b"x")}[sys.argv[1]]()
connected = []
gevent.joinall([gevent.spawn(lambda c=c: connected.append(c.is_connected)) for c in kept])
print(sum(connected))
"""


@pytest.mark.parametrize(
    ("state", "idle_seconds", "connected"),
    [("quiet", 0, 250), ("closed", 0, 0), ("babbling", 0, 0), ("quiet", 31, 0)],
)
def test_only_connections_that_can_serve_are_used_again(
    state: str, idle_seconds: int, connected: int
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, state, str(idle_seconds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert int(ran.stdout) == connected
