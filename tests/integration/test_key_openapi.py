"""What the served description says of virtual keys, against the answers that they get."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case

from gateway.routes import OPENAPI
from tests.conftest import GatewayUnderTest, StartGateway
from tests.integration.test_openapi import CHECKS_OF_ANSWERS, schema
from tests.support.catalogs import write_catalog
from tests.support.own_stack import own_gateway
from tests.support.processes import RedisServer
from tests.support.refusals import ROUTES, Route, is_messages_path
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import ONE_CALL
from tests.support.waiting import eventually

SETTINGS = ONE_CALL

pytestmark = pytest.mark.heavy

BILLED_ROUTES = [route for route in ROUTES if route.billed]
NO_SUCH_KEY = f"gw-{'0' * 12}-{'A' * 43}"
RATES = {"limit": r"\d+", "remaining": r"\d+", "reset": r"\d+ms|(\d+m)?\d+s"}
OF_HTTP_ITSELF = {"connection", "content-length", "content-type", "date", "server", "transfer-encoding"}

BY_ROUTE = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
BY_BILLED_ROUTE = pytest.mark.parametrize("route", BILLED_ROUTES, ids=lambda route: route.path)


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> GatewayUnderTest:
    """A gateway with virtual keys, whose providers serve every API themselves."""
    return start_gateway(
        MODELS_FILE=write_catalog(tmp_path_factory.mktemp("models")),
        GATEWAY_ADMIN_KEY=ADMIN_KEY,
        FORWARD_MOCK_FAULTS="on",
    )


def has_no_header_that_the_document_leaves_out(
    _context: CheckContext, response: Response, case: Case[Any]
) -> bool | None:
    documented = case.operation.responses.find_by_status_code(response.status_code)
    assert documented is not None
    names = {name.lower() for name, _ in documented.headers.items()}
    assert response.headers.keys() - OF_HTTP_ITSELF <= names
    return None


def ask(
    gateway: GatewayUnderTest,
    path: str,
    headers: dict[str, str] | None = None,
    body: Any = None,
    **names: str,
) -> Response:
    """An answer that is as the document says, to its last header: to a POST where there is a body."""
    case = schema[path]["GET" if body is None else "POST"].Case(
        headers=headers,
        path_parameters=names or None,
        **({} if body is None else {"body": body, "media_type": "application/json"}),
    )
    checks = [*CHECKS_OF_ANSWERS, has_no_header_that_the_document_leaves_out]
    return case.call_and_validate(base_url=gateway.gateway_url, checks=checks, timeout=10)


def assert_error(path: str, answer: Response, status: int, code: str, messages_type: str) -> None:
    assert answer.status_code == status
    error = answer.json()["error"]
    if is_messages_path(path):
        assert error["type"] == messages_type
    else:
        assert error["code"] == code


def assert_rates_told(answer: Response, of: str) -> None:
    for what, form in RATES.items():
        assert re.fullmatch(form, answer.headers[f"x-ratelimit-{what}-{of}"][0]), what


def header_of(scheme: dict[str, str], key: str) -> dict[str, str]:
    """How a security scheme of the document brings a key."""
    return {"Authorization": f"Bearer {key}"} if scheme["type"] == "http" else {scheme["name"]: key}


def schemes_of(path: str, method: str) -> list[dict[str, str]]:
    """How the document has it that a virtual key may come, if at all."""
    document = json.loads(OPENAPI.read_bytes())
    none, *ways = document["paths"][path][method]["security"]
    assert none == {}
    return [document["components"]["securitySchemes"][name] for way in ways for name in way]


def prompt_of(route: Route, text: str) -> Any:
    return [{"role": "user", "content": text}] if route.prompt == "messages" else text


@BY_ROUTE
def test_a_key_is_taken_in_every_way_of_the_document_and_refused_as_it_says(
    gateway: GatewayUnderTest, route: Route
) -> None:
    _, headers = create_key(gateway.gateway_url)
    key = headers["Authorization"].removeprefix("Bearer ")
    body = json.loads(route.good)
    schemes = schemes_of(route.path, "post")
    assert len(schemes) == 3
    for scheme in schemes:
        assert ask(gateway, route.path, header_of(scheme, key), body).status_code == 200
        refused = ask(gateway, route.path, header_of(scheme, NO_SUCH_KEY), body)
        assert_error(route.path, refused, 401, "invalid_api_key", "authentication_error")
        assert refused.headers["www-authenticate"] == ["Bearer"]


@pytest.mark.parametrize("names", [{}, {"name": "CheapModel"}], ids=["list", "one"])
def test_models_are_refused_to_a_wrong_key_as_the_document_says(
    gateway: GatewayUnderTest, names: dict[str, str]
) -> None:
    path = "/v1/models/{name}" if names else "/v1/models"
    for scheme in schemes_of(path, "get"):
        refused = ask(gateway, path, header_of(scheme, NO_SUCH_KEY), **names)
        assert_error(path, refused, 401, "invalid_api_key", "")
        assert refused.headers["www-authenticate"] == ["Bearer"]


@BY_ROUTE
def test_a_model_that_a_key_may_not_use_is_refused_as_the_document_says(
    gateway: GatewayUnderTest, route: Route
) -> None:
    _, headers = create_key(gateway.gateway_url, models=["CheapModel"])
    body = {**json.loads(route.good), "model": "ExpensiveModel"}
    refused = ask(gateway, route.path, headers, body)
    assert_error(route.path, refused, 403, "model_not_allowed", "permission_error")


def test_a_model_that_a_key_may_not_use_is_not_shown_as_the_document_says(
    gateway: GatewayUnderTest,
) -> None:
    _, headers = create_key(gateway.gateway_url, models=["CheapModel"])
    path = "/v1/models/{name}"
    assert ask(gateway, path, headers, name="CheapModel").status_code == 200
    refused = ask(gateway, path, headers, name="ExpensiveModel")
    assert_error(path, refused, 403, "model_not_allowed", "")


@BY_BILLED_ROUTE
def test_requests_per_minute_are_told_and_refused_as_the_document_says(
    gateway: GatewayUnderTest, route: Route
) -> None:
    _, headers = create_key(gateway.gateway_url, rpm=1, tpm=100_000)
    body = json.loads(route.good)
    answers = [ask(gateway, route.path, headers, body) for _ in range(2)]
    assert answers[0].status_code == 200
    assert_error(route.path, answers[1], 429, "rate_limit_exceeded", "rate_limit_error")
    assert int(answers[1].headers["retry-after"][0]) >= 1
    for answer in answers:
        assert_rates_told(answer, "requests")
        assert_rates_told(answer, "tokens")


@BY_BILLED_ROUTE
def test_more_tokens_than_a_minute_has_are_refused_as_the_document_says(
    gateway: GatewayUnderTest, route: Route
) -> None:
    _, headers = create_key(gateway.gateway_url, tpm=1)
    body = {**json.loads(route.good), route.prompt: prompt_of(route, "as many words as this")}
    refused = ask(gateway, route.path, headers, body)
    assert_error(route.path, refused, 429, "rate_limit_exceeded", "rate_limit_error")
    assert refused.headers["x-should-retry"] == ["false"]
    assert refused.headers["retry-after"] == ["60"]
    assert_rates_told(refused, "tokens")


@BY_BILLED_ROUTE
def test_a_spent_budget_is_refused_as_the_document_says(gateway: GatewayUnderTest, route: Route) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="0.0000000001", period="day")
    refused = ask(gateway, route.path, headers, json.loads(route.good))
    assert_error(route.path, refused, 429, "insufficient_quota", "rate_limit_error")
    assert refused.headers["x-should-retry"] == ["false"]
    assert 1 <= int(refused.headers["retry-after"][0]) <= 24 * 3600 + 1


@BY_ROUTE
@pytest.mark.parametrize("status", [401, 403, 429])
def test_what_a_provider_refuses_is_told_as_the_document_says(
    gateway: GatewayUnderTest, route: Route, status: int
) -> None:
    refused = ask(gateway, route.path, {"X-Mock-Fault": f"status={status}"}, json.loads(route.good))
    assert refused.status_code == status
    assert "www-authenticate" not in refused.headers
    assert "x-gateway-model" in refused.headers


@pytest.mark.parametrize(
    ("settings", "readiness", "budgetless"),
    [
        ({}, (503, "degraded"), 200),
        ({"READY_WITHOUT_REDIS": "on"}, (200, "degraded"), 200),
        ({"JOURNAL_DIR": ""}, (503, "unavailable"), 503),
    ],
    ids=["journal", "ready", "nothing"],
)
def test_without_redis_the_gateway_answers_as_the_document_says(
    model_urls: dict[str, str],
    own_redis: RedisServer,
    tmp_path: Path,
    settings: dict[str, str],
    readiness: tuple[int, str],
    budgetless: int,
) -> None:
    settings = {**settings, "GATEWAY_ADMIN_KEY": ADMIN_KEY, "WEB_CONCURRENCY": "1"}
    with own_gateway(tmp_path, model_urls, own_redis, **settings) as gateway:
        assert ask(gateway, "/readyz").json() == {"status": "ready", "reasons": []}
        _, headers = create_key(gateway.gateway_url, budget_usd=1)
        for route in BILLED_ROUTES:
            assert ask(gateway, route.path, headers, json.loads(route.good)).status_code == 200
        own_redis.kill()

        def is_known() -> bool:
            answer = ask(gateway, "/readyz")
            return (answer.status_code, answer.json()["status"]) == readiness

        assert eventually(is_known)
        for route in BILLED_ROUTES:
            body = json.loads(route.good)
            refused = ask(gateway, route.path, headers, body)
            assert_error(route.path, refused, 503, "ledger_unavailable", "overloaded_error")
            assert refused.headers["retry-after"] == ["1"]
            assert ask(gateway, route.path, body=body).status_code == budgetless
