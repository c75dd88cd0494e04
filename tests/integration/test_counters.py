"""The counters hold across workers, replicas, restarts and killed processes."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.prompts import CLIENTS, ask, expected_model, prompts
from tests.support.proxy import TcpProxy, tcp_proxy
from tests.support.stack import LONG, MODELS, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.load

REQUESTS = 200


def send(gateway: GatewayUnderTest, number: int) -> None:
    answer = gateway.chat(LONG if number % 4 == 0 else SHORT, stream=number % 2 == 0)
    answer.raise_for_status()


def test_every_worker_and_replica_counts_into_the_same_totals(start_gateway: StartGateway) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    first = start_gateway(REDIS_KEY_PREFIX=prefix, WEB_CONCURRENCY="2")
    second = start_gateway(REDIS_KEY_PREFIX=prefix, WEB_CONCURRENCY="2")
    before = {model: first.billed(model) for model in first.model_urls}

    with ThreadPoolExecutor(32) as clients:
        list(clients.map(lambda number: send((first, second)[number % 2], number), range(REQUESTS)))

    workers = {
        line["process"]
        for gateway in (first, second)
        for line in gateway.service.log_lines
        if line["message"] == "request" and "model" in line
    }
    assert len(workers) > 2, "one gateway used one worker alone"
    assert first.metrics() == second.metrics()
    assert first.metrics()["totalRequests"] == REQUESTS
    for model in first.model_urls:
        assert first.counted(model).rounded() == (first.billed(model) - before[model]).rounded()


def test_counters_survive_a_restart_of_the_gateway(start_gateway: StartGateway) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    first = start_gateway(REDIS_KEY_PREFIX=prefix)
    send(first, 1)
    before = first.metrics()
    assert first.service.stop() == 0

    second = start_gateway(REDIS_KEY_PREFIX=prefix)

    assert second.metrics() == before
    send(second, 1)
    assert second.metrics()["totalRequests"] == 2


def ask_until_whole(gateway: GatewayUnderTest, number: int, prompt: str) -> tuple[str, int]:
    """The model that answered whole, and how many attempts broke before."""
    for broken in range(20):
        try:
            return ask(gateway, number, prompt), broken
        except (requests.RequestException, AssertionError):
            continue
    raise AssertionError("20 attempts broke")


@pytest.mark.timeout(300)
def test_a_killed_worker_loses_no_answer_that_a_client_saw_whole(start_gateway: StartGateway) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="2")
    before = {model: gateway.billed(model) for model in MODELS}
    questions = prompts()
    with ThreadPoolExecutor(CLIENTS) as clients:
        asked = [clients.submit(ask_until_whole, gateway, *item) for item in enumerate(questions)]
        time.sleep(3)
        os.kill(gateway.service.workers[0].pid, signal.SIGKILL)
        answers = [answer.result() for answer in asked]

    seen = Counter(model for model, _ in answers)
    assert seen == Counter(expected_model(question) for question in questions)
    assert sum(broken for _, broken in answers) > 0, "no request was in work when the worker was killed"
    metrics = gateway.metrics()
    for model in MODELS:
        counted, billed = gateway.counted(model), gateway.billed(model) - before[model]
        assert seen[model] <= counted.calls <= billed.calls
        assert counted.calls == metrics["modelUsageCount"][model]
        assert counted.input_tokens <= billed.input_tokens
        assert counted.output_tokens <= billed.output_tokens
        assert counted.cost_usd <= billed.cost_usd


@pytest.fixture
def redis_proxy(redis_url: str) -> Iterator[TcpProxy]:
    with tcp_proxy(redis_url) as proxy:
        yield proxy


def test_calls_are_served_and_counted_later_while_redis_is_gone(
    start_gateway: StartGateway, redis_proxy: TcpProxy
) -> None:
    gateway = start_gateway(REDIS_URL=redis_proxy.url, WEB_CONCURRENCY="1")
    send(gateway, 1)

    redis_proxy.cut()

    ready = requests.get(f"{gateway.gateway_url}/readyz", timeout=5)
    assert ready.status_code == 503
    assert ready.json()["reasons"][0].startswith("ledger_unavailable: ")
    assert requests.get(f"{gateway.gateway_url}/healthz", timeout=5).status_code == 200
    figures = requests.get(f"{gateway.gateway_url}/metrics", timeout=5)
    assert figures.status_code == 503
    assert figures.json()["error"]["code"] == "ledger_unavailable"
    assert figures.headers["Retry-After"] == "1"
    for number in range(4):
        send(gateway, number)

    redis_proxy.mend()

    assert eventually(lambda: gateway.metrics().get("totalRequests") == 5)
    assert requests.get(f"{gateway.gateway_url}/readyz", timeout=5).status_code == 200


def test_nothing_is_given_away_while_neither_redis_nor_a_journal_counts(
    start_gateway: StartGateway, redis_proxy: TcpProxy
) -> None:
    nowhere = "/proc/no-such-place"  # where even root can make no folder
    gateway = start_gateway(REDIS_URL=redis_proxy.url, WEB_CONCURRENCY="1", JOURNAL_DIR=nowhere)
    send(gateway, 1)
    billed = gateway.billed("CheapModel")

    redis_proxy.cut()
    gateway.metrics()

    answer = gateway.chat(SHORT)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "ledger_unavailable"
    assert answer.headers["Retry-After"] == "1"
    assert gateway.billed("CheapModel") == billed

    redis_proxy.mend()

    assert eventually(lambda: gateway.chat(SHORT).status_code == 200)
    assert gateway.metrics()["totalRequests"] == 2


def test_calls_are_counted_later_while_redis_takes_no_writes(
    start_gateway: StartGateway, redis_url: str
) -> None:
    user = f"test-{uuid.uuid4().hex}"
    with redis.Redis.from_url(redis_url) as admin:

        def allow(*commands: str) -> None:
            admin.acl_setuser(user, enabled=True, passwords=["+secret"], keys=["*"], commands=commands)

        allow("+@all")
        gateway = start_gateway(
            REDIS_URL=redis_url.replace("redis://", f"redis://{user}:secret@"), WEB_CONCURRENCY="1"
        )
        try:
            send(gateway, 1)
            allow("-incrby", "-incrbyfloat")  # as a replica or a full Redis, which still answer PING

            for _ in range(4):
                # That it can be read does not mean that it takes a bill.
                assert requests.get(f"{gateway.gateway_url}/metrics", timeout=5).status_code == 200
                send(gateway, 1)

            assert requests.get(f"{gateway.gateway_url}/readyz", timeout=5).status_code == 503
            assert gateway.metrics()["totalRequests"] == 1
            allow("+@all")
            assert eventually(lambda: gateway.metrics()["totalRequests"] == 5)
            assert "secret" not in gateway.service.log
        finally:
            admin.acl_deluser(user)


@pytest.mark.parametrize("garbage", ["nan", "many"])
def test_a_counter_that_holds_no_number_is_no_figure(start_gateway: StartGateway, garbage: str) -> None:
    gateway = start_gateway()
    with redis.Redis.from_url(gateway.redis_url) as client:
        client.set(f"{gateway.redis_prefix}:cost_usd", garbage)
    answer = requests.get(f"{gateway.gateway_url}/metrics", timeout=5)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "ledger_unavailable"


def is_unbilled(line: dict[str, Any]) -> bool:
    return line.get("error") == "ledger_unavailable" and line.get("path") == "/v1/chat/completions"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_can_be_counted_nowhere_is_not_given_whole(
    start_gateway: StartGateway, redis_proxy: TcpProxy, stream: bool
) -> None:
    gateway = start_gateway(REDIS_URL=redis_proxy.url, WEB_CONCURRENCY="1", JOURNAL_DIR="/proc/no-such-place")
    send(gateway, 1)
    redis_proxy.stall()

    answer = gateway.chat(SHORT, stream=stream)

    if stream:
        assert b"[DONE]" not in answer.content
        assert b'"code": "ledger_unavailable"' in answer.content
    else:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "ledger_unavailable"
    assert eventually(lambda: any(map(is_unbilled, gateway.service.log_lines)))
    line = next(filter(is_unbilled, gateway.service.log_lines))
    assert line["recorded"] is False
    assert line["cost_usd"] == "0.000005"
    redis_proxy.mend()
    # The worker has not forgotten it.
    assert eventually(lambda: gateway.metrics().get("totalRequests") == 2)


def test_a_redis_that_was_restarted_is_used_again_at_once(
    start_gateway: StartGateway, redis_proxy: TcpProxy
) -> None:
    gateway = start_gateway(REDIS_URL=redis_proxy.url, WEB_CONCURRENCY="1")
    with ThreadPoolExecutor(16) as clients:
        list(clients.map(lambda number: send(gateway, 1), range(32)))
    redis_proxy.cut()
    redis_proxy.mend()
    for _ in range(20):
        send(gateway, 1)
    assert eventually(lambda: gateway.counted("CheapModel").calls == 52)


def test_totals_equal_the_sum_of_the_models_while_requests_run(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    with ThreadPoolExecutor(16) as clients:
        running = [clients.submit(send, gateway, number) for number in range(100)]
        while not all(request.done() for request in running):
            metrics = gateway.metrics()
            assert metrics["totalRequests"] == sum(metrics["modelUsageCount"].values())
    assert gateway.counters()["requests"] == "100"
    total = sum(gateway.counted(model).cost_usd for model in gateway.model_urls)
    assert gateway.metrics()["totalCostUsd"] == pytest.approx(float(total), abs=1e-12)
