"""Pooled connections of a worker, under gevent as in a worker."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from gateway import pool
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


def test_the_connection_that_came_back_last_serves_first_and_no_more_are_kept_than_may_be() -> None:
    shelf = pool._Pool("provider", maxsize=2)
    with ExitStack() as opened:
        first, second, _ = connections = [pool._Connection("provider") for _ in range(3)]
        for connection in connections:
            connection.sock, _other = map(opened.enter_context, socket.socketpair())
            shelf._put_conn(connection)
        assert [connection.sock is None for connection in connections] == [False, False, True]
        assert shelf._get_conn() is second
        assert shelf._get_conn() is first
        assert shelf._get_conn() not in connections
        shelf._put_conn(first)
        shelf.close()
        assert first.sock is None
