"""Which headers pass between clients and providers: those listed here, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from gateway.apis import Api
from gateway.incoming import RequestHeaders
from gateway.providers import AUTHORIZATION, habits_of
from gateway.redaction import holds_key

USER_AGENT = "llm-gateway/0.1"
VISIBLE = re.compile(r"[ -~]{1,1024}")
# What HTTP allows as a header's name; providers are read more leniently.
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

STRUCTURED_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*")  # of RFC 9651

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


@dataclass(slots=True)
class UpstreamHeaders:
    """What is kept of a provider's headers: those to pass on, and its own id of the request for the log."""

    passed: dict[str, str]
    request_id: str | None = None


def item_named(name: str) -> str:
    """A model's name as a member of a list of structured fields: a token where it is one, else a string."""
    return name if STRUCTURED_TOKEN.fullmatch(name) else f'"{name}"'


def client_headers(headers: RequestHeaders, api: Api, *, mock_faults: bool) -> dict[str, str]:
    """The client's headers that a provider gets when it is asked by `api`."""
    names = FROM_CLIENT + (FROM_MESSAGES_CLIENT if api is Api.MESSAGES else ())
    names += (MOCK_FAULT,) if mock_faults else ()
    return {name: value for name in names if (value := headers.get(name)) and VISIBLE.fullmatch(value)}


def headers_for(base_url: str, api_key: str | None, path: str, *, stream: bool) -> dict[str, str]:
    """The gateway's own headers of a call of the provider at `base_url`, its key among them."""
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if stream else "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
    }
    messages = path.startswith(Api.MESSAGES.path)
    if messages:
        headers["Anthropic-Version"] = ANTHROPIC_VERSION
    if api_key:
        name = habits_of(base_url).messages_key_header if messages else AUTHORIZATION
        headers[name] = f"Bearer {api_key}" if name == AUTHORIZATION else api_key
    return headers


def upstream_headers(headers: Iterable[tuple[str, str]], api_key: str | None) -> UpstreamHeaders:
    """What is kept of a provider's answer; nothing that holds the key by which it was asked."""
    passed: dict[str, str] = {}
    request_id = None
    for name, value in headers:
        use = _use_of(name)
        if use is None or not VISIBLE.fullmatch(value) or holds_key(value, api_key):
            continue
        if use is _Use.PASSED:
            passed[name] = f"{passed[name]}, {value}" if name in passed else value
        else:
            request_id = request_id or value
    return UpstreamHeaders(passed, request_id)


class _Use(Enum):
    """What a provider's header is good for."""

    PASSED = "passed on"
    REQUEST_ID = "the provider's id of the request"


@lru_cache(maxsize=1024)  # providers have few names, and name them in every answer
def _use_of(name: str) -> _Use | None:
    lower = name.lower()
    if lower in FROM_PROVIDER or (lower.startswith(FROM_PROVIDER_PREFIXES) and TOKEN.fullmatch(name)):
        return _Use.PASSED
    return _Use.REQUEST_ID if lower in REQUEST_IDS else None
