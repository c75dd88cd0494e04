"""A model that fails is replaced by another, in every API."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.load import LAST_EVENTS
from tests.support.stack import LONG, SHORT

pytestmark = pytest.mark.heavy

FAULT = "X-Mock-Fault"
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": SHORT}]},
    "completions": {"prompt": SHORT, "max_tokens": 64},
    "messages": {"messages": [{"role": "user", "content": SHORT}], "max_tokens": 64},
    "responses": {"input": SHORT},
    "embeddings": {"input": SHORT},
}
CATALOG = """
[CheapModel]
base_url = "{CheapModel}/v1"
price = "free"
{cheap}
[ExpensiveModel]
base_url = "{ExpensiveModel}/v1"
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 5}}
"""


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(FORWARD_MOCK_FAULTS="on", CIRCUIT_BREAKER="off", WEB_CONCURRENCY="1")


def ask(
    gateway: GatewayUnderTest, fault: str, api: str = "chat/completions", **fields: Any
) -> requests.Response:
    body = {"model": "auto", **BODIES[api], **fields}
    return requests.post(f"{gateway.gateway_url}/v1/{api}", json=body, headers={FAULT: fault}, timeout=20)


def models_of(answer: requests.Response) -> list[str]:
    return [member.split(";")[0] for member in answer.headers["X-Gateway-Attempts"].split(", ")]


def is_whole(answer: requests.Response, stream: bool) -> bool:
    if not stream:
        return "ExpensiveModel: What is the capital" in answer.text
    return any(line.startswith(LAST_EVENTS) for line in answer.text.splitlines())


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fault", ["status=501", "cut_before_content"])
@pytest.mark.parametrize("api", [api for api in BODIES if api != "embeddings"])
def test_the_other_model_answers_in_the_same_api(
    gateway: GatewayUnderTest, api: str, fault: str, stream: bool
) -> None:
    answer = ask(gateway, f"{fault},model=CheapModel", api, stream=stream)

    assert answer.status_code == 200
    assert is_whole(answer, stream)
    assert answer.headers["X-Gateway-Model"] == "ExpensiveModel"
    assert answer.headers["X-Gateway-Reason"].endswith("fell back from CheapModel")
    assert models_of(answer) == ["CheapModel", "ExpensiveModel"]


def test_the_other_model_embeds(gateway: GatewayUnderTest) -> None:
    answer = ask(gateway, "status=501,model=CheapModel", "embeddings")
    assert answer.status_code == 200
    assert answer.headers["X-Gateway-Model"] == "ExpensiveModel"


def test_the_cheap_model_answers_for_the_dear_one(gateway: GatewayUnderTest) -> None:
    messages = [{"role": "user", "content": LONG}]
    answer = ask(gateway, "status=501,model=ExpensiveModel", messages=messages)
    assert models_of(answer) == ["ExpensiveModel", "CheapModel"]
    assert answer.status_code == 200


def test_a_model_that_was_named_is_not_replaced(gateway: GatewayUnderTest) -> None:
    answer = ask(gateway, "status=501,model=CheapModel", model="CheapModel")
    assert models_of(answer) == ["CheapModel"]
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")


def test_a_slow_or_broken_model_that_was_named_is_asked_again(gateway: GatewayUnderTest) -> None:
    answer = ask(gateway, "malformed_json,count=1,id=named", model="CheapModel")
    assert models_of(answer) == ["CheapModel", "CheapModel"]
    assert answer.status_code == 200


def test_a_model_that_was_named_is_replaced_by_those_that_its_table_lists(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalog = tmp_path_factory.mktemp("fallbacks") / "models.toml"
    catalog.write_text(CATALOG.format(**model_urls, cheap='fallbacks = ["ExpensiveModel"]'))
    gateway = start_gateway(MODELS_FILE=str(catalog), FORWARD_MOCK_FAULTS="on", WEB_CONCURRENCY="1")

    answer = ask(gateway, "status=501,model=CheapModel", model="CheapModel")

    assert models_of(answer) == ["CheapModel", "ExpensiveModel"]
    assert answer.status_code == 200
    assert answer.headers["X-Gateway-Policy"] == "requested"


def test_nothing_is_replaced_where_that_is_off(start_gateway: StartGateway) -> None:
    gateway = start_gateway(UPSTREAM_FALLBACKS="off", FORWARD_MOCK_FAULTS="on", WEB_CONCURRENCY="1")
    answer = ask(gateway, "status=501,model=CheapModel")
    assert models_of(answer) == ["CheapModel"]
    assert answer.status_code == 502


def test_nothing_is_repeated_where_that_is_off(start_gateway: StartGateway) -> None:
    gateway = start_gateway(
        UPSTREAM_RETRIES="0", UPSTREAM_FALLBACKS="off", FORWARD_MOCK_FAULTS="on", WEB_CONCURRENCY="1"
    )
    answer = ask(gateway, "status=503,count=1,id=alone")
    assert models_of(answer) == ["CheapModel"]
    assert answer.status_code == 502
    assert "X-Should-Retry" not in answer.headers  # the client's retry is the only one then
