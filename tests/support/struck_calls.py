"""A process with gevent's sockets, as a worker is, whose calls of providers are struck while they wait.

`python -m tests.support.struck_calls TRANSPORT {STAGE: URL, ...}` writes what became of each as JSON, and how
many sockets were left of all.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from io import BytesIO  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402

from gateway.apis import Api  # noqa: E402
from gateway.catalog import Model  # noqa: E402
from gateway.prices import FREE  # noqa: E402
from gateway.timeouts import Deadline, Timeouts  # noqa: E402
from gateway.upstream import AnswerStream, Upstream  # noqa: E402

LARGE = 64 * 2**20  # more than any socket buffers
PATIENT = Timeouts(connect=30, first_byte=30, idle=30, total=30)
IMPATIENT = Timeouts(connect=0.2, first_byte=0.2, idle=0.2, total=30)
ALL_TOO_LONG = Timeouts(connect=30, first_byte=30, idle=30, total=0.2)


class Struck(BaseException):
    """What a client that leaves, or a hedge that is lost, throws into a call."""


def open_sockets() -> int:
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except OSError:  # the listing's own
            continue
    return found


def called(upstream: Upstream, stage: str, url: str, timeouts: Timeouts, seconds: float | None) -> Any:
    """What becomes of a call, struck after so many seconds, or never."""
    body = BytesIO(b" " * LARGE if stage == "sending" else b"{}")
    received, events = bytearray(), list[bytes]()

    def call() -> str:
        try:
            answer = upstream.ask(
                Model("CheapModel", url, "small", None, FREE, timeouts=timeouts),
                Api.CHAT_COMPLETIONS,
                body,
                stream=stage == "streaming",
                headers={},
                deadline=Deadline.in_seconds(30),
                received=received,
            )
            if isinstance(answer, AnswerStream):
                try:
                    events.extend(event.raw for batch in answer for event in batch)
                finally:
                    answer.close()
        except BaseException as error:
            return type(error).__name__
        return "answered"

    began = time.monotonic()
    running = gevent.spawn(call)
    if seconds is not None:
        gevent.sleep(seconds)
        running.kill(Struck)
    outcome = running.get(timeout=10)
    return {
        "outcome": outcome,
        "seconds": time.monotonic() - began,
        "was_sent": body.tell() > 0,
        "received": received.decode(),
        "events": b"".join(events).decode(),
    }


def main() -> None:
    upstream, urls = Upstream(sys.argv[1]), json.loads(sys.argv[2])
    gc.disable()  # what is left is not to be found by chance
    told: dict[str, Any] = {}
    for kind, timeouts, seconds in [
        ("struck", PATIENT, 0.3),
        ("slow", IMPATIENT, None),
        ("too long", ALL_TOO_LONG, None),
    ]:
        before = open_sockets()
        calls = {
            stage: gevent.spawn(called, upstream, stage, url, timeouts, seconds)
            for stage, url in urls.items()
        }
        told[kind] = {stage: call.get(timeout=20) for stage, call in calls.items()}
        told[kind]["sockets left"] = open_sockets() - before
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
