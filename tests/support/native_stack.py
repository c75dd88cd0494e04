"""Gateways before models that serve Responses and Messages themselves, and questions in both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.conftest import GatewayUnderTest
from tests.support.mix_bodies import Asked, messages_body, responses_body
from tests.support.stack import LONG, MODELS, SHORT

FAULT = "X-Mock-Fault"
APIS = ("messages", "responses")
PRICES = {
    "CheapModel": "input = 0.10\ncached_input = 0.025\noutput = 0.40",
    "ExpensiveModel": "input = 1.00\ncached_input = 0.10\noutput = 5.00",
}
BODIES = {"messages": messages_body, "responses": responses_body}
LONG_SYSTEM = "You are an encyclopedia. " * 200
KINDS = {
    "short": Asked("text", None, (SHORT,)),
    "long": Asked("text", None, (LONG,)),
    "cached": Asked("text", LONG_SYSTEM, (SHORT,)),
    "conversation": Asked("conversation", "Answer briefly.", (SHORT, "Paris.", "And of Spain?")),
    "one tool": Asked("tool", None, (SHORT,)),
    "all tools": Asked("tools", None, (SHORT,)),
    "schema": Asked("schema", None, (SHORT,)),
    "image": Asked("image", None, (SHORT,)),
    "limit": Asked("limit", None, (LONG,)),
}


def models_file(folder: Path, urls: dict[str, str]) -> str:
    """A catalog in which both models serve all APIs themselves."""
    apis = '["chat_completions", "responses", "messages"]'
    tables = [
        f'[{model}]\nbase_url = "{urls[model]}/v1"\napis = {apis}\n'
        f"[{model}.usd_per_million_tokens]\n{PRICES[model]}\n"
        for model in MODELS
    ]
    path = folder / "native.toml"
    path.write_text("\n".join(tables))
    return str(path)


@dataclass(frozen=True)
class Native(GatewayUnderTest):
    """A gateway before models that serve all APIs."""

    def ask(self, api: str, body: dict[str, Any], fault: str | None = None) -> requests.Response:
        headers = {} if fault is None else {FAULT: fault}
        return requests.post(f"{self.gateway_url}/v1/{api}", json=body, headers=headers, timeout=30)


def body_of(api: str, kind: str, *, stream: bool) -> dict[str, Any]:
    return BODIES[api](KINDS[kind]) | ({"stream": True} if stream else {})
