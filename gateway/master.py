"""The gunicorn master: gunicorn's own, which says when it stops the whole service, and leaves no gap when it
replaces workers.

`python -m gateway.master` takes what the command `gunicorn` takes; `python -m gateway` becomes it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

from gunicorn.app.base import BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from gateway.stopping import announce_stop, service_stops

SECONDS_TO_BOOT = 10.0


class Master(Arbiter):
    """A master that announces its stop as soon as it is told to, also while it waits for replaced workers.
    It replaces no worker before its successor serves."""

    def __init__(self, app: BaseApplication) -> None:
        super().__init__(app)
        # How SIGUSR2 starts another one. By its file's name it would have this folder for its import path.
        self.START_CTX["args"] = [sys.executable, "-m", "gateway.master", *sys.argv[1:]]

    def signal(self, sig: int, frame: FrameType | None) -> None:
        # A worker that has just been forked has this handler too; and where there is another master, before
        # or after an upgrade, its workers serve on.
        is_alone = os.getpid() == self.pid and self.reexec_pid == self.master_pid == 0
        if sig == signal.SIGTERM and is_alone:
            announce_stop()
        super().signal(sig, frame)

    def manage_workers(self) -> None:
        self._await_successors()
        # Those that have gone because of the announcement are not to be replaced.
        if not service_stops():
            super().manage_workers()

    def _await_successors(self) -> None:
        """Where some workers are about to be told to go, wait until those that stay serve."""
        deadline = time.monotonic() + SECONDS_TO_BOOT
        while len(self.WORKERS) > self.num_workers and time.monotonic() < deadline and not service_stops():
            newest = sorted(self.WORKERS.values(), key=lambda worker: worker.age)[-self.num_workers :]
            if all(_has_begun(worker) for worker in newest):
                return
            time.sleep(0.05)
            self.reap_workers()


def _has_begun(worker: Worker) -> bool:
    # Its file has the time of day until it first sets the time since boot, which it does when it serves.
    return bool(worker.tmp.last_update() <= time.monotonic())


class Service(WSGIApplication):
    """gunicorn's application with that master."""

    def run(self) -> None:
        Master(self).run()


if __name__ == "__main__":
    Service("%(prog)s [OPTIONS] [APP_MODULE]").run()
