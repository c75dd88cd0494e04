"""What a key may do: its budget and those above it, its limits per minute, its models."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import LONG, ONE_CALL, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

SETTINGS = ONE_CALL

FAULT = "X-Mock-Fault"
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(GATEWAY_ADMIN_KEY=ADMIN_KEY, FORWARD_MOCK_FAULTS="on", BUDGET_WAIT_SECONDS="0.5")


def ask(gateway: GatewayUnderTest, headers: dict[str, str], content: str = SHORT, **body: Any) -> Any:
    return gateway.post({"messages": [{"role": "user", "content": content}], **body}, headers=headers)


def error_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def record_of(gateway: GatewayUnderTest, key_id: str) -> dict[str, Any]:
    answer = requests.get(f"{gateway.gateway_url}/admin/keys/{key_id}", headers=ADMIN, timeout=10)
    record: dict[str, Any] = answer.json()
    return record


def test_an_answer_becomes_as_long_as_its_budget_affords(gateway: GatewayUnderTest) -> None:
    # 100 tokens of ExpensiveModel's answer and its prompt.
    key_id, headers = create_key(gateway.gateway_url, budget_usd="0.00052", period="day")

    answer = ask(gateway, headers, "[[write 800 tokens]]", model="ExpensiveModel", max_tokens=800)

    assert answer.status_code == 200
    told = answer.json()
    assert told["choices"][0]["finish_reason"] == "length"
    prompt_tokens = told["usage"]["prompt_tokens"]
    assert told["usage"]["completion_tokens"] == (520 - prompt_tokens) // 5
    afforded = f"the budget affords {told['usage']['completion_tokens']} tokens"
    assert answer.headers["X-Gateway-Reason"].endswith(afforded)
    record = record_of(gateway, key_id)
    assert record["budget_held_usd"] == 0
    assert record["budget_spent_usd"] == pytest.approx(float(answer.headers["X-Gateway-Cost-Usd"]))
    assert record["usage"]["output_tokens"] == told["usage"]["completion_tokens"]
    refused = ask(gateway, headers, model="ExpensiveModel")
    assert error_of(refused) == (429, "insufficient_quota")
    midnight = (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    until = (midnight - datetime.now(UTC)).total_seconds()
    assert int(refused.headers["Retry-After"]) == pytest.approx(until, abs=5)
    assert refused.headers["X-Should-Retry"] == "false"


@pytest.mark.parametrize("api", ["responses", "messages", "completions"])
def test_every_api_is_held_to_the_budget(gateway: GatewayUnderTest, api: str) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="0.00052")
    prompt = "[[write 800 tokens]]"
    bodies: dict[str, dict[str, Any]] = {
        "responses": {"input": prompt, "max_output_tokens": 800},
        "messages": {"messages": [{"role": "user", "content": prompt}], "max_tokens": 800},
        "completions": {"prompt": prompt, "max_tokens": 800},
    }
    before = gateway.billed("ExpensiveModel").cost_usd

    answer = requests.post(
        f"{gateway.gateway_url}/v1/{api}",
        json={"model": "ExpensiveModel", **bodies[api]},
        headers=headers,
        timeout=30,
    )

    assert answer.status_code == 200, answer.text
    assert Decimal("0.0004") < gateway.billed("ExpensiveModel").cost_usd - before <= Decimal("0.00052")


def test_a_call_that_fails_or_is_left_gives_back_what_it_held(gateway: GatewayUnderTest) -> None:
    key_id, headers = create_key(gateway.gateway_url, budget_usd="1", rpm=1000)
    assert ask(gateway, {**headers, FAULT: "status=500"}).status_code == 502
    assert ask(gateway, {**headers, FAULT: "connect_reset"}).status_code == 502
    assert ask(gateway, headers, temperature=3).status_code == 400
    with requests.post(
        f"{gateway.gateway_url}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "[[write 800 tokens]]"}], "stream": True},
        headers=headers,
        stream=True,
        timeout=10,
    ) as left:
        next(left.iter_content(10))
    assert eventually(lambda: record_of(gateway, key_id)["budget_held_usd"] == 0)
    with redis.Redis.from_url(gateway.redis_url) as client:
        assert client.zcard(f"{gateway.redis_prefix}:holds:key:{key_id}:total") == 0


def test_a_budget_that_others_hold_is_waited_for_and_then_refused_for_now(gateway: GatewayUnderTest) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="0.00006")
    slow = {**headers, FAULT: "slow=2"}
    with requests.Session() as session:
        running = session.post(
            f"{gateway.gateway_url}/v1/chat/completions",
            json={
                "messages": [{"role": "user", "content": SHORT}],
                "stream": True,
                "max_tokens": 4000,
            },
            headers=slow,
            stream=True,
            timeout=10,
        )
        started = time.monotonic()
        refused = ask(gateway, headers, max_tokens=4000)
        waited = time.monotonic() - started
        running.close()
    if refused.status_code == 429:  # the stream's first event may have come late
        assert error_of(refused) == (429, "insufficient_quota")
        assert refused.headers["Retry-After"] == "1"
        assert waited < 2


def test_budgets_nest(start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        GATEWAY_ADMIN_KEY=ADMIN_KEY, GATEWAY_BUDGET_USD="0.0003", GATEWAY_BUDGET_PERIOD="month"
    )
    owner = f"owner {uuid.uuid4().hex}"
    requests.put(
        f"{gateway.gateway_url}/admin/owners/{owner}",
        json={"budget_usd": 0.0001},
        headers=ADMIN,
        timeout=10,
    ).raise_for_status()
    first_id, first = create_key(gateway.gateway_url, owner=owner, budget_usd="0.00005")
    _, second = create_key(gateway.gateway_url, owner=owner)
    free: dict[str, Any] = {"max_tokens": 16, "model": "ExpensiveModel"}  # 94 millionths of a dollar at most

    assert error_of(ask(gateway, first, **free)) == (429, "insufficient_quota")
    assert ask(gateway, second, **free).status_code == 200
    refused = ask(gateway, second, **free)
    assert error_of(refused) == (429, "insufficient_quota")
    assert "owner" in refused.json()["error"]["message"]
    while (answer := ask(gateway, {}, **free)).status_code == 200:
        pass
    assert error_of(answer) == (429, "insufficient_quota")
    assert "gateway" in answer.json()["error"]["message"]
    assert gateway.metrics()["totalCostUsd"] <= 0.0003
    assert record_of(gateway, first_id)["usage"]["requests"] == 0


def test_a_nearly_spent_budget_goes_to_the_cheapest_model(gateway: GatewayUnderTest) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="0.002", on_budget="downgrade")
    first = ask(gateway, headers, LONG, max_tokens=300)
    assert first.headers["X-Gateway-Model"] == "ExpensiveModel"

    answer = ask(gateway, headers, LONG, max_tokens=600)

    assert answer.status_code == 200
    assert answer.headers["X-Gateway-Model"] == "CheapModel"
    assert answer.headers["X-Gateway-Policy"] == "budget"


def test_requests_per_minute_are_limited_and_told(gateway: GatewayUnderTest) -> None:
    _, headers = create_key(gateway.gateway_url, rpm=3)
    answers = [ask(gateway, headers) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "3"
    assert error_of(answers[3]) == (429, "rate_limit_exceeded")
    assert answers[3].json()["error"]["type"] == "requests"
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 120


def test_tokens_per_minute_are_counted_as_used(gateway: GatewayUnderTest) -> None:
    _, headers = create_key(gateway.gateway_url, tpm=100)
    # 14 tokens in and 9 out; of the forty that it may have, those that it did not use are given back.
    assert [ask(gateway, headers, max_tokens=40).status_code for _ in range(3)] == [200] * 3
    refused = ask(gateway, headers, max_tokens=40)
    assert error_of(refused) == (429, "rate_limit_exceeded")
    assert refused.json()["error"]["type"] == "tokens"
    too_large = ask(gateway, headers, max_tokens=101)
    assert error_of(too_large) == (429, "rate_limit_exceeded")
    assert too_large.headers["X-Should-Retry"] == "false"


def test_a_key_uses_its_models_alone(gateway: GatewayUnderTest) -> None:
    _, headers = create_key(gateway.gateway_url, models=["CheapModel"])
    assert ask(gateway, headers, LONG).headers["X-Gateway-Model"] == "CheapModel"
    assert error_of(ask(gateway, headers, model="ExpensiveModel")) == (403, "model_not_allowed")
    assert error_of(ask(gateway, headers, model="NoModel")) == (404, "model_not_found")
    listed = requests.get(f"{gateway.gateway_url}/v1/models", headers=headers, timeout=10).json()
    assert [model["id"] for model in listed["data"]] == ["auto", "CheapModel"]


def test_where_keys_are_required_nothing_is_answered_without_one(start_gateway: StartGateway) -> None:
    gateway = start_gateway(GATEWAY_ADMIN_KEY=ADMIN_KEY, GATEWAY_REQUIRE_KEYS="on")
    _, headers = create_key(gateway.gateway_url)
    paths = (
        "chat/completions",
        "responses",
        "completions",
        "embeddings",
        "messages",
        "messages/count_tokens",
    )
    for path in paths:
        for sent in ({}, {"Authorization": "Bearer sk-1"}, {"Authorization": f"Bearer {ADMIN_KEY}"}):
            answer = requests.post(f"{gateway.gateway_url}/v1/{path}", data=b"{", headers=sent, timeout=10)
            assert answer.status_code == 401, path
    for path in ("models", "models/CheapModel"):
        assert requests.get(f"{gateway.gateway_url}/v1/{path}", timeout=10).status_code == 401
        assert requests.get(f"{gateway.gateway_url}/v1/{path}", headers=headers, timeout=10).ok
    for path in ("healthz", "readyz", "metrics", "openapi.json"):
        assert requests.get(f"{gateway.gateway_url}/{path}", timeout=10).ok
    assert ask(gateway, headers).status_code == 200
    key = headers["Authorization"].removeprefix("Bearer ")
    assert ask(gateway, {"x-api-key": key}).status_code == 200
    assert key not in gateway.service.log


def test_a_revoked_key_is_refused_everywhere_within_a_second(start_gateway: StartGateway) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    settings = {"REDIS_KEY_PREFIX": prefix, "GATEWAY_ADMIN_KEY": ADMIN_KEY, "WEB_CONCURRENCY": "2"}
    first, second = start_gateway(**settings), start_gateway(**settings)
    key_id, headers = create_key(first.gateway_url)
    for _ in range(8):
        assert ask(first, headers).status_code == ask(second, headers).status_code == 200

    requests.delete(f"{first.gateway_url}/admin/keys/{key_id}", headers=ADMIN, timeout=10).raise_for_status()
    time.sleep(1)

    refused = [ask(each, headers) for each in (first, second) * 8]
    assert {error_of(answer) for answer in refused} == {(401, "invalid_api_key")}
