"""`python -m tests.benchmarks.circuits`: what a permit costs while a circuit is closed, open and tried.

Without Redis, which is only asked by the one request that tries a model again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from gateway.circuit import CircuitRules
from gateway.circuits import Circuits
from gateway.retry_budget import RetryBudget

TIMES = 200_000
MODEL = "CheapModel"


def main() -> None:
    logging.disable()
    closed, tried = Circuits(CircuitRules()), Circuits(CircuitRules(open_seconds=0.01))
    late = Circuits(CircuitRules(open_seconds=600))
    for circuits in (late, tried):
        for _ in range(10):
            permit = circuits.permit(MODEL)
            assert permit is not None
            permit.failed()
    time.sleep(0.02)
    assert tried.permit(MODEL) is not None
    report("closed, with its end", lambda: closed.permit(MODEL).succeeded(0.1))  # type: ignore[union-attr]
    report("open", lambda: late.permit(MODEL))
    report("half-open, another one tries", lambda: tried.permit(MODEL))
    report("seconds until the next try", lambda: late.retry_after(MODEL))
    budget = RetryBudget(20)
    report("a deposit into the retry budget", budget.deposit)


def report(what: str, act: Callable[[], object]) -> None:
    waits = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        act()
        waits.append(time.perf_counter() - begun)
    waits.sort()
    p50, p999 = waits[TIMES // 2] * 1e6, waits[TIMES * 999 // 1000] * 1e6
    print(f"{what + ':':<34}p50 {p50:.2f} µs, p99.9 {p999:.2f} µs", flush=True)


if __name__ == "__main__":
    main()
