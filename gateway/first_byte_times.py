"""How long each model usually takes until its answer begins."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

KEPT = 200  # of each model's calls, the latest
NEEDED = 20  # below so many nobody knows what is unusual
RANKED_EVERY = 20
MOST_MODELS = 1000


@dataclass
class _Times:
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    p95: float | None = None
    new: int = 0


class FirstByteTimes:
    """The seconds until the first byte of each model's latest answers, streamed and whole ones apart."""

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, bool], _Times] = OrderedDict()

    def note(self, model: str, seconds: float, *, stream: bool) -> None:
        """Take note of an answer."""
        times = self._times.setdefault((model, stream), _Times())
        times.latest.append(seconds)
        times.new += 1
        if len(times.latest) >= NEEDED and (times.p95 is None or times.new >= RANKED_EVERY):
            ranked = sorted(times.latest)
            times.p95, times.new = ranked[(95 * len(ranked) - 1) // 100], 0
        if len(self._times) > MOST_MODELS:
            self._times.popitem(last=False)

    def p95(self, model: str, *, stream: bool) -> float | None:
        """Seconds that 95 % of these answers did not exceed; None while too few are known."""
        times = self._times.get((model, stream))
        return None if times is None else times.p95
