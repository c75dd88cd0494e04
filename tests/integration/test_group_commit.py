"""What ends at the same time is counted in one round trip, and what ends alone waits for nobody."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
import redis

from gateway.ledger.committer import Committer
from gateway.ledger.connection import connect
from gateway.ledger.health import Health
from tests.conftest import GatewayUnderTest
from tests.support.load import run_load
from tests.support.outboxes import outbox_in, requests_counted, tally_of_requests
from tests.support.own_stack import own_gateway
from tests.support.processes import RedisServer
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.traffic import chat_body

pytestmark = [pytest.mark.heavy, pytest.mark.load, pytest.mark.alone]

# What a worker asks of its own accord, as it follows the changes of keys, circuits and models.
NOBODY_ASKED = {"hello", "client", "get", "hget", "mget", "ping", "subscribe"}
NOBODY_ASKED |= {"zrange", "zrangebyscore", "zrevrange"}
NO_WAIT_SECONDS = 0.005


@pytest.fixture
def gateway(model_urls: dict[str, str], own_redis: RedisServer, tmp_path: Path) -> Iterator[GatewayUnderTest]:
    settings = {"GATEWAY_ADMIN_KEY": ADMIN_KEY, "WEB_CONCURRENCY": "1", "REDIS_TIMEOUT_SECONDS": "0.5"}
    with own_gateway(tmp_path, model_urls, own_redis, **settings) as gateway:
        assert gateway.post(chat_body(0)).status_code == 200  # so that the scripts are loaded
        yield gateway


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(own_redis.url, 1.0) as client:
        yield client


def calls(client: redis.Redis) -> dict[str, int]:
    """How often each command was executed, by clients and by scripts."""
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}


def since(client: redis.Redis, before: dict[str, int]) -> dict[str, int]:
    now = calls(client)
    return {name: now[name] - before.get(name, 0) for name in now if now[name] != before.get(name, 0)}


def test_one_request_at_a_time_takes_one_round_trip_each(
    gateway: GatewayUnderTest, client: redis.Redis
) -> None:
    before = calls(client)
    result = run_load([gateway.gateway_url], clients=1, requests=30, body=chat_body)
    took = since(client, before)
    print(result, took)
    assert len(result.whole) == 30
    looks = 6  # of the other worker, which is idle
    assert 30 <= took.pop("evalsha") <= 30 + looks
    assert 30 <= took.pop("set") <= 30 + looks  # the number of the last batch
    # Requests, cost, cost of the dearest; by model requests, tokens of three kinds, errors, cost.
    assert took.pop("incrby") <= 30 * 6
    assert took.pop("incrbyfloat") <= 30 * 3
    assert set(took) <= {*NOBODY_ASKED, "info", "hset", "zadd", "zcard"}  # the last three for the decision


def test_a_request_with_a_budget_takes_one_more_to_reserve(
    gateway: GatewayUnderTest, client: redis.Redis
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="10", rpm=10**6, tpm=10**9)
    assert gateway.post(chat_body(0), headers=headers).status_code == 200
    before = calls(client)
    result = run_load([gateway.gateway_url], clients=1, requests=30, body=chat_body, headers=headers)
    took = since(client, before)
    print(result, took)
    assert len(result.whole) == 30
    assert 2 * 30 <= took["evalsha"] <= 2 * 30 + 6


def test_many_requests_at_once_share_their_round_trips(
    gateway: GatewayUnderTest, client: redis.Redis
) -> None:
    before = calls(client)
    result = run_load([gateway.gateway_url], clients=64, requests=1500, body=lambda number: chat_body(0))
    took = since(client, before)
    each = {name: round(count / len(result.whole), 3) for name, count in took.items()}
    print(result, each)
    assert len(result.whole) == 1500
    assert took["evalsha"] < len(result.whole) / 3
    assert took["incrby"] + took["incrbyfloat"] < len(result.whole) * 9 / 3


def test_many_requests_at_once_with_a_budget_find_redis_in_time(
    gateway: GatewayUnderTest, client: redis.Redis
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="1000", rpm=10**6, tpm=10**9)
    before = calls(client)
    result = run_load(
        [gateway.gateway_url], clients=64, requests=2000, body=lambda number: chat_body(0), headers=headers
    )
    took = since(client, before)
    print(result, f"{took['evalsha'] / len(result.whole):.3f} round trips each")
    assert result.statuses == {200: 2000}


def test_what_comes_in_together_travels_together(tmp_path: Path, client: redis.Redis) -> None:
    committer = Committer(outbox_in(tmp_path, client), Health(), patience=1.0)
    committer.add(tally_of_requests(1))
    before = calls(client)
    gevent.joinall([gevent.spawn(committer.add, tally_of_requests(1)) for _ in range(64)], raise_error=True)
    assert since(client, before)["evalsha"] == 1
    assert requests_counted(client) == 65


def test_an_idle_ledger_adds_no_wait(tmp_path: Path, client: redis.Redis) -> None:
    committer = Committer(outbox_in(tmp_path, client), Health(), patience=1.0)
    committer.add(tally_of_requests(1))
    before, taken = calls(client), []
    for _ in range(100):
        begun = time.monotonic()
        committer.add(tally_of_requests(1))
        taken.append(time.monotonic() - begun)
        assert requests_counted(client) == len(taken) + 1
        gevent.sleep(0.001)
    print(f"{statistics.median(taken) * 1000:.2f} ms")
    assert since(client, before)["evalsha"] == 100
    assert statistics.median(taken) < NO_WAIT_SECONDS
