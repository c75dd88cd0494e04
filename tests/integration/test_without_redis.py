"""A gateway whose Redis is away: who it serves, how fast, and what it says of itself."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import GatewayUnderTest
from tests.support.agreement import assert_totals_agree, books_of
from tests.support.load import LoadResult, run_load
from tests.support.own_stack import own_gateway
from tests.support.processes import RedisServer
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import SHORT
from tests.support.traffic import chat_body, meanwhile, run_traffic
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.load]

OUTAGES = 2
PAUSE_SECONDS = 5
P99_MAY_GROW_BY_SECONDS = 0.15
# The slowest answer of a mock takes half a second.
SLOWEST_SECONDS = 3.0
REFUSED_WITHIN_SECONDS = 0.15
# Longer than a request waits for one answer, shorter than two of them.
HICCUPS, HICCUP_SECONDS, LOST_AFTER_SECONDS = 12, 0.12, 0.17
LOST = "Redis is lost; what is to be counted waits in the journal"
BACK = "Redis is back, and all that waited for it is counted"
AWAY = "ledger_unavailable"


@pytest.fixture
def gateway(model_urls: dict[str, str], own_redis: RedisServer, tmp_path: Path) -> Iterator[GatewayUnderTest]:
    with own_gateway(tmp_path, model_urls, own_redis, GATEWAY_ADMIN_KEY=ADMIN_KEY) as gateway:
        yield gateway


@contextmanager
def paused(server: RedisServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def readiness(gateway: GatewayUnderTest) -> tuple[int, str, list[str]]:
    """What one worker says: the status of its answer, its own, and the codes of the reasons."""
    answer = requests.get(f"{gateway.gateway_url}/readyz", timeout=5)
    told = answer.json()
    return answer.status_code, told["status"], [reason.partition(":")[0] for reason in told["reasons"]]


def knows_by_all_workers(gateway: GatewayUnderTest, status: int) -> bool:
    """Whether some dozen looks, which spread over the workers, agree."""
    return all(readiness(gateway)[0] == status for _ in range(12))


def usage_of(gateway: GatewayUnderTest, key_id: str) -> dict[str, Any]:
    answer = requests.get(
        f"{gateway.gateway_url}/admin/keys/{key_id}",
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        timeout=10,
    )
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.alone
def test_a_paused_redis_slows_nobody_down_who_has_no_budget(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    _, headers = create_key(gateway.gateway_url)
    before = books_of(gateway)

    def load(sent: dict[str, str] | None) -> LoadResult:
        return run_traffic(gateway.gateway_url, seconds=PAUSE_SECONDS, clients=8, headers=sent, retry=None)

    def load_of_both() -> list[LoadResult]:
        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(load, (None, headers)))

    usual = load_of_both()

    def pause() -> None:
        time.sleep(0.3)
        with paused(own_redis):
            time.sleep(PAUSE_SECONDS)

    with meanwhile(pause):
        without = load_of_both()

    for who, one, other in zip(("without a key", "with a key"), usual, without, strict=True):
        print(f"{who}, as usual:      {one}\n{who}, without Redis: {other}")
        assert [each for each in other.outcomes if not each.whole] == []
        assert other.percentile(0.99) <= one.percentile(0.99) + P99_MAY_GROW_BY_SECONDS
        assert other.percentile(1) < SLOWEST_SECONDS
    assert_totals_agree(gateway, before, within_seconds=20)


@pytest.mark.alone
def test_a_key_with_a_budget_is_refused_at_once_while_redis_is_away(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="1.00")
    assert gateway.post(chat_body(0), headers=headers).status_code == 200

    with paused(own_redis):
        assert eventually(lambda: knows_by_all_workers(gateway, 503))
        refused = run_load(
            [gateway.gateway_url], clients=4, requests=60, body=lambda number: chat_body(0), headers=headers
        )
    print(refused)

    assert refused.codes == {"ledger_unavailable": 60}
    assert refused.statuses == {503: 60}
    assert {each.retry_after for each in refused.outcomes} == {1.0}
    assert max(each.seconds for each in refused.outcomes) < REFUSED_WITHIN_SECONDS
    assert eventually(lambda: gateway.post(chat_body(0), headers=headers).status_code == 200)


def test_a_key_with_a_budget_is_refused_soon_by_a_worker_that_has_to_find_out(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="1.00")
    for _ in range(12):  # both workers know the key
        assert gateway.post(chat_body(0), headers=headers).status_code == 200

    with paused(own_redis):
        refused = run_load(
            [gateway.gateway_url], clients=8, requests=40, body=lambda number: chat_body(0), headers=headers
        )
    print(refused)

    assert refused.statuses == {503: 40}
    assert max(each.seconds for each in refused.outcomes) < 0.5


@pytest.mark.alone
def test_a_redis_that_falters_costs_no_key_with_a_budget_a_refusal(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="100.00")
    for _ in range(12):  # both workers know the key
        assert gateway.post(chat_body(0), headers=headers).status_code == 200
    pauses: list[float] = []

    def falter() -> None:
        while len(pauses) < HICCUPS:
            time.sleep(0.3)
            began = time.monotonic()
            with paused(own_redis):
                time.sleep(HICCUP_SECONDS)
            pauses.append(time.monotonic() - began)

    # Those without a key have something to count all the time, which is no reason to wait for the others.
    with meanwhile(falter), ThreadPoolExecutor(2) as threads:
        loads = [
            threads.submit(
                run_traffic, gateway.gateway_url, seconds=HICCUPS / 2, clients=16, headers=sent, retry=None
            )
            for sent in (None, headers)
        ]
        results = [load.result() for load in loads]
    print(*results, [f"{pause:.3f}" for pause in pauses], sep="\n")

    if max(pauses) < LOST_AFTER_SECONDS:
        assert [each for result in results for each in result.outcomes if not each.whole] == []


def test_a_key_with_a_budget_is_served_and_charged_later_where_that_is_wished(
    model_urls: dict[str, str], own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = {"GATEWAY_ADMIN_KEY": ADMIN_KEY, "BUDGETS_WITHOUT_REDIS": "allow"}
    with own_gateway(tmp_path, model_urls, own_redis, **settings) as gateway:
        key_id, headers = create_key(gateway.gateway_url, budget_usd="1.00", owner="somebody")
        before = books_of(gateway)

        def pause() -> None:
            time.sleep(1)
            with paused(own_redis):
                time.sleep(3)

        with meanwhile(pause):
            result = run_load([gateway.gateway_url], clients=8, seconds=5, body=chat_body, headers=headers)
        print(result)

        assert [each for each in result.outcomes if not each.whole] == []
        assert_totals_agree(gateway, before, within_seconds=20)
        billed = sum((books.billed.cost_usd for books in books_of(gateway).values()), Decimal(0))
        billed -= sum((books.billed.cost_usd for books in before.values()), Decimal(0))
        view = usage_of(gateway, key_id)
    assert view["usage"]["requests"] == len(result.outcomes)
    assert view["usage"]["cost_usd"] == pytest.approx(float(billed), abs=1e-9)
    assert view["budget_spent_usd"] == pytest.approx(float(billed), abs=1e-9)
    assert view["budget_held_usd"] == 0


@pytest.mark.alone
def test_the_log_tells_each_change_of_state_once_and_no_request_more_than_itself(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    def outages() -> None:
        for _ in range(OUTAGES):
            time.sleep(1)
            with paused(own_redis):
                time.sleep(2)

    with meanwhile(outages):
        result = run_traffic(gateway.gateway_url, seconds=8, clients=16, retry=None)
    assert eventually(lambda: knows_by_all_workers(gateway, 200))

    lines = [line for line in gateway.service.log_lines if line.get("path") != "/readyz"]
    told = Counter(
        (line["message"], line["process"]) for line in lines if line["message"].startswith("Redis")
    )
    print(result, told)
    assert {LOST, BACK} <= {message for message, _ in told}
    # A worker that nobody asks anything does not notice.
    assert max(told.values()) == OUTAGES
    assert sum(line["message"] == "request" for line in lines) == len(result.outcomes)
    assert {line["level"] for line in lines if line["message"] == "request"} == {"INFO"}


@pytest.mark.alone
def test_readiness_tells_that_redis_is_away_and_that_it_is_back(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    assert readiness(gateway) == (200, "ready", [])
    for fault, mend in ((own_redis.pause, own_redis.resume), (own_redis.kill, own_redis.start)):
        fault()
        assert eventually(lambda: knows_by_all_workers(gateway, 503))
        assert readiness(gateway) == (503, "degraded", [AWAY])
        started = time.monotonic()
        assert readiness(gateway)[0] == 503
        assert time.monotonic() - started < REFUSED_WITHIN_SECONDS
        mend()
        assert eventually(lambda: knows_by_all_workers(gateway, 200))


def test_readiness_can_be_told_not_to_mind(
    model_urls: dict[str, str], own_redis: RedisServer, tmp_path: Path
) -> None:
    with own_gateway(tmp_path, model_urls, own_redis, READY_WITHOUT_REDIS="on") as gateway:
        with paused(own_redis):
            assert eventually(lambda: readiness(gateway)[2] == [AWAY])
            assert readiness(gateway) == (200, "degraded", [AWAY])
            assert gateway.chat(SHORT).status_code == 200
        assert eventually(lambda: readiness(gateway)[2] == [])


def test_a_gateway_starts_without_redis_and_counts_once_there_is_one(
    model_urls: dict[str, str], own_redis: RedisServer, tmp_path: Path
) -> None:
    own_redis.kill()
    with own_gateway(tmp_path, model_urls, own_redis) as gateway:
        answers = [gateway.post(chat_body(number)) for number in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        own_redis.start()
        assert eventually(
            lambda: sum(gateway.counted(model).calls for model in gateway.model_urls) == 20, seconds=10
        )
