"""A gateway with one defect, planted by a patch: what the self-test has to find.

    DEFECT=NAME gunicorn -c gateway/gunicorn.conf.py 'tests.support.defects:create_app()'

gunicorn's worker calls this after gevent has patched the standard library, as it does with the real one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from gateway import app, client, forwarding, headers
from gateway.attempt import Attempt
from gateway.errors import GatewayError
from gateway.ledger import reservations
from gateway.ledger.committer import Committer
from gateway.ledger.recovery import Recovery
from gateway.ledger.reservations import Reservations
from gateway.ledger.tally import Tally
from gateway.passage import PassThrough
from gateway.relay import Relay
from gateway.timeouts import Deadline
from tests.support.ports import lasting_port
from tests.support.processes import Service, running

VARIABLE = "DEFECT"


@dataclass(frozen=True)
class Defect:
    """A patch, and the promise that it breaks."""

    breaks: str
    plant: Callable[[], None]


def leak_holds() -> None:
    def keep(*_: Any) -> None:
        """Give nothing back."""

    _patch(Reservations, "give_back", keep)


def settle_twice() -> None:
    add = Committer.add

    def add_twice(self: Committer, *arguments: Any) -> None:
        add(self, *arguments)
        add(self, *arguments)

    _patch(Committer, "add", add_twice)


def buffer_streams() -> None:
    next_piece = Relay.__next__

    def everything(self: Relay) -> bytes:
        pieces = []
        try:
            while True:
                pieces.append(next_piece(self))
        except StopIteration:
            if not pieces:
                raise
        return b"".join(pieces)

    _patch(Relay, "__next__", everything)


def pass_cut_streams_as_whole() -> None:
    _patch(PassThrough, "error", lambda self, error: b"data: [DONE]\n\n")


def forward_keys() -> None:
    _patch(headers, "FROM_CLIENT", (*headers.FROM_CLIENT, "Authorization", "X-Api-Key"))


def never_fall_back() -> None:
    _patch(forwarding, "fallbacks", lambda *_: [])


def keep_no_deadline() -> None:
    _patch(Deadline, "remaining", property(lambda self: 1000.0))


def lose_what_redis_misses() -> None:
    write_pending = Committer._write_pending

    def forget_pending(self: Committer) -> None:
        for entry in self._pending:
            entry.tally = Tally()
        write_pending(self)

    _patch(Committer, "_write_pending", forget_pending)


def skip_budgets() -> None:
    _patch(reservations, "windows_of", lambda *_: ())


def invent_an_error_shape() -> None:
    _patch(GatewayError, "body", lambda self: {"detail": self.message})


def forget_dead_workers() -> None:
    _patch(Recovery, "start", lambda self: None)


def list_no_attempts() -> None:
    _patch(Attempt, "told", property(lambda self: self.route.model.name))


def ignore_leaving_clients() -> None:
    _patch(client, "has_left", lambda connection: False)


DEFECTS = {
    "leaked-hold": Defect("holds", leak_holds),
    "doubled-settlement": Defect("totals", settle_twice),
    "buffered-stream": Defect("streaming", buffer_streams),
    "truncated-stream-passed-as-whole": Defect("broken-answers", pass_cut_streams_as_whole),
    "forwarded-key": Defect("privacy", forward_keys),
    "no-fallback": Defect("fallback", never_fall_back),
    "no-deadline": Defect("deadline", keep_no_deadline),
    "lost-while-redis-is-away": Defect("redis-paused", lose_what_redis_misses),
    "unchecked-budget": Defect("budget", skip_budgets),
    "foreign-error-shape": Defect("bad-input", invent_an_error_shape),
    "forgotten-worker": Defect("worker-killed", forget_dead_workers),
    "unlisted-attempts": Defect("attempts", list_no_attempts),
    "unnoticed-leaving": Defect("leaving", ignore_leaving_clients),
}


def create_app() -> Flask:
    """The gateway with the defect that the environment names."""
    DEFECTS[os.environ[VARIABLE]].plant()
    return app.create_app()


@contextmanager
def defective_gateway(log_dir: Path, defect: str, **settings: str) -> Iterator[Service]:
    """A gateway with this defect on a free port; `settings` are its environment variables."""
    port = lasting_port()
    journal = log_dir / f"gateway-{port}-journal"
    journal.mkdir()
    with running(
        [
            *(sys.executable, "-m", "gunicorn", "-c", "gateway/gunicorn.conf.py"),
            "tests.support.defects:create_app()",
        ],
        f"http://127.0.0.1:{port}",
        log_dir / f"gateway-{port}.log",
        "/healthz",
        {"GATEWAY_PORT": str(port), "JOURNAL_DIR": str(journal), VARIABLE: defect, **settings},
    ) as service:
        yield service


def _patch(owner: Any, name: str, value: Any) -> None:
    getattr(owner, name)  # a patch of what is no longer there would plant nothing
    setattr(owner, name, value)
