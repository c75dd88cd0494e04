"""A whole stack under test, seen as its users see it: by HTTP and by its keys in Redis."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

import redis
import requests

MODELS = ("CheapModel", "ExpensiveModel")
# Settings of a gateway that makes one call for each request, whatever becomes of it: for tests of that call.
ONE_CALL = {"UPSTREAM_RETRIES": "0", "UPSTREAM_FALLBACKS": "off", "CIRCUIT_BREAKER": "off"}
SHORT = "What is the capital of France?"
LONG = (
    "Explain the concept of quantum entanglement and its implications for modern computing. "
    "Cover Bell's theorem and experimental verification methods in detail."
)


@dataclass(frozen=True)
class Bill:
    """Calls, tokens and money of one model, as the gateway or the model itself counts them."""

    calls: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost_usd: Decimal

    def __sub__(self, earlier: Bill) -> Bill:
        return Bill(*(getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)))

    def rounded(self) -> Bill:
        """The same with its cost to 1e-9 USD, below which a float counter is noise."""
        return Bill(
            self.calls,
            self.input_tokens,
            self.cached_input_tokens,
            self.output_tokens,
            self.cost_usd.quantize(Decimal("1e-9")),
        )


@dataclass(frozen=True)
class Stack:
    """Where the services of a stack are found."""

    gateway_url: str
    model_urls: dict[str, str]
    redis_url: str
    redis_prefix: str

    def chat(self, content: Any = SHORT, **body: Any) -> requests.Response:
        return self.post({"messages": [{"role": "user", "content": content}], **body})

    def post(self, body: Any, **options: Any) -> requests.Response:
        return requests.post(f"{self.gateway_url}/v1/chat/completions", json=body, timeout=30, **options)

    def metrics(self) -> Any:
        return requests.get(f"{self.gateway_url}/metrics", timeout=10).json()

    def counters(self) -> dict[str, str]:
        """Every counter in Redis by its name without the prefix."""
        with redis.Redis.from_url(self.redis_url, decode_responses=True) as client:
            names = sorted(client.scan_iter(f"{self.redis_prefix}:*"))
            values = client.mget(names) if names else []
        return {
            name.removeprefix(f"{self.redis_prefix}:"): value or ""
            for name, value in zip(names, values, strict=True)
        }

    def counted(self, model: str) -> Bill:
        """What the gateway has counted for a model in Redis."""
        counters = self.counters()

        def counter(name: str) -> str:
            return counters.get(f"model:{model}:{name}", "0")

        return Bill(
            int(counter("requests")),
            int(counter("input_tokens")),
            int(counter("cached_input_tokens")),
            int(counter("output_tokens")),
            Decimal(counter("cost_usd")),
        )

    def billed(self, model: str) -> Bill:
        """What the model itself would bill."""
        ledger = requests.get(f"{self.model_urls[model]}/ledger", timeout=10).json()
        return Bill(
            ledger["calls"],
            ledger["input_tokens"],
            ledger["cached_input_tokens"],
            ledger["output_tokens"],
            Decimal(str(ledger["cost_usd"])),
        )

    def forget(self) -> None:
        """Delete the counters."""
        with redis.Redis.from_url(self.redis_url) as client:
            for name in client.scan_iter(f"{self.redis_prefix}:*"):
                client.delete(name)
