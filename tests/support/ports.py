"""TCP ports of this machine."""

from __future__ import annotations

import random
import socket

# Below the ports that systems give to outgoing connections: nobody else takes one while its server is down,
# and a client that tries again and again cannot connect to itself.
LASTING_PORTS = range(12_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def first_free_port(start: int) -> int:
    return next(port for port in range(start, 65536) if is_free(port))


def any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lasting_port() -> int:
    """A free port for a server that is stopped and started again."""
    return next(port for port in iter(lambda: random.choice(LASTING_PORTS), None) if is_free(port))
