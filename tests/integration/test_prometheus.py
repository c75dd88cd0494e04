"""`/metrics` as text for Prometheus: the shared counters from every worker, and the gauges without Redis."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import redis
import requests
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.ledger.connection import connect
from gateway.ledger.names import Names
from gateway.ledger.totals import MODEL_COUNTERS, REPORTED_USD, ModelCounters, TotalsReader
from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import RedisServer
from tests.support.proxy import TcpProxy, tcp_proxy
from tests.support.stack import LONG, MODELS, ONE_CALL, SHORT
from tests.support.waiting import eventually

SETTINGS = ONE_CALL

OF_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PARSERS: dict[str, Callable[[str], Iterable[Metric]]] = {
    "text/plain; version=0.0.4; charset=utf-8": parse_text,
    "application/openmetrics-text; version=1.0.0; charset=utf-8": parse_openmetrics,
}
REQUESTS = 60
SCRAPES = 24
WELL = {"ledger_unavailable": 0, "journal_unwritable": 0}
LOST = {"ledger_unavailable": 1, "journal_unwritable": 0}

Samples = dict[tuple[str, ...], float]


def scrape(gateway: GatewayUnderTest, accept: str = OF_PROMETHEUS) -> Samples:
    """Every value by its name and the values of its labels, in the order of their names."""
    answer = requests.get(f"{gateway.gateway_url}/metrics", headers={"Accept": accept}, timeout=5)
    assert answer.status_code == 200
    assert answer.headers["Vary"] == "Accept"
    families = PARSERS[answer.headers["Content-Type"]](answer.text)
    read = [sample for family in families for sample in family.samples]
    return {(one.name, *(one.labels[name] for name in sorted(one.labels))): one.value for one in read}


def counters_of(found: Samples) -> Samples:
    return {series: value for series, value in found.items() if series[0].endswith("_total")}


def degraded(found: Samples) -> dict[str, float]:
    return {series[1]: value for series, value in found.items() if series[0] == "llm_gateway_degraded"}


def backlog(found: Samples) -> float:
    return found["llm_gateway_journal_backlog_bytes",]


def usd(counter: str) -> float:
    """A counter of Redis without the noise of its floats."""
    return float(Decimal(counter).quantize(REPORTED_USD))


@pytest.fixture
def redis_proxy(redis_url: str) -> Iterator[TcpProxy]:
    with tcp_proxy(redis_url) as proxy:
        yield proxy


def test_every_worker_and_replica_says_what_redis_has(start_gateway: StartGateway) -> None:
    settings = {"WEB_CONCURRENCY": "2", "FORWARD_MOCK_FAULTS": "on"}
    first = start_gateway(REDIS_KEY_PREFIX=f"test-{uuid.uuid4().hex}", **settings)
    second = start_gateway(REDIS_KEY_PREFIX=first.redis_prefix, **settings)
    gateways = (first, second)

    def send(number: int) -> None:
        gateway, prompt = gateways[number % 2], LONG if number % 3 == 0 else SHORT
        if number % 10 == 0:
            refused = gateway.post(
                {"messages": [{"role": "user", "content": prompt}]}, headers={"X-Mock-Fault": "status=500"}
            )
            assert refused.status_code == 502
        else:
            gateway.chat(prompt, stream=number % 4 == 0).raise_for_status()

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(send, range(REQUESTS)))
        scrapes = list(clients.map(lambda number: scrape(gateways[number % 2]), range(SCRAPES)))

    in_redis = first.counters()
    expected: Samples = {("llm_gateway_baseline_cost_usd_total",): usd(in_redis["baseline_cost_usd"])}
    for model in MODELS:
        of_model = {name: in_redis.get(f"model:{model}:{name}", "0") for name in MODEL_COUNTERS}
        expected |= {
            ("llm_gateway_requests_total", model): int(of_model["requests"]),
            ("llm_gateway_errors_total", model): int(of_model["errors"]),
            ("llm_gateway_cost_usd_total", model): usd(of_model["cost_usd"]),
            ("llm_gateway_tokens_total", model, "input"): int(of_model["input_tokens"]),
            ("llm_gateway_tokens_total", model, "output"): int(of_model["output_tokens"]),
            ("llm_gateway_tokens_total", model, "cached_input"): int(of_model["cached_input_tokens"]),
        }
    assert counters_of(scrapes[0]) == expected
    assert sum(expected["llm_gateway_errors_total", model] for model in MODELS) == REQUESTS / 10
    assert all(found == scrapes[0] for found in scrapes)
    assert degraded(scrapes[0]) == WELL
    assert backlog(scrapes[0]) == 0
    workers = {
        line["process"]
        for gateway in gateways
        for line in gateway.service.log_lines
        if line["message"] == "request" and line["path"] == "/metrics"
    }
    assert len(workers) > 2, "one gateway answered from one worker alone"


def test_both_formats_and_the_json_agree(gateway: GatewayUnderTest) -> None:
    gateway.chat(SHORT).raise_for_status()
    figures = gateway.metrics()
    for accept in ("text/plain", "application/openmetrics-text", OF_PROMETHEUS):
        found = scrape(gateway, accept)
        requests_of = {model: found["llm_gateway_requests_total", model] for model in MODELS}
        assert requests_of == figures["modelUsageCount"]
        costs = [found["llm_gateway_cost_usd_total", model] for model in MODELS]
        assert sum(costs) == pytest.approx(figures["totalCostUsd"], abs=1e-12)


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, text/plain, */*"])
def test_the_json_is_what_it_was(gateway: GatewayUnderTest, accept: str | None) -> None:
    answer = requests.get(f"{gateway.gateway_url}/metrics", headers={"Accept": accept}, timeout=5)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Vary"] == "Accept"
    assert list(answer.json()) == ["totalRequests", "totalCostUsd", "modelUsageCount"]


def test_without_redis_the_gauges_tell_it_and_requests_are_served(
    start_gateway: StartGateway, redis_proxy: TcpProxy
) -> None:
    gateway = start_gateway(REDIS_URL=redis_proxy.url, WEB_CONCURRENCY="1")
    gateway.chat(SHORT).raise_for_status()
    before = scrape(gateway)
    assert degraded(before) == WELL
    assert before["llm_gateway_requests_total", "CheapModel"] == 1

    redis_proxy.cut()

    assert degraded(scrape(gateway)) == LOST
    assert gateway.chat(SHORT).status_code == 200
    during = scrape(gateway)
    assert degraded(during) == LOST
    assert counters_of(during) == {}
    assert backlog(during) > 0
    assert requests.get(f"{gateway.gateway_url}/metrics", timeout=5).status_code == 503
    gateway.chat(SHORT).raise_for_status()
    assert backlog(scrape(gateway)) > backlog(during)

    redis_proxy.mend()

    assert eventually(lambda: degraded(scrape(gateway)) == WELL)
    after = scrape(gateway)
    assert after["llm_gateway_requests_total", "CheapModel"] == 3
    assert after.keys() == before.keys()
    assert backlog(after) == 0


def test_only_the_first_scrape_waits_for_a_redis_that_is_silent(
    start_gateway: StartGateway, redis_proxy: TcpProxy
) -> None:
    gateway = start_gateway(REDIS_URL=redis_proxy.url, WEB_CONCURRENCY="1", REDIS_TIMEOUT_SECONDS="1")
    scrape(gateway)
    redis_proxy.stall()
    took = []
    for _ in range(5):
        started = time.monotonic()
        assert degraded(scrape(gateway)) == LOST
        took.append(time.monotonic() - started)
    redis_proxy.mend()
    assert took[0] < 1.9
    assert max(took[1:]) < 0.5
    assert eventually(lambda: degraded(scrape(gateway)) == WELL)


def test_a_journal_that_cannot_be_written_is_told(start_gateway: StartGateway) -> None:
    gateway = start_gateway(JOURNAL_DIR="/proc/no-such-place")
    gateway.chat(SHORT).raise_for_status()
    found = scrape(gateway)
    assert degraded(found) == {"ledger_unavailable": 0, "journal_unwritable": 1}
    assert found["llm_gateway_requests_total", "CheapModel"] == 1
    assert backlog(found) == 0


def test_counters_that_are_no_numbers_are_not_shown(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    gateway.chat(SHORT).raise_for_status()
    with redis.Redis.from_url(gateway.redis_url) as client:
        client.set(f"{gateway.redis_prefix}:model:CheapModel:output_tokens", "many")
    found = scrape(gateway)
    assert degraded(found) == LOST
    assert counters_of(found) == {}
    assert gateway.metrics()["totalRequests"] == 1  # needs no tokens


def test_all_counters_are_read_by_one_command_and_those_of_models_that_left_too(
    own_redis: RedisServer,
) -> None:
    names = Names("test")
    with connect(own_redis.url, 5) as client:

        def commands() -> int:
            statistics: dict[str, dict[str, int]] = client.info("commandstats")
            return sum(command["calls"] for command in statistics.values())

        client.mset({names.total("requests"): 7, names.total("baseline_cost_usd"): "0.5"})
        client.mset({names.model("Kept", "requests"): 3, names.model("Kept", "cached_input_tokens"): 2})
        client.mset({names.model("Left", "requests"): 4, names.model("Left", "cost_usd"): "0.25"})
        client.mset({names.model("LeftUnused", "requests"): 0, names.model("LeftUnused", "errors"): 9})
        reader = TotalsReader(client, names)

        totals = reader.read_models(["Kept", "New"])

        assert totals.baseline_cost == Decimal("0.5")
        assert totals.models == {
            "Kept": ModelCounters(3, 0, Decimal(0), 0, 0, 2),
            "New": ModelCounters(0, 0, Decimal(0), 0, 0, 0),
            "Left": ModelCounters(4, 0, Decimal("0.25"), 0, 0, 0),
        }
        before = commands()
        assert reader.read_models(["Kept", "New"]) == totals
        assert commands() - before == 2  # one of them asks for these statistics
