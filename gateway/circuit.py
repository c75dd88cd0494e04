"""The circuit of one model: closed while the model answers, open while it does not.

Pure state: it asks no clock and tells nobody. `Circuits` drives it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

WINDOW_SECONDS = 10
# Below so many, a rate says little.
LEAST_REQUESTS = 20
LONGEST_OPEN_SECONDS = 30.0
# Others may have come to more than this worker's own settings allow.
MOST_DOUBLINGS = 16

State: TypeAlias = Literal["closed", "open", "half_open"]
Cause: TypeAlias = Literal["consecutive_failures", "error_rate", "probe_failed"]


@dataclass(frozen=True)
class CircuitRules:
    """When a circuit opens: after `failures` in a row, or when more than `error_percent` of at least twenty
    requests have failed within ten seconds; one that took longer than `slow_seconds` to its first byte has
    failed too. It stays open for `open_seconds` at first. With `is_on` false it never opens."""

    is_on: bool = True
    failures: int = 10
    error_percent: int = 50
    slow_seconds: float = 60.0
    open_seconds: float = 2.0

    def open_for(self, failed_probes: int) -> float:
        """Seconds until the next probe, after so many that failed one after the other."""
        longest = max(LONGEST_OPEN_SECONDS, self.open_seconds)
        return min(self.open_seconds * 2.0 ** min(failed_probes, MOST_DOUBLINGS), longest)


@dataclass(frozen=True)
class Opening:
    """One time that a circuit is open: until when on this worker's clock, and after how many failed probes in
    a row. Its `id` is the same in all workers."""

    id: str
    until: float
    failed_probes: int = 0


class Outcomes:
    """How the requests of the last ten seconds went, whole seconds at a time."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque()  # each: which one, requests, failures
        self.total = 0
        self.failed = 0

    def add(self, now: float, *, failed: bool) -> None:
        second = int(now)
        while self._seconds and self._seconds[0][0] <= second - WINDOW_SECONDS:
            _, total, failures = self._seconds.popleft()
            self.total -= total
            self.failed -= failures
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])
        self._seconds[-1][1] += 1
        self._seconds[-1][2] += failed
        self.total += 1
        self.failed += failed


class Circuit:
    """`generation` is another one after each change, so that results of what began before are known as such.
    `probe` is the request that tries the model in half-open, and nobody asks for another one before
    `next_probe` unless that one ends."""

    def __init__(self, model: str, rules: CircuitRules) -> None:
        self.model = model
        self.generation = 0
        self.opening: Opening | None = None
        self.probe: object | None = None
        self.next_probe = 0.0
        self._rules = rules
        self._outcomes = Outcomes()
        self._failures_in_a_row = 0

    def state(self, now: float) -> State:
        if self.opening is None:
            return "closed"
        return "open" if now < self.opening.until else "half_open"

    def retry_after(self, now: float) -> float:
        """Seconds until the model may be tried; 0 where it may be now, or is being tried."""
        return 0.0 if self.opening is None else max(0.0, self.opening.until - now)

    def count(self, now: float, *, failed: bool) -> Cause | None:
        """Take note of a request's outcome while closed; why the circuit has to open, or None."""
        self._outcomes.add(now, failed=failed)
        if not failed:
            self._failures_in_a_row = 0
            return None
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self._rules.failures:
            return "consecutive_failures"
        outcomes = self._outcomes
        enough = outcomes.total >= LEAST_REQUESTS
        if enough and outcomes.failed * 100 > self._rules.error_percent * outcomes.total:
            return "error_rate"
        return None

    def open(self, opening: Opening) -> None:
        """Open, or open again, and forget what was counted."""
        self._change(opening)

    def close(self) -> None:
        """Close, and count from zero."""
        self._change(None)

    def _change(self, opening: Opening | None) -> None:
        self.generation += 1
        self.opening = opening
        self.probe = None
        self.next_probe = 0.0
        self._outcomes = Outcomes()
        self._failures_in_a_row = 0
