"""What a cascade gave, and what was counted for it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import requests

from tests.conftest import GatewayUnderTest

PRICES = {"Small": ("1", "2"), "Medium": ("2", "4"), "Third": ("3", "6"), "Dear": ("20", "100")}
PROMPT = [{"role": "user", "content": "What is six times seven?"}]
TOLERANCE_USD = Decimal("1e-9")


def ask(
    gateway: GatewayUnderTest,
    path: str = "chat/completions",
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> requests.Response:
    body = fields if {"input", "prompt"} & fields.keys() else {"messages": PROMPT, **fields}
    return requests.post(f"{gateway.gateway_url}/v1/{path}", json=body, headers=headers, timeout=30)


def attempts_of(answer: requests.Response) -> list[str]:
    """The models that were called, in their order."""
    return [member.split(";")[0] for member in answer.headers["X-Gateway-Attempts"].split(", ")]


def text_of(answer: requests.Response) -> str:
    """What the client reads of a chat completion, whole or streamed."""
    assert answer.status_code == 200, answer.text
    if not answer.headers["Content-Type"].startswith("text/event-stream"):
        text: str = answer.json()["choices"][0]["message"]["content"]
        return text
    lines = answer.text.splitlines()
    assert "data: [DONE]" in lines
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def counted_cost(gateway: GatewayUnderTest) -> Decimal:
    return Decimal(gateway.counters().get("cost_usd", "0"))


def requests_of(gateway: GatewayUnderTest) -> dict[str, int]:
    """The answers that each model is counted for, without those that have none."""
    counted = gateway.metrics()["modelUsageCount"]
    return {model: count for model, count in counted.items() if count}
