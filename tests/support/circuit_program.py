"""`python -m tests.support.circuit_program URL SETTINGS`: one worker's circuits, driven by lines of JSON.

SETTINGS are those of `CircuitRules` and `CircuitBoard` and the names of the `models`. Each line on standard
input names what to `do` with which `model`; each gets one line in answer.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import logging  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

from gevent.fileobject import FileObject  # noqa: E402

from gateway.circuit import CircuitRules  # noqa: E402
from gateway.circuit_board import CircuitBoard  # noqa: E402
from gateway.circuits import Circuits, Permit  # noqa: E402
from gateway.ledger.connection import connect  # noqa: E402
from gateway.ledger.names import Names  # noqa: E402

REDIS_TIMEOUT = 1.0  # so long that a request which waited for it would stand out


def main(url: str, rules: dict[str, Any], board: dict[str, float], models: list[str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    client = connect(url, REDIS_TIMEOUT)
    circuits = Circuits(CircuitRules(**rules), CircuitBoard(client, Names("gateway"), **board))
    circuits.start(lambda: models)
    permits: dict[str, Permit] = {}
    for line in FileObject(sys.stdin.fileno(), "rb"):
        command = json.loads(line)
        answer = act(circuits, permits, **command)
        print(json.dumps(answer), flush=True)


def act(circuits: Circuits, permits: dict[str, Permit], do: str, model: str, times: int = 1) -> object:
    """What came of it."""
    if do == "ask":
        return ask(circuits, permits, model, times)
    if do == "fail":
        for _ in range(times):
            permit = circuits.permit(model)
            if permit is not None:
                permit.failed()
    elif do == "succeed":
        permits.pop(model).succeeded(0.1)
    elif do == "abandon":
        permits.pop(model).abandoned()
    return circuits.state(model)


def ask(circuits: Circuits, permits: dict[str, Permit], model: str, times: int) -> dict[str, float]:
    """How many of so many permits were granted, and the longest wait for one in seconds."""
    granted, longest = 0, 0.0
    for _ in range(times):
        begun = time.perf_counter()
        permit = circuits.permit(model)
        longest = max(longest, time.perf_counter() - begun)
        if permit is not None:
            granted += 1
            permits[model] = permit
    return {"granted": granted, "longest": longest}


if __name__ == "__main__":
    settings = json.loads(sys.argv[2])
    main(sys.argv[1], settings["rules"], settings["board"], settings["models"])
