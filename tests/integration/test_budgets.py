"""A budget holds: never overspent, and nobody is refused while it affords more than one request, whatever
dies meanwhile."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

import pytest

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import RedisServer
from tests.support.proxy import tcp_proxy
from tests.support.spending import (
    ADMIN_KEY,
    BUDGET_USD,
    CENT_OF_A_CENT,
    Spending,
    again_unless_spent,
    create_key,
    spend,
)
from tests.support.traffic import meanwhile

pytestmark = [pytest.mark.heavy, pytest.mark.load]

FAULTS_FOR_SECONDS = 8


def two_gateways(start_gateway: StartGateway, redis_url: str, **settings: str) -> list[GatewayUnderTest]:
    prefix = f"test-{uuid.uuid4().hex}"
    common = {"REDIS_KEY_PREFIX": prefix, "GATEWAY_ADMIN_KEY": ADMIN_KEY, "WEB_CONCURRENCY": "2"}
    return [start_gateway(REDIS_URL=redis_url, **common, **settings) for _ in range(2)]


def assert_held(spending: Spending) -> None:
    print(spending.result, spending.spent)
    assert spending.spent <= BUDGET_USD + CENT_OF_A_CENT
    assert spending.spent >= BUDGET_USD * 97 / 100
    assert spending.refusals_too_early() == []


@pytest.mark.timeout(300)
def test_64_clients_of_two_gateways_spend_one_budget_to_its_end_and_no_further(
    start_gateway: StartGateway, redis_url: str
) -> None:
    gateways = two_gateways(start_gateway, redis_url)
    _, headers = create_key(gateways[0].gateway_url, budget_usd=str(BUDGET_USD))

    spending = spend(gateways[0], [each.gateway_url for each in gateways], headers)

    assert_held(spending)
    assert set(spending.result.statuses) == {200, 429}


@pytest.mark.timeout(300)
def test_a_budget_holds_while_workers_are_killed_every_second(
    start_gateway: StartGateway, redis_url: str
) -> None:
    gateways = two_gateways(start_gateway, redis_url)
    _, headers = create_key(gateways[0].gateway_url, budget_usd=str(BUDGET_USD))

    def kill() -> None:
        for number in range(FAULTS_FOR_SECONDS):
            time.sleep(1)
            gateways[number % 2].service.kill_worker(number)

    with meanwhile(kill):
        spending = spend(
            gateways[0], [each.gateway_url for each in gateways], headers, retry=again_unless_spent
        )

    assert_held(spending)


@pytest.mark.timeout(300)
def test_a_budget_holds_while_redis_is_killed_and_started_again(
    start_gateway: StartGateway, own_redis: RedisServer
) -> None:
    gateways = [replace(each, redis_url=own_redis.url) for each in two_gateways(start_gateway, own_redis.url)]
    _, headers = create_key(gateways[0].gateway_url, budget_usd=str(BUDGET_USD))

    def kill() -> None:
        for _ in range(3):
            time.sleep(1)
            own_redis.kill()
            time.sleep(1)
            own_redis.start()

    with meanwhile(kill):
        spending = spend(
            gateways[0], [each.gateway_url for each in gateways], headers, retry=again_unless_spent
        )

    assert_held(spending)


@pytest.mark.timeout(300)
def test_a_budget_holds_while_redis_is_paused_for_five_seconds(
    start_gateway: StartGateway, own_redis: RedisServer
) -> None:
    gateways = [replace(each, redis_url=own_redis.url) for each in two_gateways(start_gateway, own_redis.url)]
    _, headers = create_key(gateways[0].gateway_url, budget_usd=str(BUDGET_USD))

    def pause() -> None:
        time.sleep(1)
        own_redis.pause()
        time.sleep(5)
        own_redis.resume()

    with meanwhile(pause):
        spending = spend(
            gateways[0], [each.gateway_url for each in gateways], headers, retry=again_unless_spent
        )

    assert_held(spending)


@pytest.mark.timeout(300)
def test_a_budget_holds_while_every_hundredth_answer_of_redis_comes_too_late(
    start_gateway: StartGateway, redis_url: str
) -> None:
    with tcp_proxy(redis_url) as proxy:
        gateways = two_gateways(start_gateway, proxy.url)
        _, headers = create_key(gateways[0].gateway_url, budget_usd=str(BUDGET_USD))
        proxy.delay_replies(0.01, 0.5, b"EVALSHA")

        spending = spend(
            gateways[0], [each.gateway_url for each in gateways], headers, retry=again_unless_spent
        )

    assert_held(spending)
