"""Every wait for a provider has its limit, and nothing is held beyond it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.odd_providers import endless_provider, unreachable_provider
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import SHORT
from tests.support.waiting import eventually
from tests.support.wire import Answer, ask, head, post

pytestmark = pytest.mark.heavy

LIMIT = 0.4
# What a limit may be overrun by: a busy machine.
SLACK = 0.6
CATALOG = """
[CheapModel]
usd_per_million_tokens = {{input = 0.10, cached_input = 0.025, output = 0.40}}
base_url = "{mock}/v1"
bill_path = "/ledger/{{call_id}}"

[Unreachable]
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}
base_url = "{unreachable}"
timeouts = {{connect = {limit}, first_byte = 20, idle = 20, total = 20}}

[LateToBegin]
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}
base_url = "{mock}/v1"
timeouts = {{connect = 20, first_byte = {limit}, idle = 20, total = 20}}

[Silent]
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}
base_url = "{mock}/v1"
timeouts = {{connect = 20, first_byte = 20, idle = {limit}, total = 20}}

[Endless]
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}
base_url = "{endless}"
timeouts = {{connect = 20, first_byte = 20, idle = 20, total = {limit}}}

[Unlimited]
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}
base_url = "{endless}"
"""
# What each model's requests run into, by the fault that makes the mock do so, and whether a stream has begun.
LIMITS = [
    ("Unreachable", None, False),
    ("LateToBegin", "stall_before_first_byte", False),
    ("Silent", "stall_midstream", True),
    ("Endless", None, True),
]
each_limit = pytest.mark.parametrize(
    ("model", "fault", "begins"), LIMITS, ids=[model for model, *_ in LIMITS]
)
each_way = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@pytest.fixture(scope="module")
def gateway(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayUnderTest]:
    """One that has one request in work at a time, so that whoever holds a place too long is noticed."""
    catalog = tmp_path_factory.mktemp("deadlines") / "models.toml"
    with unreachable_provider() as unreachable, endless_provider() as endless:
        catalog.write_text(
            CATALOG.format(
                mock=model_urls["CheapModel"], unreachable=unreachable, endless=endless, limit=LIMIT
            )
        )
        yield start_gateway(
            MODELS_FILE=str(catalog),
            WEB_CONCURRENCY="1",
            MAX_REQUESTS_IN_WORK="1",
            MAX_QUEUED_REQUESTS="0",
            REQUEST_TIMEOUT_SECONDS="1.2",
            UPSTREAM_RETRIES="0",
            CIRCUIT_BREAKER="off",
            FORWARD_MOCK_FAULTS="on",
            GATEWAY_ADMIN_KEY=ADMIN_KEY,
        )


@pytest.fixture(scope="module")
def default_gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(WEB_CONCURRENCY="1", FORWARD_MOCK_FAULTS="on")


def request(
    gateway: GatewayUnderTest, model: str, *headers: str, stream: bool = False, fault: str | None = None
) -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": SHORT}], "stream": stream}
    sent = [*headers, *([f"X-Mock-Fault: {fault}"] if fault else [])]
    return ask(gateway.gateway_url, post(json.dumps(body).encode(), *sent))


def assert_too_late(answer: Answer, seconds: float, *, in_stream: bool) -> None:
    assert seconds <= answer.seconds <= seconds + SLACK
    if in_stream:
        assert answer.status == 200
        assert b"[DONE]" not in answer.body
        error = json.loads(answer.body.decode().strip().rpartition("data: ")[2])["error"]
    else:
        assert answer.status == 504
        error = answer.json()["error"]
    assert error["code"] == "upstream_timeout"


def assert_nothing_is_held(gateway: GatewayUnderTest, key_id: str | None = None) -> None:
    """No place: another request is served at once. No connection to any provider but those that are kept to
    the mock. No money."""
    answer = request(gateway, "CheapModel")
    assert (answer.status, answer.seconds < LIMIT + SLACK) == (200, True)
    known = {urlsplit(url).port for url in (gateway.redis_url, gateway.model_urls["CheapModel"])}

    def strangers() -> list[object]:
        connections = [each for worker in gateway.service.workers for each in worker.net_connections()]
        own = urlsplit(gateway.gateway_url).port
        return [
            each
            for each in connections
            if each.raddr and each.laddr.port != own and each.raddr.port not in known
        ]

    assert eventually(lambda: not strangers(), 1), strangers()
    if key_id is not None:
        path = f"{gateway.gateway_url}/admin/keys/{key_id}"
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        assert eventually(
            lambda: requests.get(path, headers=headers, timeout=5).json()["budget_held_usd"] == 0, 3
        )


@each_way
@each_limit
def test_each_limit_of_a_model_is_kept(
    gateway: GatewayUnderTest, model: str, fault: str | None, begins: bool, stream: bool
) -> None:
    key_id, headers = create_key(gateway.gateway_url, budget_usd="1")
    authorization = f"Authorization: {headers['Authorization']}"

    answer = request(gateway, model, authorization, stream=stream, fault=fault)

    assert_too_late(answer, LIMIT, in_stream=stream and begins)
    assert_nothing_is_held(gateway, key_id)


@each_way
@each_limit
def test_a_client_can_have_less_time_than_any_limit(
    gateway: GatewayUnderTest, model: str, fault: str | None, begins: bool, stream: bool
) -> None:
    answer = request(gateway, model, "X-Request-Timeout: 0.2", stream=stream, fault=fault)

    assert_too_late(answer, 0.2, in_stream=stream and begins)
    assert_nothing_is_held(gateway)


def test_a_body_has_no_more_time_than_its_request(gateway: GatewayUnderTest) -> None:
    answer = ask(gateway.gateway_url, head("Content-Length: 100", "X-Request-Timeout: 0.2"))

    assert answer.status == 408
    assert 0.2 <= answer.seconds <= 0.2 + SLACK
    assert_nothing_is_held(gateway)


@each_way
@pytest.mark.parametrize("told", [(), ("X-Request-Timeout: 3600",)], ids=["none", "an hour"])
def test_no_client_can_have_more_time_than_the_settings_allow(
    gateway: GatewayUnderTest, told: tuple[str, ...], stream: bool
) -> None:
    answer = request(gateway, "Unlimited", *told, stream=stream)

    assert_too_late(answer, 1.2, in_stream=stream)
    assert_nothing_is_held(gateway)


@pytest.mark.parametrize("told", ["0", "-1", "soon", "1e300", "nan"])
def test_a_time_that_is_none_is_refused_by_the_name_of_its_header(
    gateway: GatewayUnderTest, told: str
) -> None:
    answer = request(gateway, "CheapModel", f"X-Request-Timeout: {told}")

    assert answer.status == 400
    assert answer.json()["error"]["param"] == "X-Request-Timeout"


@each_way
@pytest.mark.parametrize(
    "fault",
    [
        "status=503",
        "status=429,retry_after=1",
        "connect_reset",
        "stall_before_first_byte",
        "cut_before_content",
    ],
)
def test_retries_and_fallbacks_end_with_the_requests_time(
    default_gateway: GatewayUnderTest, fault: str, stream: bool
) -> None:
    answer = request(default_gateway, "auto", "X-Request-Timeout: 0.3", stream=stream, fault=fault)

    assert answer.status in (429, 502, 504)
    assert answer.seconds <= 0.3 + SLACK


def test_who_has_too_little_time_shuts_no_model_for_others(default_gateway: GatewayUnderTest) -> None:
    for _ in range(15):  # more than the failures that open a circuit
        answer = request(default_gateway, "ExpensiveModel", "X-Request-Timeout: 0.05")
        assert (answer.status, answer.json()["error"]["code"]) == (504, "upstream_timeout")

    assert request(default_gateway, "ExpensiveModel").status == 200


def test_a_wait_for_a_budget_ends_with_the_requests_time(start_gateway: StartGateway) -> None:
    gateway = start_gateway(GATEWAY_ADMIN_KEY=ADMIN_KEY, FORWARD_MOCK_FAULTS="on", BUDGET_WAIT_SECONDS="20")
    key_id, headers = create_key(gateway.gateway_url, budget_usd="0.000100", on_budget="clamp")
    authorization = f"Authorization: {headers['Authorization']}"
    body = {"model": "ExpensiveModel", "messages": [{"role": "user", "content": SHORT}], "stream": True}

    with requests.post(  # holds all of the budget
        f"{gateway.gateway_url}/v1/chat/completions",
        json=body,
        headers={**headers, "X-Mock-Fault": "stall_midstream=3"},
        stream=True,
        timeout=10,
    ) as held:
        assert held.status_code == 200
        answer = request(gateway, "ExpensiveModel", authorization, "X-Request-Timeout: 0.3")
    assert_too_late(answer, 0.3, in_stream=False)

    def record() -> dict[str, object]:
        told: dict[str, object] = requests.get(
            f"{gateway.gateway_url}/admin/keys/{key_id}",
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
            timeout=5,
        ).json()
        return told

    assert eventually(lambda: record()["budget_held_usd"] == 0)
    assert Decimal(str(record()["budget_spent_usd"])) > 0
