"""The gunicorn master: gunicorn's own, which says when it stops the whole service.

`python -m gateway.master` takes what the command `gunicorn` takes; `python -m gateway` becomes it.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from gunicorn.app.base import BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter

from gateway.stopping import announce_stop


class Master(Arbiter):
    """A master that announces its stop as soon as it is told to, also while it waits for replaced workers."""

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


class Service(WSGIApplication):
    """gunicorn's application with that master."""

    def run(self) -> None:
        Master(self).run()


if __name__ == "__main__":
    Service("%(prog)s [OPTIONS] [APP_MODULE]").run()
