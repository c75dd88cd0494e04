"""The command line of the self-test.

0   every promise that was tried holds
1   one does not
2   the self-test could not run, or must not: there is no stack, it serves real providers,
    or it is not set up for any of the promises that were to be tried
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from selftest.progress import Progress
from selftest.promises import PROMISES
from selftest.report import as_json, print_table
from selftest.run import try_promises
from selftest.settings import PATIENCE_SECONDS, Settings
from selftest.stack import Stack
from selftest.verdicts import CannotRun, Outcome, Promise, Verdict

HOLDS, BROKEN, COULD_NOT_RUN = 0, 1, 2
INTERRUPTED = 130


def main(arguments: Sequence[str], settings: Settings | None = None) -> int:
    """Run it, and give the exit status. Without `settings` the environment names the stack."""
    options = _parser().parse_args(arguments)
    if options.list:
        for promise in PROMISES:
            print(f"{promise.name:<16} {promise.text}")
        return HOLDS
    begun = time.monotonic()
    try:
        promises = _chosen(options.only)
        settings = replace(settings or Settings.from_env(), patience=options.patience)
        stack = Stack(settings)
        with _stoppable() as is_stopped, Progress(len(promises)) as progress:

            def notify(promise: Promise, verdict: Verdict | None) -> None:
                if is_stopped():
                    raise KeyboardInterrupt
                progress.tell(promise, verdict)

            verdicts = try_promises(stack, promises, notify)
    except CannotRun as reason:
        print(f"selftest: {reason}", file=sys.stderr)
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        print("selftest: stopped; the stack is as it was", file=sys.stderr)
        return INTERRUPTED
    seconds = time.monotonic() - begun
    if options.json:
        print(as_json(verdicts, seconds))
    else:
        print_table(verdicts, seconds)
    outcomes = {verdict.outcome for verdict in verdicts}
    if Outcome.BROKEN in outcomes:
        return BROKEN
    return HOLDS if Outcome.HOLDS in outcomes else COULD_NOT_RUN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selftest",
        description="Breaks the running stack in every way that it promises to bear, and tells what holds.",
        epilog="Exit status: 0 all hold, 1 one does not, 2 could not run.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--list", action="store_true", help="print the names of the promises, try none")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="try these alone: A,B or given several times"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_SECONDS,
        metavar="SECONDS",
        help="how long to wait for what has to come right (%(default)g)",
    )
    return parser


def _chosen(only: Sequence[str] | None) -> list[Promise]:
    """Those of the names, in their own order; all where none is named.

    :raises CannotRun: for a name that none has
    """
    names = [name.strip() for text in only or () for name in text.split(",") if name.strip()]
    known = {promise.name for promise in PROMISES}
    if unknown := [name for name in names if name not in known]:
        raise CannotRun(f"no promise is called {', '.join(unknown)}; --list has them all")
    return [promise for promise in PROMISES if not names or promise.name in names]


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """End the block by `KeyboardInterrupt` on Ctrl-C and on SIGTERM, so that the stack is left as it was.
    Gives whether one has come: raised in a destructor, an exception ends nothing."""
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: stopped
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
