"""What a request may cost at most, all its calls together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import running_model
from tests.support.stack import MODELS
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

MAX_COST = "X-Gateway-Max-Cost-Usd"
FAULT = "X-Mock-Fault"
LONG_ANSWER = "[[write 800 tokens]]"  # 11 tokens of prompt
MILLIONTH = Decimal("0.000001")


@pytest.fixture(scope="module")
def gateway(
    start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayUnderTest]:
    """With models of its own, so that what they bill is all its own."""
    folder = tmp_path_factory.mktemp("models")
    with running_model("cheap_model", folder) as cheap, running_model("expensive_model", folder) as dear:
        urls = {"CheapModel": cheap.url, "ExpensiveModel": dear.url}
        gateway = start_gateway(
            CHEAP_MODEL_URL=f"{cheap.url}/v1",
            EXPENSIVE_MODEL_URL=f"{dear.url}/v1",
            MAX_REQUEST_COST_USD="0.001",
            FORWARD_MOCK_FAULTS="on",
            CIRCUIT_BREAKER="off",
        )
        yield replace(gateway, model_urls=urls)


def ask(gateway: GatewayUnderTest, headers: dict[str, str] | None = None, **body: Any) -> requests.Response:
    messages = [{"role": "user", "content": LONG_ANSWER}]
    return gateway.post({"messages": messages, **body}, headers=headers)


def billed(gateway: GatewayUnderTest) -> Decimal:
    return sum((gateway.billed(model).rounded().cost_usd for model in MODELS), Decimal(0))


def counted(gateway: GatewayUnderTest) -> Decimal:
    return sum((gateway.counted(model).rounded().cost_usd for model in MODELS), Decimal(0))


def tokens_of(answer: requests.Response) -> int:
    tokens: int = answer.json()["usage"]["completion_tokens"]
    return tokens


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        # (limit - 11) / 5 millionths
        (None, 197),
        ("0.0005", 97),
        ("1000", 197),
    ],
    ids=["the settings'", "the client's, which is lower", "the client's, which is higher"],
)
def test_an_answer_is_as_long_as_its_limit_affords(
    gateway: GatewayUnderTest, told: str | None, tokens: int
) -> None:
    answer = ask(gateway, {MAX_COST: told} if told else None, model="ExpensiveModel")

    assert answer.status_code == 200
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert tokens_of(answer) == tokens
    assert answer.headers["X-Gateway-Reason"].endswith(f"the request's cost limit affords {tokens} tokens")


def test_an_answer_that_cannot_cost_too_much_is_let_be(gateway: GatewayUnderTest) -> None:
    answer = ask(gateway, {MAX_COST: "0.0005"}, model="ExpensiveModel", max_tokens=50)
    assert tokens_of(answer) == 50
    assert "limit" not in answer.headers["X-Gateway-Reason"]


def test_what_affords_no_useful_answer_is_refused_before_any_call(gateway: GatewayUnderTest) -> None:
    before = gateway.billed("ExpensiveModel")
    # 16 tokens at least, of 5 millionths each, and the prompt
    refused = ask(gateway, {MAX_COST: "0.00009"}, model="ExpensiveModel")

    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("max_cost_exceeded", MAX_COST)
    assert "X-Gateway-Attempts" not in refused.headers
    assert gateway.billed("ExpensiveModel") == before
    assert ask(gateway, {MAX_COST: "0.000091"}, model="ExpensiveModel").status_code == 200


@pytest.mark.parametrize("told", ["", "-1", "1e", "nan", "0,5", "$1"])
def test_a_limit_that_is_no_amount_is_refused_by_the_name_of_its_header(
    gateway: GatewayUnderTest, told: str
) -> None:
    refused = ask(gateway, {MAX_COST: told})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, MAX_COST)


def test_a_second_call_has_what_the_first_has_left(gateway: GatewayUnderTest) -> None:
    before = billed(gateway)
    limit = Decimal("0.000400")
    # The first call breaks; what it costs, 40 tokens at most, counts against the limit.
    answer = ask(gateway, {MAX_COST: f"{limit}", FAULT: "cut_midstream,model=CheapModel"}, max_tokens=100)

    assert answer.status_code == 200
    assert answer.headers["X-Gateway-Model"] == "ExpensiveModel"
    first = Decimal("41.1") * MILLIONTH  # of CheapModel: 11 tokens, and 100 that it has written
    assert tokens_of(answer) == (limit - first - 11 * MILLIONTH) // (5 * MILLIONTH)
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert eventually(lambda: 0 < billed(gateway) - before <= limit)
    assert eventually(lambda: counted(gateway) == billed(gateway))


def test_a_second_call_that_the_limit_does_not_afford_is_not_made(gateway: GatewayUnderTest) -> None:
    before = gateway.billed("ExpensiveModel")

    answer = ask(gateway, {MAX_COST: "0.00008", FAULT: "cut_midstream,model=CheapModel"}, max_tokens=100)

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_error"
    assert answer.headers["X-Gateway-Attempts"].count("CheapModel") == 1
    assert "ExpensiveModel" not in answer.headers["X-Gateway-Attempts"]
    assert gateway.billed("ExpensiveModel") == before


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fault", ["cut_midstream", "malformed_json", "cut_before_content", "no_usage"])
def test_however_calls_break_all_together_stay_within_the_limit(
    gateway: GatewayUnderTest, fault: str, stream: bool
) -> None:
    before, limit = billed(gateway), Decimal("0.0007")

    ask(gateway, {MAX_COST: f"{limit}", FAULT: fault}, model="ExpensiveModel", stream=stream)

    assert eventually(lambda: counted(gateway) == billed(gateway))
    assert 0 < billed(gateway) - before <= limit
