"""Rate limits per key, in requests and tokens of a sliding minute: what `lua/reserve.lua` counts, in figures
for clients.

The sliding minute is this clock minute and as much of the last one's count as still lies within 60 seconds,
taken as evenly spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.keys.virtual_key import VirtualKey
from gateway.ledger.reservation import RateState

SECONDS = 60.0


@dataclass(frozen=True)
class Minute:
    """What was used within the last 60 s, and of that in this clock minute, of which `passed` seconds are
    over, before the call in question."""

    used: dict[str, float]
    current: dict[str, float]
    passed: float
    number: int

    @classmethod
    def read(cls, values: Sequence[str]) -> Minute:
        """From the end of the script's answer."""
        requests, tokens, passed, own_requests, own_tokens, number = (float(each or 0) for each in values)
        return cls(
            {"requests": requests, "tokens": tokens},
            {"requests": own_requests, "tokens": own_tokens},
            passed,
            int(number),
        )


def rate_states(key: VirtualKey, minute: Minute, requests: int, tokens: int) -> dict[str, RateState]:
    """The state of each of a key's limits after what is counted of a call."""
    states = {}
    for name, limit, taken in (("requests", key.rpm, requests), ("tokens", key.tpm, tokens)):
        if limit:
            # This minute's count leaves the window with the next one.
            reset = 2 * SECONDS - minute.passed
            states[name] = RateState(limit, max(0, int(limit - minute.used[name] - taken)), reset)
    return states


def rate_headers(states: Mapping[str, RateState]) -> dict[str, str]:
    """The states as OpenAI's headers tell them, `x-ratelimit-…`, times such as `1m30s`."""
    headers = {}
    for name, state in states.items():
        headers[f"x-ratelimit-limit-{name}"] = str(state.limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
        headers[f"x-ratelimit-reset-{name}"] = _duration(state.reset_seconds)
    return headers


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def seconds_until_room(minute: Minute, name: str, limit: int, wanted: int) -> float | None:
    """How long it takes until `wanted` more fit below a limit, if nothing else is used; None where they never
    will."""
    if wanted > limit:
        return None
    current = minute.current[name]
    left = SECONDS - minute.passed
    before = max(0.0, minute.used[name] - current) / (left / SECONDS) if left else 0.0
    room = limit - wanted
    if current <= room:
        return _until_decayed(before, room - current, minute.passed)
    return left + _until_decayed(current, room, 0.0)


def _until_decayed(count: float, room: float, passed: float) -> float:
    """Seconds until no more than `room` of the last minute's `count` lies within the window."""
    if count <= room:
        return 0.0
    return max(0.0, SECONDS * (1 - room / count) - passed)
