"""Whatever dies, the gateway's totals are the models' once things are whole again, nothing hangs, and who has
no budget is served without Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import GatewayUnderTest
from tests.support.agreement import Books, assert_totals_agree, books_of
from tests.support.load import LoadResult
from tests.support.own_stack import own_gateway
from tests.support.processes import RedisServer
from tests.support.proxy import TcpProxy, tcp_proxy
from tests.support.traffic import meanwhile, run_traffic

pytestmark = [pytest.mark.heavy, pytest.mark.load]

WHOLE_AGAIN_SECONDS = 20
OUTAGE_SECONDS = 5  # longer than anybody waits for Redis
# Bounds the slowest answer, which takes about half a second where nothing else is asked.
HANGS_AFTER_SECONDS = 6.0


@pytest.fixture
def gateway(model_urls: dict[str, str], own_redis: RedisServer, tmp_path: Path) -> Iterator[GatewayUnderTest]:
    with own_gateway(tmp_path, model_urls, own_redis) as gateway:
        yield gateway


@pytest.fixture
def proxy(own_redis: RedisServer) -> Iterator[TcpProxy]:
    with tcp_proxy(own_redis.url) as proxy:
        yield proxy


@pytest.fixture
def proxied(
    model_urls: dict[str, str], own_redis: RedisServer, proxy: TcpProxy, tmp_path: Path
) -> Iterator[GatewayUnderTest]:
    """A gateway whose way to Redis can be cut."""
    with own_gateway(tmp_path, model_urls, own_redis, proxy.url) as gateway:
        yield gateway


def assert_nothing_lost(gateway: GatewayUnderTest, before: dict[str, Books], result: LoadResult) -> None:
    print(result)
    assert len(result.whole) > 40, "this was no load"
    assert_nothing_hung(result)
    assert_totals_agree(gateway, before, within_seconds=WHOLE_AGAIN_SECONDS)


def assert_nothing_hung(result: LoadResult) -> None:
    slowest = max(result.outcomes, key=lambda each: each.seconds)
    assert slowest.seconds < HANGS_AFTER_SECONDS, slowest


def assert_all_served(result: LoadResult) -> None:
    assert [each for each in result.outcomes if not each.whole][:5] == []


def test_nothing_is_lost_with_killed_workers(gateway: GatewayUnderTest) -> None:
    before = books_of(gateway)

    def kill() -> None:
        for number in range(4):
            time.sleep(1.5)
            gateway.service.kill_worker(number)

    with meanwhile(kill):
        result = run_traffic(gateway.gateway_url, seconds=7)

    assert_nothing_lost(gateway, before, result)


def test_nothing_is_lost_with_a_killed_gateway(gateway: GatewayUnderTest) -> None:
    before = books_of(gateway)

    def kill() -> None:
        for _ in range(2):
            time.sleep(1.5)
            gateway.service.kill()
            gateway.service.start()

    with meanwhile(kill):
        result = run_traffic(gateway.gateway_url, seconds=8)

    assert_nothing_lost(gateway, before, result)


def test_nothing_is_lost_with_a_killed_redis(gateway: GatewayUnderTest, own_redis: RedisServer) -> None:
    before = books_of(gateway)

    def kill() -> None:
        for _ in range(2):
            time.sleep(1.5)
            own_redis.kill()
            time.sleep(1.5)
            own_redis.start()

    with meanwhile(kill):
        result = run_traffic(gateway.gateway_url, seconds=7, retry=None)

    assert_all_served(result)
    assert_nothing_lost(gateway, before, result)


def test_nothing_is_lost_with_a_paused_redis(gateway: GatewayUnderTest, own_redis: RedisServer) -> None:
    before = books_of(gateway)

    def pause() -> None:
        time.sleep(1)
        own_redis.pause()
        time.sleep(OUTAGE_SECONDS)
        own_redis.resume()

    with meanwhile(pause):
        result = run_traffic(gateway.gateway_url, seconds=OUTAGE_SECONDS + 2, retry=None)

    assert_all_served(result)
    assert_nothing_lost(gateway, before, result)


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_nothing_is_lost_without_a_network_to_redis(
    proxied: GatewayUnderTest, proxy: TcpProxy, fault: str
) -> None:
    before = books_of(proxied)

    def break_off() -> None:
        time.sleep(1)
        getattr(proxy, fault)()
        time.sleep(OUTAGE_SECONDS)
        proxy.mend()

    with meanwhile(break_off):
        result = run_traffic(proxied.gateway_url, seconds=OUTAGE_SECONDS + 2, retry=None)

    assert_all_served(result)
    assert_nothing_lost(proxied, before, result)


def test_nothing_counts_twice_whose_answer_comes_late_or_never(
    proxied: GatewayUnderTest, proxy: TcpProxy
) -> None:
    before = books_of(proxied)
    late = proxy.delay_replies(0.01, 0.3)
    lost = proxy.drop_replies(0.01)

    result = run_traffic(proxied.gateway_url, seconds=8, retry=None)

    print(f"{late.struck} replies late, {lost.struck} lost")
    proxy.mend()
    assert late.struck > 0
    assert lost.struck > 0
    assert_all_served(result)
    assert_nothing_lost(proxied, before, result)


def test_nothing_is_lost_with_a_worker_killed_while_redis_is_paused(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    before = books_of(gateway)

    def pause_and_kill() -> None:
        time.sleep(1)
        own_redis.pause()
        for number in range(3):
            time.sleep(1.5)
            gateway.service.kill_worker(number)
        time.sleep(1.5)
        own_redis.resume()

    with meanwhile(pause_and_kill):
        result = run_traffic(gateway.gateway_url, seconds=8)

    assert_nothing_lost(gateway, before, result)


def test_nothing_is_lost_with_a_gateway_killed_and_started_again_without_redis(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    before = books_of(gateway)

    def kill_both() -> None:
        time.sleep(2)
        own_redis.kill()
        time.sleep(2)
        gateway.service.kill()
        gateway.service.start()
        time.sleep(2)
        own_redis.start()

    with meanwhile(kill_both):
        result = run_traffic(gateway.gateway_url, seconds=9)

    assert_nothing_lost(gateway, before, result)


def test_a_wiped_redis_begins_at_zero(gateway: GatewayUnderTest, own_redis: RedisServer) -> None:
    first = run_traffic(gateway.gateway_url, seconds=3, retry=None)
    own_redis.wipe()
    before = books_of(gateway)
    assert [books.counted.calls for books in before.values()] == [0, 0]

    second = run_traffic(gateway.gateway_url, seconds=4, retry=None)

    assert_all_served(first)
    assert_all_served(second)
    assert_nothing_lost(gateway, before, second)


def test_a_redis_that_is_emptied_while_the_gateway_is_stopped_begins_at_zero(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    first = run_traffic(gateway.gateway_url, seconds=3, retry=None)
    assert_all_served(first)
    gateway.service.stop()
    own_redis.wipe()
    before = books_of(gateway)
    gateway.service.start()

    second = run_traffic(gateway.gateway_url, seconds=3, retry=None)

    assert_all_served(second)
    assert_nothing_lost(gateway, before, second)


def test_what_is_counted_stays_as_it_is_when_the_gateway_is_stopped_and_started(
    gateway: GatewayUnderTest, own_redis: RedisServer
) -> None:
    before = books_of(gateway)
    results = []
    for _ in range(3):
        results.append(run_traffic(gateway.gateway_url, seconds=1.5, retry=None))
        gateway.service.stop()
        gateway.service.start()
    time.sleep(2)  # for those who look for journals

    for result in results:
        assert_all_served(result)
    assert_nothing_lost(gateway, before, results[-1])
