"""A mock model beside the gateway: its bill, its faults, what has reached it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

import requests

TIMEOUT_SECONDS = 15.0


@dataclass(frozen=True)
class Bill:
    """Calls, tokens and money of one model, as the gateway or the model itself counts them."""

    calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    def __sub__(self, earlier: Bill) -> Bill:
        return Bill(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))


class Mock:
    """One mock model; `name` is what the gateway calls it."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url

    def bill(self) -> Bill:
        """What it would bill since it started."""
        ledger = self._ask("GET", "/ledger").json(parse_float=Decimal)
        return Bill(
            **{f.name: ledger[f.name] for f in fields(Bill) if f.name != "cost_usd"},
            cost_usd=Decimal(ledger["cost_usd"]),
        )

    def fail(self, fault: str) -> None:
        """Serve every request by this fault from now on."""
        self._ask("PUT", "/fault", data=fault.encode())

    def work(self) -> None:
        """Serve every request as it should be again."""
        self._ask("DELETE", "/fault")

    def failed(self) -> int:
        """How many requests the standing fault has failed."""
        return int(self._ask("GET", "/fault").json().get("failed", 0))

    def seen_since_fault(self) -> int:
        """How many requests have come since the standing fault was set."""
        return int(self._ask("GET", "/fault").json().get("seen", 0))

    def seen(self, canary: str) -> list[dict[str, Any]]:
        """The latest requests to it: `headers`, and whether a head held the `canary`."""
        data: list[dict[str, Any]] = self._ask("GET", "/requests", params={"canary": canary}).json()["data"]
        return data

    def send(self, headers: dict[str, str]) -> None:
        """A request that it refuses, and bills nothing for."""
        requests.post(f"{self._url}/v1/chat/completions", data=b"", headers=headers, timeout=TIMEOUT_SECONDS)

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        answer = requests.request(method, self._url + path, timeout=TIMEOUT_SECONDS, **options)
        answer.raise_for_status()
        return answer
