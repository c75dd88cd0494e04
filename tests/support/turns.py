"""Taking turns where several processes share the tests: some tests must have the machine to themselves."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Wait until a test may run: beside those of other processes, or beside none. All have the same
    `folder`."""
    with (folder / "queue.lock").open("w") as queue, (folder / "room.lock").open("w") as room:
        # Who waits for an empty room keeps others from entering it meanwhile.
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield
