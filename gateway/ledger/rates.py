"""Limits per key, in requests and tokens of any 60 seconds: what `lua/reserve.lua` counts, in figures for
clients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.keys.virtual_key import VirtualKey
from gateway.ledger.reservation import RateState


@dataclass(slots=True)
class Usage:
    """What was used within the last minute before a call: `used`, and the seconds until all of that is
    forgotten, of `requests` and of `tokens`; the seconds until there is room where there is none, None where
    there never will be; and the `second` in which the call was counted."""

    used: dict[str, int]
    reset: dict[str, float]
    seconds_until_room: float | None
    second: int

    @classmethod
    def read(cls, values: Sequence[str]) -> Usage:
        """From the end of the script's answer; nothing was used where that has no figures."""
        requests, tokens, reset_requests, reset_tokens, wait, second = values
        return cls(
            {"requests": int(float(requests or 0)), "tokens": int(float(tokens or 0))},
            {"requests": float(reset_requests or 0), "tokens": float(reset_tokens or 0)},
            float(wait) if wait else None,
            int(second or 0),
        )


def rate_states(key: VirtualKey, usage: Usage, requests: int, tokens: int) -> dict[str, RateState]:
    """The state of each of a key's limits after what is counted of a call."""
    states = {}
    for name, limit, taken in (("requests", key.rpm, requests), ("tokens", key.tpm, tokens)):
        if limit:
            reset = 60.0 if taken else usage.reset[name]
            states[name] = RateState(limit, max(0, limit - usage.used[name] - taken), reset)
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
