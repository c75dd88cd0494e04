"""Requests that show canary keys wherever a client can, and models whose providers have some of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tests.support.canaries import new_canary
from tests.support.echo import WAYS
from tests.support.wire import head, post

PROVIDER_KEYS = {
    variable: new_canary(variable)
    for variable in ("CHEAP_MODEL_API_KEY", "EXPENSIVE_MODEL_API_KEY", "LLM_GATEWAY_API_KEY", "TEAM_KEY")
}
CLIENT_KEYS = {
    place: new_canary(f"the client's {place}")
    for place in ("Authorization", "Proxy-Authorization", "X-Api-Key", "Api-Key", "Cookie", "query")
}
CANARIES = [*PROVIDER_KEYS.values(), *CLIENT_KEYS.values()]
QUERY = "?key=" + quote(CLIENT_KEYS["query"].key, safe="") + "&api_key=" + CLIENT_KEYS["query"].key
CLIENT_HEADERS = (
    f"Authorization: Bearer {CLIENT_KEYS['Authorization'].key}",
    f"Proxy-Authorization: Basic {CLIENT_KEYS['Proxy-Authorization'].key}",
    f"X-Api-Key: {CLIENT_KEYS['X-Api-Key'].key}",
    f"Api-Key: {CLIENT_KEYS['Api-Key'].key}",
    f"Cookie: session={CLIENT_KEYS['Cookie'].key}",
)
PRICE = "{ input = 1, cached_input = 1, output = 1 }"
PROMPT = [{"role": "user", "content": "What is the capital of France?"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": PROMPT},
    "completions": {"prompt": "The capital of France is"},
    "embeddings": {"input": "Paris"},
    "messages": {"messages": PROMPT, "max_tokens": 100},
    "messages/count_tokens": {"messages": PROMPT},
    "responses": {"input": "What is the capital of France?"},
}
STREAMING = ("chat/completions", "completions", "messages", "responses")
TRANSLATED = ("chat/completions", "messages", "responses")
GETS = ("/metrics", "/v1/models", "/v1/models/answers", "/openapi.json", "/healthz", "/readyz")
MAX_REQUEST_BYTES = 100_000


def catalog(url: str) -> str:
    """A model for each way of giving a key away, asked by each API and by translation, the keys in turn."""
    variables = list(PROVIDER_KEYS)
    tables = []
    for number, way in enumerate(WAYS):
        common = f'base_url = "{url}/{way}/v1"\nusd_per_million_tokens = {PRICE}\nauto = false\n'
        native = '["chat_completions", "responses", "messages", "embeddings", "completions"]'
        for shift, (name, apis) in enumerate(((way, native), (f"{way}-translated", '["chat_completions"]'))):
            variable = variables[(number + 2 * shift) % len(variables)]
            tables.append(f'[{name}]\n{common}apis = {apis}\napi_key_env = "{variable}"\n')
    for name in ("CheapModel", "ExpensiveModel"):
        tables.append(f'[{name}]\nbase_url = "{url}/v1"\nusd_per_million_tokens = {PRICE}\n')
    tables.append(
        f'[keyless]\nbase_url = "{url}/answers/v1"\nusd_per_million_tokens = {PRICE}\nauto = false\n'
    )
    return "\n".join(tables)


def good_requests() -> Iterator[tuple[str, bytes]]:
    """Every API, plain and streamed, of every model; each request says what it is."""
    models = [name for way in WAYS for name in (way, f"{way}-translated")]
    for model in (*models, "auto", "CheapModel", "ExpensiveModel", "keyless"):
        for api, body in BODIES.items():
            for stream in (False, True) if api in STREAMING else (False,):
                sent = json.dumps({"model": model, **body, **({"stream": True} if stream else {})}).encode()
                yield (
                    f"{api} of {model}, {'streamed' if stream else 'plain'}",
                    post(sent, *CLIENT_HEADERS, path=f"/v1/{api}{QUERY}"),
                )
    for path in GETS:
        yield f"GET {path}", head(*CLIENT_HEADERS, method="GET", path=path + QUERY)


def bad_requests() -> Iterator[tuple[str, bytes]]:
    """Whatever a client can do wrong while it shows its keys."""
    key = CLIENT_KEYS["Authorization"].key
    for api in BODIES:
        path = f"/v1/{api}{QUERY}"
        yield f"{api}, no JSON", post(b'{"model": ', *CLIENT_HEADERS, path=path)
        yield f"{api}, nothing", post(b"{}", *CLIENT_HEADERS, path=path)
        yield (
            f"{api}, unknown model",
            post(json.dumps({"model": "gpt-9", **BODIES[api]}).encode(), *CLIENT_HEADERS, path=path),
        )
        yield f"{api}, too large", post(b" " * (MAX_REQUEST_BYTES + 1), *CLIENT_HEADERS, path=path)
        yield f"{api}, wrong method", head(*CLIENT_HEADERS, method="GET", path=path)
        yield f"{api}, cross-site", post(b"{}", *CLIENT_HEADERS, "Sec-Fetch-Site: cross-site", path=path)
        yield f"{api}, half a body", head(*CLIENT_HEADERS, "Content-Length: 99", path=path) + b'{"model": '
        yield f"{api}, no chunks", head(*CLIENT_HEADERS, "Transfer-Encoding: chunked", path=path) + b"zz\r\n"
    yield "unknown path", post(b"{}", *CLIENT_HEADERS, path="/v2/chat" + QUERY)
    yield "no HTTP", f"{key}\r\n\r\n".encode()
    yield "a method that is a key", head(*CLIENT_HEADERS, method=key)
    yield "a version that is a key", f"GET / HTTP/{key}\r\n\r\n".encode()
    yield "a header without a name", head(*CLIENT_HEADERS, key, method="GET", path="/metrics")
    yield "a space before the colon", head(f"Authorization : Bearer {key}", method="GET", path="/metrics")
    yield "a folded header", head("X-Folded: a", f" {key}", method="GET", path="/metrics")
    yield "a NUL in a header", head(f"Authorization: Bearer {key}\0", method="GET", path="/metrics")
    yield "an endless header", head(f"Authorization: Bearer {key * 500}", method="GET", path="/metrics")
    yield "an unknown coding", head(*CLIENT_HEADERS, f"Transfer-Encoding: {key}")
    yield "a length that is a key", head(*CLIENT_HEADERS, f"Content-Length: {key}")
    yield "a wish for the impossible", head(*CLIENT_HEADERS, f"Expect: {key}", "Content-Length: 2") + b"{}"
