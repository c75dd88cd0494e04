"""Two gateways behind HAProxy, as the example has them, are restarted one after the other under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.compose import Compose, docker
from tests.support.load import Outcome, run_load
from tests.support.processes import ROOT
from tests.support.traffic import CLIENTS, chat_body, meanwhile
from tests.support.waiting import eventually

EXAMPLE = ROOT / "docs" / "examples" / "replicas"
REPLICAS = {"gateway1", "gateway2"}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Compose]:
    """The example's stack."""
    compose = Compose(files=(EXAMPLE / "compose.yml",))
    try:
        compose("build", "gateway", "cheap_model", "expensive_model")
        compose.up()
        assert eventually(lambda: served_by(compose) == REPLICAS, 20)
        yield compose
    finally:
        compose.remove()


def served_by(compose: Compose) -> set[str]:
    """Which replicas answer at the front."""
    with requests.Session() as client:
        looks = [client.get(f"{compose.url()}/readyz", timeout=10) for _ in range(8)]
    return {look.headers["X-Served-By"] for look in looks if look.ok}


def total_of_models(compose: Compose, figure: str) -> Any:
    ledgers = [requests.get(compose.url(port) + "/ledger", timeout=5).json() for port in (8081, 8082)]
    return sum(ledger[figure] for ledger in ledgers)


def test_a_rolling_restart_under_load_loses_no_request(replicas: Compose) -> None:
    restarted = threading.Event()

    def restart_all() -> None:
        try:
            time.sleep(2)
            for container in replicas("ps", "--quiet", "gateway").stdout.split():
                docker("restart", container)
                assert eventually(lambda: served_by(replicas) == REPLICAS, 60)
            time.sleep(1)
        finally:
            restarted.set()

    outcomes: list[Outcome] = []
    began = time.monotonic()
    with meanwhile(restart_all):
        while not restarted.is_set():
            first = len(outcomes)
            outcomes += run_load(
                [replicas.url()],
                clients=CLIENTS,
                requests=10 * CLIENTS,
                body=lambda number, first=first: chat_body(first + number),  # type: ignore[misc]
            ).outcomes
    print(f"{len(outcomes)} requests in {time.monotonic() - began:.1f} s")
    assert len(outcomes) > 100
    lost = [outcome for outcome in outcomes if not outcome.whole]
    assert not lost, lost[:5]

    def agrees() -> bool:
        metrics = replicas.metrics()
        cost = pytest.approx(total_of_models(replicas, "cost_usd"), abs=1e-9)
        is_calls = metrics["totalRequests"] == total_of_models(replicas, "calls")
        return bool(is_calls and metrics["totalCostUsd"] == cost)

    assert eventually(agrees, 10), (replicas.metrics(), total_of_models(replicas, "calls"))
    assert total_of_models(replicas, "calls") == len(outcomes)
