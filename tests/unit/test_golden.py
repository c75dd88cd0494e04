"""Bills worked out by hand, for the shapes of usage and of stream endings that providers send."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.answers import output_characters
from gateway.apis import Api
from gateway.billing import Usage, usage_estimated, usage_stated
from gateway.catalog import Model
from gateway.prices import TokenPrice, charge
from gateway.schema import parse_chat_request
from tests.support.fakes import PROMPT, RelaySetting

GOLDEN = Path(__file__).parents[1] / "golden"
PRICE = TokenPrice(
    input=Decimal("1.00"),
    cached_input=Decimal("0.10"),
    cache_write=Decimal("1.25"),
    output=Decimal("5.00"),
)
MODEL = Model("Golden", "http://golden/v1", "golden", None, PRICE)
ANSWER = "CheapModel: What is the capital of …"


def cases(name: str) -> list[Any]:
    listed = tomllib.loads((GOLDEN / name).read_text())["case"]
    return [pytest.param(case, id=case["name"]) for case in listed]


def check(case: dict[str, Any], usage: Usage, cost: Decimal) -> None:
    assert cost == Decimal(case["usd"])
    assert {
        "input": usage.input_tokens,
        "cached": usage.cached_input_tokens,
        "written": usage.cache_write_tokens,
        "output": usage.output_tokens,
    } == case["bill"]
    assert usage.estimated is case.get("estimated", False)


@pytest.mark.parametrize("case", [*cases("answers.toml"), *cases("streams.toml")])
def test_the_sum_that_was_worked_out_by_hand_is_right(case: dict[str, Any]) -> None:
    terms = [term.split("*") for term in case["worked"].split("+")]
    products = [Decimal(term[0].strip()) * Decimal((term[1:] or ["1"])[0].strip()) for term in terms]
    assert sum(products) / 10**6 == Decimal(case["usd"])


@pytest.mark.parametrize("case", cases("answers.toml"))
def test_an_answer_is_billed_as_worked_out_by_hand(case: dict[str, Any]) -> None:
    answer: dict[str, Any] = {"choices": [{"message": {"content": ANSWER}}]}
    if "usage" in case:
        answer["usage"] = json.loads(case["usage"])
    api = Api.CHAT_COMPLETIONS
    request = parse_chat_request(json.dumps({"messages": [{"role": "user", "content": PROMPT}]}).encode())
    usage = usage_stated(api, answer) or usage_estimated(
        request.prompt_tokens, output_characters(api, answer)
    )
    check(case, usage, charge(PRICE, usage))


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("piece", [1, 7, 10**6], ids=["bytewise", "in sevens", "at once"])
@pytest.mark.parametrize("case", cases("streams.toml"))
def test_a_stream_is_billed_as_worked_out_by_hand(case: dict[str, Any], piece: int, newline: str) -> None:
    text = case["stream"].lstrip("\n")
    sent = (text + "\n" if text.endswith("\n") else text).replace("\n", newline).encode()
    pieces = [sent[start : start + piece] for start in range(0, len(sent), piece)]
    setting = RelaySetting(pieces, model=MODEL)

    delivered = setting.run()

    check(case, setting.bill.usage, setting.bill.cost)
    assert delivered.endswith(f"data: [DONE]{newline * 2}".encode()) is (case["ends"] == "whole")
    assert (b'"code": "upstream_error"' in delivered) is (case["ends"] == "error")
    assert setting.bill.failed is (case["ends"] == "error")
