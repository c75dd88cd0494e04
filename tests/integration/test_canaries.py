"""No key, a provider's or a client's, comes out of the gateway anywhere: every key that it is given here is a
canary, and all that it says is searched for a part of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.canaries import found_in, new_canary
from tests.support.echo import WAYS, EchoProvider, echoing_provider
from tests.support.processes import ROOT
from tests.support.waiting import eventually
from tests.support.wire import connected, head, post

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


@dataclass(frozen=True)
class Seen:
    """What a client was sent for one request, head and body."""

    request: str
    sent: str

    @property
    def status(self) -> int:
        """0 where there was no answer."""
        return int(self.sent.split(" ", 2)[1]) if self.sent.startswith("HTTP/1.1 ") else 0


@dataclass(frozen=True)
class Watched:
    """A gateway that has served all kinds of requests, what was sent to its clients and to its provider."""

    gateway: GatewayUnderTest
    echo: EchoProvider
    models_file: Path
    seen: list[Seen]


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoProvider]:
    with echoing_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def watched(
    start_gateway: StartGateway, echo: EchoProvider, tmp_path_factory: pytest.TempPathFactory
) -> Watched:
    models_file = tmp_path_factory.mktemp("canaries") / "models.toml"
    models_file.write_text(catalog(echo.url))
    gateway = start_gateway(
        MODELS_FILE=str(models_file),
        CHEAP_MODEL_URL=f"{echo.url}/answers/v1",
        EXPENSIVE_MODEL_URL=f"{echo.url}/refuses/v1",
        UPSTREAM_READ_TIMEOUT_SECONDS="0.5",
        REQUEST_BODY_TIMEOUT_SECONDS="1",
        MAX_REQUEST_BYTES=str(MAX_REQUEST_BYTES),
        LOG_LEVEL="debug",
        **{variable: canary.key for variable, canary in PROVIDER_KEYS.items()},
    )
    with ThreadPoolExecutor(16) as clients:
        seen = list(clients.map(lambda asked: send(gateway, *asked), [*good_requests(), *bad_requests()]))
    leave_early(gateway)
    # A file by which somebody has mistaken a key for the name of its variable.
    models_file.write_text(catalog(echo.url).replace('"TEAM_KEY"', f'"{PROVIDER_KEYS["TEAM_KEY"].key}"'))
    assert eventually(lambda: "api_key_env must be the name" in gateway.service.log, 10)
    return Watched(gateway, echo, models_file, seen)


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


def send(gateway: GatewayUnderTest, name: str, request: bytes) -> Seen:
    """One request on a connection of its own, which the client then ends on its side where it must."""
    with connected(gateway.gateway_url) as connection:
        connection.send(request if b"\r\nConnection:" in request else closing(request))
        return Seen(name, connection.rest().decode("utf-8", "replace"))


def closing(request: bytes) -> bytes:
    first, line_end, rest = request.partition(b"\r\n")
    return first + line_end + b"Connection: close\r\n" + rest if rest.strip() else request


def leave_early(gateway: GatewayUnderTest) -> None:
    """Clients that leave within their head, within their body, and before their answer."""
    body = json.dumps({"model": "is_silent", **BODIES["chat/completions"]}).encode()
    whole = post(body, *CLIENT_HEADERS, path="/v1/chat/completions" + QUERY)
    for sent in (whole[:300], whole[:-5], whole):
        with connected(gateway.gateway_url) as connection:
            connection.send(sent)
            with suppress(OSError):
                connection.end()
                connection.rest()


def test_the_search_finds_a_key_however_it_is_written() -> None:
    canary = new_canary("somebody")
    key = canary.key
    all_escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    for text in (key, f"<{key}>", json.dumps(key), all_escaped, quote(key, safe=""), key[15:27], key[:22]):
        assert found_in(text, [canary]) == ["somebody"], text
    assert found_in(f"sk-canary/ {key[:15]} {key[-6:]}", [canary]) == []


def test_every_provider_key_was_used_and_given_away_by_the_provider(watched: Watched) -> None:
    assert {asked.key for asked in watched.echo.asked} == {
        canary.key for canary in PROVIDER_KEYS.values()
    } | {""}
    key = PROVIDER_KEYS["TEAM_KEY"].key
    for way in ("refuses", "answers", "fails"):
        answer = requests.post(
            f"{watched.echo.url}/{way}/v1/chat/completions",
            json={},
            headers={"Authorization": f"Bearer {key}"},
            timeout=5,
        )
        assert found_in(f"{answer.headers} {answer.text}", CANARIES) == ["TEAM_KEY"]


def test_all_kinds_of_answers_were_given(watched: Watched) -> None:
    statuses = {seen.status for seen in watched.seen}
    assert statuses >= {200, 400, 401, 403, 404, 405, 413, 422, 429, 431, 502, 504}
    assert 500 not in statuses
    broken = [seen for seen in watched.seen if seen.status == 200 and "upstream_error" in seen.sent]
    assert len(broken) > 10, "too few streams broke in their middle"


def test_no_key_is_in_any_head_or_body_that_a_client_was_sent(watched: Watched) -> None:
    leaks = {seen.request: leaked for seen in watched.seen if (leaked := found_in(seen.sent, CANARIES))}
    assert leaks == {}


def test_no_key_is_in_the_log_at_its_most_talkative(watched: Watched) -> None:
    lines = watched.gateway.service.log.splitlines()
    assert len(lines) > len(watched.seen)
    assert any('"DEBUG"' in line for line in lines)
    assert [line for line in lines if found_in(line, CANARIES)] == []


def test_no_key_is_in_redis(watched: Watched) -> None:
    with redis.Redis.from_url(watched.gateway.redis_url, decode_responses=True) as client:
        names = list(client.scan_iter(f"{watched.gateway.redis_prefix}*"))
        values = client.mget(names)
    assert len(names) > len(WAYS)
    assert found_in(f"{names} {values}", CANARIES) == []


def test_no_client_key_reaches_a_provider(watched: Watched) -> None:
    for asked in watched.echo.asked:
        received = f"{asked.path}\n{asked.headers}"
        assert found_in(received, CLIENT_KEYS.values()) == [], received
        assert len(found_in(received, PROVIDER_KEYS.values())) == (1 if asked.key else 0), received


ALWAYS_SENT = {"Host", "User-Agent", "Accept", "Accept-Encoding", "Content-Type", "Content-Length"}
SENT_ON_WISH = ("Idempotency-Key", "OpenAI-Beta", "Anthropic-Version", "Anthropic-Beta")
NEVER_SENT = (
    "OpenAI-Organization",
    "OpenAI-Project",
    "X-Mock-Fault",
    "X-Forwarded-For",
    "X-Request-Id",
    "Traceparent",
    "Origin",
    "Referer",
    "Accept-Language",
    "X-Stainless-Lang",
    "TE",
)


@pytest.mark.parametrize(
    ("model", "api"),
    [
        *(("answers", api) for api in BODIES if api != "messages/count_tokens"),
        *((model, api) for model in ("answers-translated", "keyless") for api in TRANSLATED),
    ],
)
def test_a_provider_gets_the_headers_of_the_list_and_no_other(watched: Watched, model: str, api: str) -> None:
    mark = f"order-{api}-{model}"
    headers = [f"{name}: {mark}" for name in (*SENT_ON_WISH, *NEVER_SENT)]
    body = json.dumps({"model": model, **BODIES[api]}).encode()

    seen = send(watched.gateway, api, post(body, *headers, *CLIENT_HEADERS, path=f"/v1/{api}{QUERY}"))

    assert seen.status == 200, seen.sent
    [asked] = [asked for asked in watched.echo.asked if asked.headers["Idempotency-Key"] == mark]
    as_message = api == "messages" and model == "answers"
    assert asked.path == f"/answers/v1/{api if model == 'answers' else 'chat/completions'}"
    wished = set(SENT_ON_WISH) if as_message else {"Idempotency-Key", "OpenAI-Beta"}
    with_key = set() if model == "keyless" else {"Authorization"}
    assert set(asked.headers) == ALWAYS_SENT | wished | with_key
    assert {name for name, value in asked.headers.items() if mark in value} == wished


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("model", "status"), [("answers", 200), ("refuses", 401), ("fails", 502)])
def test_a_client_gets_the_headers_of_the_list_and_no_other(
    watched: Watched, model: str, status: int, stream: bool
) -> None:
    body = {"model": model, **BODIES["chat/completions"], "stream": stream}
    answer = requests.post(f"{watched.gateway.gateway_url}/v1/chat/completions", json=body, timeout=5)
    assert answer.status_code == status
    ours = {"Server", "Date", "Connection", "Content-Type", "X-Request-Id"}
    ours |= {f"X-Gateway-{name}" for name in ("Model", "Policy", "Reason", "Attempts")}
    of_provider = {"OpenAI-Processing-Ms", "X-RateLimit-Remaining-Requests"}
    if status == 502:
        expected = ours | {"Content-Length"}
    elif status == 401:
        expected = ours | of_provider | {"Content-Length"}
    elif stream:
        expected = ours | of_provider | {"Transfer-Encoding", "Cache-Control", "X-Accel-Buffering"}
    else:
        expected = ours | of_provider | {"Content-Length", "X-Gateway-Cost-Usd"}
    assert set(answer.headers) == expected


def test_a_redirect_is_not_followed(watched: Watched) -> None:
    redirected = [asked for asked in watched.echo.asked if "?" in asked.path]
    assert redirected == []
    answers = [seen for seen in watched.seen if " of redirects" in seen.request]
    served = [seen for seen in answers if "count_tokens" not in seen.request]
    assert {seen.status for seen in served} <= {400, 502}
    assert not [seen for seen in answers if "\nlocation:" in seen.sent.lower()]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_key_is_shown_by_the_list_of_models(watched: Watched, options: list[str]) -> None:
    watched.models_file.write_text(catalog(watched.echo.url))
    command = [sys.executable, "-m", "flask", "--app", "gateway.cli", "models", "list", *options]
    listed = run(command, MODELS_FILE=str(watched.models_file))
    assert listed.returncode == 0, listed.stderr
    assert "refuses-translated" in listed.stdout
    assert found_in(listed.stdout + listed.stderr, CANARIES) == []


KEY = PROVIDER_KEYS["CHEAP_MODEL_API_KEY"].key


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"CHEAP_MODEL_API_KEY": f"{KEY} {KEY}"}, "CHEAP_MODEL_API_KEY"),
        ({"LLM_GATEWAY_API_KEY": f"{KEY}\u00e9", "CHEAP_MODEL_API_KEY": ""}, "LLM_GATEWAY_API_KEY"),
        ({"CHEAP_MODEL_URL": f"https://{KEY.replace('/', '')}@provider/v1"}, "CHEAP_MODEL_URL"),
        ({"EXPENSIVE_MODEL_URL": f"https://provider/v1?key={KEY}"}, "EXPENSIVE_MODEL_URL"),
        ({"CHEAP_MODEL_URL": KEY}, "CHEAP_MODEL_URL"),
        ({"REDIS_URL": f"redis://:{KEY.replace('/', '')}@redis:6379/x"}, "REDIS_URL"),
        ({"REDIS_URL": f"redis://:{KEY.replace('/', '')}@redis:6379/0?what=1"}, "REDIS_URL"),
        ({"GATEWAY_BIND": "0.0.0.0"}, "GATEWAY_BIND"),
    ],
)
@pytest.mark.parametrize(
    "command", [["gateway"], ["flask", "--app", "gateway.cli", "models", "list"]], ids=["gateway", "flask"]
)
def test_a_setting_that_stops_the_start_is_named_without_the_key(
    settings: dict[str, str], named: str, command: list[str]
) -> None:
    stopped = run([sys.executable, "-m", *command], **settings)
    said = stopped.stdout + stopped.stderr
    assert found_in(said, CANARIES) == []
    if stopped.returncode == 0:
        assert command[0] == "flask", "the gateway has started"
    else:
        assert named in said


def test_no_key_is_told_while_the_ledger_is_gone(start_gateway: StartGateway, echo: EchoProvider) -> None:
    password = new_canary("REDIS_URL")
    gateway = start_gateway(
        REDIS_URL=f"redis://:{quote(password.key, safe='')}@127.0.0.1:1/0",
        CHEAP_MODEL_URL=f"{echo.url}/answers/v1",
        CHEAP_MODEL_API_KEY=KEY,
        LOG_LEVEL="debug",
    )
    body = json.dumps(BODIES["chat/completions"]).encode()
    streamed = json.dumps({**BODIES["chat/completions"], "stream": True}).encode()
    requested = [
        *(
            post(sent, *CLIENT_HEADERS, path="/v1/chat/completions" + QUERY)
            for sent in (streamed, body, body)
        ),
        *(head(*CLIENT_HEADERS, method="GET", path=path + QUERY) for path in ("/metrics", "/readyz")),
    ]
    seen = [send(gateway, "", request) for request in requested]
    assert "ledger_unavailable" in seen[0].sent
    assert [one.status for one in seen[1:]] == [503] * 4
    said = gateway.service.log + "".join(one.sent for one in seen)
    assert found_in(said, [*CANARIES, password]) == []


def run(command: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """A command of the gateway's with all providers' keys in its environment."""
    keys = {variable: canary.key for variable, canary in PROVIDER_KEYS.items()}
    environ = {"PATH": os.environ["PATH"], **keys, **settings}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30)
