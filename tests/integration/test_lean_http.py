"""The lean way of HTTP and gunicorn's: whatever bytes a client sends, both answer alike, keep or close its
connection alike, and count alike. What each answer is: `test_bad_http.py`, `test_bad_transfers.py`."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.conversations import CONVERSATIONS, GOOD, LIMIT, Heard, Step, told
from tests.support.wire import ask, post

pytestmark = pytest.mark.heavy

SETTINGS = {"WEB_CONCURRENCY": "1", "MAX_REQUEST_BYTES": str(LIMIT), "FORWARD_MOCK_FAULTS": "on"}
SERVERS = ("lean", "gunicorn")


def counted(gateway: GatewayUnderTest, before: dict[str, str]) -> dict[str, Decimal]:
    """By how much each counter has changed."""
    changes = {
        name: round(Decimal(value) - Decimal(before.get(name, 0)), 9)
        for name, value in gateway.counters().items()
        if re.fullmatch(r"-?[\d.e-]+", value)
    }
    return {name: change for name, change in changes.items() if change}


@pytest.fixture(scope="module")
def gateways(start_gateway: StartGateway) -> list[GatewayUnderTest]:
    """One of each, whose only workers have to survive all of it."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda server: start_gateway(HTTP_SERVER=server), SERVERS))


@pytest.mark.parametrize("steps", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_both_servers_answer_alike(gateways: list[GatewayUnderTest], steps: list[Step]) -> None:
    before = [gateway.counters() for gateway in gateways]
    lean, plain = (told(gateway.gateway_url, steps) for gateway in gateways)
    assert lean == plain
    assert not any(isinstance(answer, Heard) and b"/smuggled" in answer.body for answer in lean)
    assert counted(gateways[0], before[0]) == counted(gateways[1], before[1])


def test_what_alone_gunicorn_minds_are_proxies_that_contradict_each_other(
    gateways: list[GatewayUnderTest],
) -> None:
    request = post(GOOD, "X-Forwarded-Proto: http", "X-Forwarded-Ssl: on")
    # The gateway makes no address of its own by which it could matter what its clients have spoken.
    assert [ask(gateway.gateway_url, request).status for gateway in gateways] == [200, 400]


def test_after_all_that_both_serve_as_ever_each_in_its_own_way(gateways: list[GatewayUnderTest]) -> None:
    for gateway, reason in zip(gateways, ("Bad Request", "BAD REQUEST"), strict=True):
        assert gateway.post({}).reason == reason
        assert gateway.chat().status_code == 200
        assert "Traceback" not in gateway.service.log
