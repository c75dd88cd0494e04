"""The served description of the API against the gateway that it describes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.checks import CheckContext, not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from gateway.app import create_app
from gateway.config import Settings
from gateway.routes import OPENAPI
from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.catalogs import write_catalog
from tests.support.refusals import assert_error_shape

pytestmark = pytest.mark.heavy

METHODS_OF_HTTP = {"HEAD", "OPTIONS"}  # which Flask adds to every route by itself
EXAMPLES = {
    "/v1/chat/completions": 100,
    "/v1/responses": 60,
    "/v1/messages": 60,
    "/v1/messages/count_tokens": 30,
    "/v1/route": 30,
    "/v1/completions": 30,
    "/v1/embeddings": 30,
}
TRANSLATED = ["/v1/responses", "/v1/messages"]

schema = schemathesis.openapi.from_path(
    OPENAPI,
    config=SchemathesisConfig.from_dict(
        {
            "suppress-health-check": ["too_slow"],
            "generation": {
                "deterministic": True,
                "max-examples": 10,
                "no-shrink": True,
                # No JSON schema can say that the gateway refuses NUL; test_bad_input.py does.
                "allow-x00": False,
            },
            "operations": [
                {"include-path": path, "generation": {"max-examples": examples}}
                for path, examples in EXAMPLES.items()
            ],
            # Constants of the modules that happen to be imported would make runs differ.
            "analysis": {"constants": {"enabled": False}},
        }
    ),
)


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> GatewayUnderTest:
    """A gateway whose providers serve every API themselves, so that it refuses only what it always does."""
    return start_gateway(MODELS_FILE=write_catalog(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def translating_gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway whose providers serve neither Messages nor Responses."""
    return start_gateway()


def test_the_document_is_valid_and_served_as_it_is(gateway: GatewayUnderTest) -> None:
    schema.validate()
    answer = requests.get(f"{gateway.gateway_url}/openapi.json", timeout=5)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == json.loads(OPENAPI.read_bytes())


def test_the_document_lists_exactly_the_routes_that_exist() -> None:
    routes = {
        (re.sub("<[^>]*>", "{}", rule.rule), method)
        for rule in create_app(Settings.from_env({})).url_map.iter_rules()
        for method in (rule.methods or set()) - METHODS_OF_HTTP
    }
    paths = json.loads(OPENAPI.read_bytes())["paths"]
    described = {
        (re.sub("{[^}]*}", "{}", path), name.upper())
        for path, item in paths.items()
        for name in item.keys() - {"parameters"}
    }
    assert described == routes


def refuses_only_what_the_document_forbids(
    _context: CheckContext, response: Response, case: Case[Any]
) -> bool | None:
    """Instead of `positive_data_acceptance`, which would also blame the gateway for what the provider
    refuses: a refusal of the gateway itself names no model. An unknown model is its only 404."""
    allowed = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if allowed and refused_by_the_gateway(response):
        assert response.status_code == 404, f"refused although the document allows it: {response.json()}"
    return None


def says_of_itself_no_more_than_the_document(
    _context: CheckContext, response: Response, case: Case[Any]
) -> bool | None:
    """Stricter than `status_code_conformance` and `response_schema_conformance`, since the document leaves
    a provider's refusals open: the gateway's own have a status of their own and the shape of the path."""
    if refused_by_the_gateway(response):
        statuses = [*case.operation.responses.status_codes, "405"]
        assert str(response.status_code) in statuses, f"status {response.status_code} is not documented"
        if (case.operation.path, response.status_code) != ("/readyz", 503):  # which gives all reasons
            assert_error_shape(case.operation.path, response.json(), own=True)
    return None


def refused_by_the_gateway(response: Response) -> bool:
    return response.status_code >= 400 and "x-gateway-model" not in response.headers


def refuses_what_the_document_forbids(
    context: CheckContext, response: Response, case: Case[Any]
) -> bool | None:
    """But for a body that had no time to come, and is refused unread."""
    return None if response.status_code == 408 else negative_data_rejection(context, response, case)


def does_not_fail(context: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """But where the client gave no time, as with `X-Request-Timeout: 1e-9`."""
    has_no_time = response.status_code == 504 and "X-Request-Timeout" in (case.headers or {})
    return None if has_no_time else not_a_server_error(context, response, case)


CHECKS_OF_ANSWERS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    says_of_itself_no_more_than_the_document,
]
# Left out besides `positive_data_acceptance`: the checks of authentication, which is optional below `/v1`,
# and of resources that are created and deleted and of required headers, neither of which the API has.
CHECKS_OF_TRANSLATIONS = [
    *CHECKS_OF_ANSWERS,
    does_not_fail,
    refuses_what_the_document_forbids,
    unsupported_method,
    allow_header_conformance,
]
CHECKS = [*CHECKS_OF_TRANSLATIONS, refuses_only_what_the_document_forbids]


@pytest.mark.heavy
@schema.parametrize()
def test_every_answer_is_as_the_document_says(case: Case[Any], gateway: GatewayUnderTest) -> None:
    case.call_and_validate(base_url=gateway.gateway_url, checks=CHECKS, timeout=10)


# What a translation refuses beyond the schema depends on the model, so that no document can say it.
@schema.exclude(lambda context: context.operation.path not in TRANSLATED).parametrize()
def test_every_translated_answer_is_as_the_document_says(
    case: Case[Any], translating_gateway: GatewayUnderTest
) -> None:
    case.call_and_validate(
        base_url=translating_gateway.gateway_url, checks=CHECKS_OF_TRANSLATIONS, timeout=10
    )
