"""What tests of the ledger stand on: servers that die and come back, and clients that report truly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
import redis
import requests
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.conftest import StartGateway
from tests.support.agreement import assert_totals_agree, books_of
from tests.support.load import LoadResult, again_if_unavailable, run_load
from tests.support.ports import is_free
from tests.support.processes import RedisServer, Service, running_gateway, running_model
from tests.support.scripted import scripted_provider
from tests.support.stack import SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

CHAT: dict[str, object] = {"messages": [{"role": "user", "content": SHORT}]}


def plain(number: int) -> dict[str, object]:
    return CHAT


def mixed(number: int) -> dict[str, object]:
    if number % 2:
        return {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    return CHAT


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(
        own_redis.url, socket_timeout=0.5, retry=Retry(NoBackoff(), 0), decode_responses=True
    ) as one:
        yield one


def test_a_killed_redis_comes_back_with_all_that_it_had_confirmed(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    for number in range(3):
        for _ in range(100):
            client.incr("confirmed")
        own_redis.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        own_redis.start()
        assert client.get("confirmed") == str(100 * (number + 1))


def test_a_paused_redis_is_silent_and_then_does_what_it_was_asked(
    own_redis: RedisServer, client: redis.Redis
) -> None:
    client.ping()
    own_redis.pause()
    with pytest.raises(redis.TimeoutError):
        client.incr("asked")
    own_redis.resume()
    assert eventually(lambda: client.get("asked") == "1")


def test_a_wiped_redis_has_forgotten_also_after_a_kill(own_redis: RedisServer, client: redis.Redis) -> None:
    client.config_set("appendfsync", "always")  # a slow disk is another matter
    client.incr("known")
    own_redis.wipe()
    own_redis.kill()
    own_redis.start()
    assert client.keys() == []


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Service]:
    with running_model("cheap_model", tmp_path) as service:
        yield service


@pytest.fixture
def gateway(redis_url: str, model: Service, tmp_path: Path) -> Iterator[Service]:
    with running_gateway(tmp_path, REDIS_URL=redis_url, CHEAP_MODEL_URL=f"{model.url}/v1") as service:
        yield service


def test_a_killed_gateway_can_be_started_again_where_it_was(gateway: Service) -> None:
    gateway.kill()
    # Its workers were struck as well, but only the system sees them to their end.
    assert eventually(lambda: is_free(int(gateway.url.rsplit(":", 1)[1])))
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{gateway.url}/healthz", timeout=1)
    gateway.start()
    assert requests.get(f"{gateway.url}/healthz", timeout=5).ok
    assert gateway.stop() == 0


def test_a_killed_worker_is_replaced(gateway: Service) -> None:
    assert eventually(lambda: len(gateway.workers) == 2)
    first, second = gateway.workers
    assert gateway.kill_worker(1) == second.pid
    assert eventually(lambda: len(gateway.workers) == 2)
    assert first.pid in [worker.pid for worker in gateway.workers]
    assert requests.get(f"{gateway.url}/healthz", timeout=5).ok


def test_each_gateway_has_a_journal_of_its_own_unless_told(
    gateway: Service, redis_url: str, model: Service, tmp_path: Path
) -> None:
    assert Path(gateway.environ["JOURNAL_DIR"]).parent == tmp_path
    settings = {"REDIS_URL": redis_url, "CHEAP_MODEL_URL": f"{model.url}/v1"}
    with running_gateway(tmp_path, **settings) as other:
        assert other.environ["JOURNAL_DIR"] != gateway.environ["JOURNAL_DIR"]
    shared = str(tmp_path / "shared")
    with running_gateway(tmp_path, JOURNAL_DIR=shared, **settings) as told:
        assert told.environ["JOURNAL_DIR"] == shared


def test_a_load_is_shared_out_and_every_answer_is_seen_whole(start_gateway: StartGateway) -> None:
    first = start_gateway()
    second = start_gateway(REDIS_KEY_PREFIX=first.redis_prefix)
    before = books_of(first)
    result = run_load([first.gateway_url, second.gateway_url], clients=8, requests=100, body=mixed)
    assert len(result.whole) == len(result.outcomes) == 100
    assert [each.number for each in sorted(result.outcomes, key=lambda each: each.number)] == list(range(100))
    assert {each.url for each in result.outcomes if each.number % 2} == {second.gateway_url}
    assert result.cost_usd == 100 * Decimal("0.000005")
    assert 0 < result.percentile(0.5) <= result.percentile(0.99) < 10
    assert_totals_agree(first, before, within_seconds=5)


def test_a_load_ends_in_time(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    result = run_load([gateway.gateway_url], clients=4, seconds=1.0, body=plain)
    assert 1.0 <= result.seconds < 5
    assert len(result.whole) > 4


def test_what_breaks_is_an_outcome(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    nobody = "http://127.0.0.1:1"
    result = run_load([gateway.gateway_url, nobody], clients=2, requests=10, body=plain)
    assert [each.status for each in sorted(result.outcomes, key=lambda each: each.number)] == [200, None] * 5
    assert len(result.broken) == len(result.whole) == 5
    again = run_load(
        [nobody, gateway.gateway_url], clients=2, requests=10, body=plain, retry=again_if_unavailable
    )
    assert len(again.whole) == 10
    assert len(again.broken) == 5


@pytest.mark.parametrize(
    ("body", "whole", "broken", "code"),
    [
        (b"data: {}\n\ndata: [DONE]\n\n", True, False, None),
        (b"data: {}\n\n", False, True, None),
        (b'data: {"error": {"code": "upstream_error"}}\n\n', False, False, "upstream_error"),
        (b"event: message_stop\ndata: {}\n\n", True, False, None),
    ],
)
def test_a_stream_is_whole_only_with_its_end(
    body: bytes, whole: bool, broken: bool, code: str | None
) -> None:
    result = from_script(body, {"stream": True})
    [outcome] = result.outcomes
    assert (outcome.whole, outcome.broken, outcome.code) == (whole, broken, code)


def test_a_plain_answer_that_is_cut_is_broken() -> None:
    [outcome] = from_script(b'{"id": "x"', {}, length=100).outcomes
    assert (outcome.status, outcome.whole, outcome.broken) == (200, False, True)


def from_script(body: bytes, request: dict[str, object], length: int | None = None) -> LoadResult:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    with scripted_provider(head + body) as url:
        return run_load([url], clients=1, requests=1, body=lambda number: request)


def test_books_that_differ_are_shown_side_by_side(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    before = books_of(gateway)
    requests.post(f"{gateway.model_urls['CheapModel']}/v1/chat/completions", json=CHAT, timeout=10)
    began = time.monotonic()
    with pytest.raises(pytest.fail.Exception, match=r"calls +0 +1 +-1 +<--"):
        assert_totals_agree(gateway, before, within_seconds=0.5)
    assert 0.5 <= time.monotonic() - began < 5
