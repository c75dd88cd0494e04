"""The served description of the API against the gateway that it describes."""

from __future__ import annotations

import json
import re
from typing import Any

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
from tests.conftest import GatewayUnderTest

METHODS_OF_HTTP = {"HEAD", "OPTIONS"}  # which Flask adds to every route by itself

schema = schemathesis.openapi.from_path(
    OPENAPI,
    config=SchemathesisConfig.from_dict(
        {
            "suppress-health-check": ["too_slow"],
            "generation": {
                "deterministic": True,
                "max-examples": 20,
                "no-shrink": True,
                # No JSON schema can say that the gateway refuses NUL; test_bad_input.py does.
                "allow-x00": False,
            },
            "operations": [
                {"include-path": "/v1/chat/completions", "generation": {"max-examples": 300}},
            ],
            # Constants of the modules that happen to be imported would make runs differ.
            "analysis": {"constants": {"enabled": False}},
        }
    ),
)


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
    refuses: a refusal of the gateway itself names no model."""
    allowed = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    refused_here = response.status_code >= 400 and "x-gateway-model" not in response.headers
    if allowed and refused_here:
        error = response.json()["error"]
        assert error["code"] == "model_not_found", f"refused although the document allows it: {error}"
    return None


def says_of_itself_no_more_than_the_document(
    _context: CheckContext, response: Response, case: Case[Any]
) -> bool | None:
    """Stricter than `status_code_conformance` and `response_schema_conformance`, since the document leaves
    a provider's refusals open: the gateway's own have a status of their own and OpenAI's shape."""
    if response.status_code >= 400 and "x-gateway-model" not in response.headers:
        statuses = [*case.operation.responses.status_codes, "405"]
        assert str(response.status_code) in statuses, f"status {response.status_code} is not documented"
        error = response.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
    return None


# Left out besides `positive_data_acceptance`: the checks of authentication, of resources that are created
# and deleted, and of required headers, none of which the API has.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
    allow_header_conformance,
    refuses_only_what_the_document_forbids,
    says_of_itself_no_more_than_the_document,
]


@schema.parametrize()
def test_every_answer_is_as_the_document_says(case: Case[Any], gateway: GatewayUnderTest) -> None:
    case.call_and_validate(base_url=gateway.gateway_url, checks=CHECKS, timeout=10)
