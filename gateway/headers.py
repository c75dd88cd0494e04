"""Which headers pass between clients and providers: those listed here, and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.apis import Api
from gateway.catalog import Model
from gateway.incoming import RequestHeaders
from gateway.providers import AUTHORIZATION
from gateway.redaction import holds_key

USER_AGENT = "llm-gateway/0.1"
VISIBLE = re.compile(r"[ -~]{1,1024}")

# What a provider gets of the client's. Never a key, a cookie, or what selects an account.
FROM_CLIENT = ("Idempotency-Key", "OpenAI-Beta")
FROM_MESSAGES_CLIENT = ("Anthropic-Version", "Anthropic-Beta")
MOCK_FAULT = "X-Mock-Fault"
# OpenAI's name for a client's own id of a request: by ours a provider can be asked for the bill of a call.
CALL_ID = "X-Client-Request-Id"
ANTHROPIC_VERSION = "2023-06-01"

# What a client gets of the provider's. Never a cookie, an organisation or a trace of its network.
FROM_PROVIDER = frozenset(
    {"retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms", "openai-version"}
)
FROM_PROVIDER_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id")


@dataclass(frozen=True)
class UpstreamHeaders:
    """What is kept of a provider's headers: those to pass on, and its own id of the request for the log."""

    passed: dict[str, str]
    request_id: str | None = None


def client_headers(headers: RequestHeaders, api: Api, *, mock_faults: bool) -> dict[str, str]:
    """The client's headers that a provider gets when it is asked by `api`."""
    names = FROM_CLIENT + (FROM_MESSAGES_CLIENT if api is Api.MESSAGES else ())
    names += (MOCK_FAULT,) if mock_faults else ()
    return {name: value for name in names if (value := headers.get(name)) and VISIBLE.fullmatch(value)}


def headers_for(model: Model, path: str, *, stream: bool) -> dict[str, str]:
    """The gateway's own headers of a call of `model`, its key among them."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if stream else "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
    }
    messages = path.startswith(Api.MESSAGES.path)
    if messages:
        headers["Anthropic-Version"] = ANTHROPIC_VERSION
    if model.api_key:
        name = model.habits.messages_key_header if messages else AUTHORIZATION
        headers[name] = f"Bearer {model.api_key}" if name == AUTHORIZATION else model.api_key
    return headers


def upstream_headers(headers: Mapping[str, str], api_key: str | None) -> UpstreamHeaders:
    """What is kept of a provider's answer; nothing that holds the key by which it was asked."""
    passed: dict[str, str] = {}
    request_id = None
    for name, value in headers.items():
        lower = name.lower()
        is_passed = lower in FROM_PROVIDER or lower.startswith(FROM_PROVIDER_PREFIXES)
        if not is_passed and lower not in REQUEST_IDS:
            continue
        if not VISIBLE.fullmatch(value) or holds_key(value, api_key):
            continue
        if is_passed:
            passed[name] = value
        else:
            request_id = request_id or value
    return UpstreamHeaders(passed, request_id)
