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
from urllib.parse import quote

import pytest
import redis
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.canaries import found_in, new_canary
from tests.support.canary_traffic import (
    BODIES,
    CANARIES,
    CLIENT_HEADERS,
    CLIENT_KEYS,
    MAX_REQUEST_BYTES,
    PROVIDER_KEYS,
    QUERY,
    TRANSLATED,
    bad_requests,
    catalog,
    good_requests,
)
from tests.support.echo import WAYS, EchoProvider, echoing_provider
from tests.support.processes import ROOT
from tests.support.stack import ONE_CALL
from tests.support.waiting import eventually
from tests.support.wire import connected, head, post

pytestmark = pytest.mark.heavy

SETTINGS = ONE_CALL


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


ALWAYS_SENT = {
    "X-Client-Request-Id",
    "Host",
    "User-Agent",
    "Accept",
    "Accept-Encoding",
    "Content-Type",
    "Content-Length",
}
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
        JOURNAL_DIR="/proc/no-such-place",
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
