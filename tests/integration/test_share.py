"""A share that is held by real gateways: two of them with two workers each, on real prompts."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import cycle
from pathlib import Path

import pytest
import redis
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import ROOT, RedisServer, redis_server
from tests.support.prompts import prompts
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.load

TARGET = 0.2
SETTINGS = {"ROUTING_EXPENSIVE_SHARE": str(TARGET), "WEB_CONCURRENCY": "2"}
CLIENTS = 8
SOON = 500  # requests
LONG_PROMPT = 400  # characters: longer than four in five of the prompts are
POLICY = "prompt_length"


@pytest.fixture(scope="module")
def pair(start_gateway: StartGateway) -> list[GatewayUnderTest]:
    prefix = f"test-{uuid.uuid4().hex}"
    return [start_gateway(REDIS_KEY_PREFIX=prefix) for _ in range(2)]


def ask(gateways: Sequence[GatewayUnderTest], contents: Sequence[str], **body: str) -> list[str]:
    """The models that answered, in the order of the requests."""

    def one(gateway: GatewayUnderTest, content: str) -> str:
        answer = gateway.chat(content, **body)
        answer.raise_for_status()
        return answer.headers["X-Gateway-Model"]

    with ThreadPoolExecutor(CLIENTS) as clients:
        return list(clients.map(one, cycle(gateways), contents))


def share_of(models: Sequence[str]) -> float:
    return models.count("ExpensiveModel") / len(models)


def held(gateway: GatewayUnderTest) -> dict[str, str]:
    with redis.Redis.from_url(gateway.redis_url, decode_responses=True) as client:
        return dict(client.hgetall(f"{gateway.redis_prefix}:share:{POLICY}"))


def gauges(gateway: GatewayUnderTest) -> dict[str, float]:
    """Those of the share, without their common beginning."""
    text = requests.get(f"{gateway.gateway_url}/metrics", headers={"Accept": "text/plain"}, timeout=5).text
    start, end = "llm_gateway_routing_", f'{{policy="{POLICY}"}} '
    lines = [line.removeprefix(start).split(end) for line in text.splitlines() if end in line]
    return {name: float(value) for name, value in lines}


@pytest.mark.timeout(240)
def test_two_gateways_hold_the_share_and_have_it_back_soon_after_a_change(
    pair: list[GatewayUnderTest],
) -> None:
    drawn = random.Random(7)
    asked = drawn.sample(prompts(), 2 * SOON)
    models = ask(pair, asked)
    assert share_of(models[:SOON]) == pytest.approx(TARGET, rel=0.1)
    assert share_of(models[SOON:]) == pytest.approx(TARGET, rel=0.1)

    long = [prompt for prompt in prompts() if len(prompt) > LONG_PROMPT]
    asked = drawn.choices(long, k=2 * SOON)
    before = gauges(pair[0])
    later = ask(pair, asked)
    assert share_of(later[:SOON]) == pytest.approx(TARGET, rel=0.1)
    assert share_of(later[SOON:]) == pytest.approx(TARGET, rel=0.1)

    chosen = [*models, *later]
    expected = {"requests": str(len(chosen)), "expensive": str(chosen.count("ExpensiveModel"))}
    assert eventually(lambda: expected.items() <= held(pair[0]).items()), held(pair[0])
    for gateway in pair:
        assert eventually(lambda: gauges(gateway)["threshold"] > LONG_PROMPT)  # noqa: B023 - called at once
        found = gauges(gateway)
        assert found["share_target"] == TARGET
        assert found["share"] == pytest.approx(TARGET, abs=0.05)
        assert found["threshold"] > before["threshold"]


def test_what_the_client_chose_itself_does_not_count(pair: list[GatewayUnderTest]) -> None:
    before = held(pair[0])
    ask(pair, [SHORT] * 10, model="ExpensiveModel")
    time.sleep(1)
    assert held(pair[0]) == before


def test_the_reason_tells_the_line_and_what_decided(pair: list[GatewayUnderTest]) -> None:
    answer = pair[0].chat(LONG)
    assert answer.headers["X-Gateway-Policy"] == POLICY
    assert "; the expensive share is held at 20 %" in answer.headers["X-Gateway-Reason"]


def test_asking_where_a_request_would_go_counts_nothing_and_tells_the_line(
    pair: list[GatewayUnderTest],
) -> None:
    time.sleep(1)  # until the workers have told of all that was asked before
    before, id_ = held(pair[0]), f"test-{uuid.uuid4().hex}"
    body = {"messages": [{"role": "user", "content": LONG}]}
    told = requests.post(
        f"{pair[0].gateway_url}/v1/route", json=body, headers={"X-Request-Id": id_}, timeout=10
    ).json()
    assert told["threshold"] != 150
    assert "; the expensive share is held at 20 %" in told["reason"]
    time.sleep(1)
    assert held(pair[0]) == before


def test_the_command_line_goes_by_the_line_of_the_workers(pair: list[GatewayUnderTest]) -> None:
    environ = {**pair[0].service.environ, "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "gateway.cli", "route", "--json", LONG],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["threshold"] > 150
    assert "; the expensive share is held at 20 %" in told["reason"]


@pytest.fixture
def safe_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that forgets nothing of what it has confirmed."""
    with redis_server(tmp_path, appendfsync="always") as server:
        yield server


@pytest.mark.timeout(240)
def test_the_share_holds_while_redis_is_dead_and_all_is_told_later(
    start_gateway: StartGateway, safe_redis: RedisServer
) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    pair = [start_gateway(REDIS_KEY_PREFIX=prefix, REDIS_URL=safe_redis.url) for _ in range(2)]
    asked = random.Random(8).sample(prompts(), 900)
    models = ask(pair, asked[:300])
    safe_redis.kill()
    without = ask(pair, asked[300:700])
    assert share_of(without) == pytest.approx(TARGET, abs=0.05)
    safe_redis.start()
    models += without + ask(pair, asked[700:])

    def all_told() -> bool:
        with redis.Redis.from_url(safe_redis.url, decode_responses=True) as client:
            found = client.hgetall(f"{prefix}:share:{POLICY}")
        return (found.get("requests"), found.get("expensive")) == (
            str(len(models)),
            str(models.count("ExpensiveModel")),
        )

    assert eventually(all_told, 10)
    told = "each worker holds the share by what it sees itself"
    assert any(line["message"] == told for gateway in pair for line in gateway.service.log_lines)


def test_a_days_dollars_refuse_nobody(start_gateway: StartGateway) -> None:
    gateway = start_gateway(ROUTING_EXPENSIVE_SHARE="", ROUTING_DOLLARS_PER_DAY="0.0002", WEB_CONCURRENCY="1")
    assert eventually(lambda: gauges(gateway)["share_target"] == 0.1)
    ask([gateway], [LONG] * 2, model="ExpensiveModel")
    assert gateway.counted("ExpensiveModel").cost_usd > Decimal("0.0002")
    assert eventually(lambda: gauges(gateway)["share_target"] == 0)
    assert ask([gateway], [LONG, SHORT, *prompts()[:20]]) == ["CheapModel"] * 22


def test_a_gateway_that_holds_no_share_says_nothing_of_it(start_gateway: StartGateway) -> None:
    gateway = start_gateway(ROUTING_EXPENSIVE_SHARE="", WEB_CONCURRENCY="1")
    assert ask([gateway], [SHORT, LONG]) == ["CheapModel", "ExpensiveModel"]
    assert gauges(gateway) == {}
    assert held(gateway) == {}
