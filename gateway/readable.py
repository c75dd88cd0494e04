"""Whether something waits to be read from a socket, be it its end, as the system says.

Patched by gevent, poll answers from the event loop's last batch and misses closed connections when many ask
at once. Here the real one is asked.
"""

from __future__ import annotations

import select
from typing import Any

from gevent.monkey import get_original

_poll = get_original("select", "poll")


class Readable:
    """Of one connected socket, as long as it is open."""

    __slots__ = ("_poll", "sock")

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self._poll = _poll()
        self._poll.register(sock, select.POLLIN)

    def now(self) -> bool:
        """Asks without waiting."""
        return bool(self._poll.poll(0))
