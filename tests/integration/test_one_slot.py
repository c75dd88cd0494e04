"""With a prefix in braces all keys of a request lie in one slot, as a Redis Cluster demands of a script."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests

from tests.conftest import StartGateway
from tests.support.processes import RedisServer
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

SLOTS = 16384


@pytest.fixture
def cluster_of_one(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis in cluster mode that has all slots; it refuses what spans two of them."""
    server = RedisServer(tmp_path, options=("--cluster-enabled", "yes"))
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS))
            assert eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 10)
        yield server
    finally:
        server.kill()


def test_keys_budgets_and_counters_work_in_one_slot(
    start_gateway: StartGateway, cluster_of_one: RedisServer
) -> None:
    gateway = start_gateway(
        REDIS_URL=cluster_of_one.url,
        REDIS_KEY_PREFIX=f"{{test-{uuid.uuid4().hex}}}",
        GATEWAY_ADMIN_KEY=ADMIN_KEY,
        GATEWAY_BUDGET_USD="1",
    )
    key_id, headers = create_key(gateway.gateway_url, budget_usd="0.5", rpm=100, owner="somebody")
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    owner = f"{gateway.gateway_url}/admin/owners/somebody"
    requests.put(owner, json={"budget_usd": 0.7}, headers=admin, timeout=10).raise_for_status()

    for content in (SHORT, LONG):
        body = {"messages": [{"role": "user", "content": content}], "stream": content == LONG}
        assert gateway.post(body, headers=headers).status_code == 200

    assert gateway.metrics()["totalRequests"] == 2
    rotated = requests.post(
        f"{gateway.gateway_url}/admin/keys/{key_id}/rotate", headers=admin, timeout=10
    ).json()
    assert rotated["usage"]["requests"] == 2
    assert rotated["budget_spent_usd"] == pytest.approx(gateway.metrics()["totalCostUsd"])
    listed = requests.get(f"{gateway.gateway_url}/admin/keys", headers=admin, timeout=10).json()
    assert [each["id"] for each in listed["data"]] == [key_id]
    with redis.Redis.from_url(cluster_of_one.url, decode_responses=True) as client:
        slots = {client.execute_command("CLUSTER KEYSLOT", name) for name in client.keys("*")}
    assert len(slots) == 1
