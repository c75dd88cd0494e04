"""Calls whose worker dies in the middle of them are billed all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import ROOT
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import ONE_CALL, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

SETTINGS = ONE_CALL

SLOW = {"X-Mock-Fault": "slow=4"}


@contextmanager
def worker_killed_in_a_call(
    gateway: GatewayUnderTest, headers: dict[str, str], **body: Any
) -> Iterator[None]:
    """One call that is at its provider when its worker dies."""
    request = {"messages": [{"role": "user", "content": SHORT}], **body}

    def ask() -> None:
        with suppress(requests.RequestException):
            gateway.post(request, headers={**headers, **SLOW})

    client = threading.Thread(target=ask)
    client.start()
    journal = Path(gateway.service.environ["JOURNAL_DIR"])
    assert eventually(lambda: any(b'"open"' in path.read_bytes() for path in journal.rglob("*.journal")))
    time.sleep(0.5)  # and is sent, and takes four seconds there
    gateway.service.kill_worker()
    client.join()
    yield


def record_of(gateway: GatewayUnderTest, key_id: str) -> dict[str, Any]:
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    answer = requests.get(f"{gateway.gateway_url}/admin/keys/{key_id}", headers=admin, timeout=10)
    record: dict[str, Any] = answer.json()
    return record


def test_a_provider_that_can_be_asked_says_what_it_billed(start_gateway: StartGateway) -> None:
    gateway = start_gateway(GATEWAY_ADMIN_KEY=ADMIN_KEY, FORWARD_MOCK_FAULTS="on", WEB_CONCURRENCY="1")
    key_id, headers = create_key(gateway.gateway_url, budget_usd="1")
    before = gateway.billed("CheapModel")

    with worker_killed_in_a_call(gateway, headers):
        # The prompt alone: its client had left before there was an answer.
        assert eventually(lambda: gateway.counters().get("cost_usd") == "0.0000014", 15)

    assert (gateway.billed("CheapModel") - before).cost_usd == gateway.counted("CheapModel").cost_usd
    assert "model:CheapModel:estimated_calls" not in gateway.counters()
    record = record_of(gateway, key_id)
    assert (record["budget_held_usd"], record["budget_spent_usd"]) == (0, 0.0000014)


def test_without_a_provider_to_ask_the_prompt_is_billed_by_estimate_and_the_hold_stays_until_it_lapses(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    models = (ROOT / "gateway" / "models.toml").read_text()
    (tmp_path / "models.toml").write_text(models.replace('bill_path = "/ledger/{call_id}"\n', ""))
    gateway = start_gateway(
        GATEWAY_ADMIN_KEY=ADMIN_KEY,
        FORWARD_MOCK_FAULTS="on",
        WEB_CONCURRENCY="1",
        BUDGET_HOLD_SECONDS="8",
        MODELS_FILE=str(tmp_path / "models.toml"),
    )
    key_id, headers = create_key(gateway.gateway_url, budget_usd="1")

    with worker_killed_in_a_call(gateway, headers, max_tokens=1000):
        assert eventually(lambda: gateway.counters().get("model:CheapModel:estimated_calls") == "1", 15)

    assert gateway.counters()["model:CheapModel:estimated_cost_usd"] == "0.0000014"
    assert gateway.counters()["requests"] == "0"
    record = record_of(gateway, key_id)
    assert (record["budget_held_usd"], record["budget_spent_usd"]) == (0.0004014, 0.0000014)
    assert eventually(lambda: record_of(gateway, key_id)["budget_held_usd"] == 0, 10)
