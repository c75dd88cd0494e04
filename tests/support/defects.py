"""A gateway in which defects can be switched on, one at a time: what the self-test has to find.

    DEFECT_FILE=PATH gunicorn -c gateway/gunicorn.conf.py 'tests.support.defects:create_app()'

The defect whose name that file holds is on, in all workers. gunicorn's worker calls `create_app` after gevent
has patched the standard library, as it does with the real one.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask

from gateway import app, client, model_call, others
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

VARIABLE = "DEFECT_FILE"
Function = Callable[..., Any]


@dataclass(frozen=True)
class Defect:
    """`behaviour` stands in for the function or property `attribute` of `owner`; it is given the original and
    the arguments. `breaks` is the promise that must not hold then, and `seen` a part of why."""

    breaks: str
    seen: str
    owner: Any
    attribute: str
    behaviour: Function


def nothing(*_: Any) -> None:
    """Do not do it."""


def add_twice(add: Function, *arguments: Any) -> None:
    add(*arguments)
    add(*arguments)


def all_pieces_at_once(next_piece: Function, relay: Relay) -> bytes:
    pieces = []
    try:
        while True:
            pieces.append(next_piece(relay))
    except StopIteration:
        if not pieces:
            raise
    return b"".join(pieces)


def client_headers_and_key(client_headers: Function, headers: Any, *arguments: Any, **options: Any) -> Any:
    key = {name: value for name in ("Authorization",) if (value := headers.get(name))}
    return client_headers(headers, *arguments, **options) | key


def write_without_counting(write_pending: Function, committer: Committer) -> None:
    tallies = committer._pending.tallies
    tallies[:] = [Tally() for _ in tallies]
    write_pending(committer)


DEFECTS = {
    "leaked-hold": Defect("holds", " holds, ", Reservations, "give_back", nothing),
    "doubled-settlement": Defect("totals", " counted, ", Committer, "add", add_twice),
    "buffered-stream": Defect("streaming", "first piece", Relay, "__next__", all_pieces_at_once),
    "truncated-stream-passed-as-whole": Defect(
        "broken-answers", "looks whole", PassThrough, "error", lambda *_: b"data: [DONE]\n\n"
    ),
    "forwarded-key": Defect("privacy", "reached", model_call, "client_headers", client_headers_and_key),
    "no-fallback": Defect("fallback", "503", others, "fallbacks", lambda *_: []),
    "no-deadline": Defect("deadline", "no end", Deadline, "in_seconds", lambda ends, *_: ends(1000.0)),
    "lost-while-redis-is-away": Defect(
        "redis-paused", " counted, ", Committer, "_write_pending", write_without_counting
    ),
    "unchecked-budget": Defect("budget", "spent", reservations, "windows_of", lambda *_: ()),
    "foreign-error-shape": Defect(
        "bad-input", "shape", GatewayError, "body", lambda _, error: {"detail": error.message}
    ),
    "unlisted-attempts": Defect(
        "attempts", "X-Gateway-Attempts", Attempt, "told", lambda _, attempt: attempt.route.model.name
    ),
    "unnoticed-leaving": Defect("leaving", "still works", client, "has_left", lambda *_: False),
    # The last, since what it leaves is found when it is off.
    "forgotten-worker": Defect("worker-killed", " billed", Recovery, "look", nothing),
}


def create_app() -> Flask:
    """The gateway with its switches for defects."""
    switch = Path(os.environ[VARIABLE])
    for name, defect in DEFECTS.items():
        _plant(name, defect, switch)
    return app.create_app()


def _plant(name: str, defect: Defect, switch: Path) -> None:
    attribute = getattr(defect.owner, defect.attribute)
    original: Function = getattr(attribute, "fget", attribute)  # of a property

    @functools.wraps(original)
    def either(*arguments: Any, **options: Any) -> Any:
        if switch.read_text() == name:
            return defect.behaviour(original, *arguments, **options)
        return original(*arguments, **options)

    setattr(defect.owner, defect.attribute, property(either) if isinstance(attribute, property) else either)


@contextmanager
def defective_gateway(folder: Path, switch: Path, **settings: str) -> Iterator[Service]:
    """A gateway on a free port that has the defect whose name `switch` holds; `settings` are its environment
    variables."""
    port = lasting_port()
    journal = folder / f"gateway-{port}-journal"
    journal.mkdir()
    switch.write_text("")
    with running(
        [
            *(sys.executable, "-m", "gunicorn", "-c", "gateway/gunicorn.conf.py"),
            "tests.support.defects:create_app()",
        ],
        f"http://127.0.0.1:{port}",
        folder / f"gateway-{port}.log",
        "/healthz",
        {"GATEWAY_PORT": str(port), "JOURNAL_DIR": str(journal), VARIABLE: str(switch), **settings},
    ) as service:
        yield service
