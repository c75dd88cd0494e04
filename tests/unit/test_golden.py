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
from tests.support.fakes import RelaySetting
from tests.support.native import LAST_EVENTS, NativeRelaySetting, events_of, final_usage, short_request

GOLDEN = Path(__file__).parents[1] / "golden"
PRICE = TokenPrice(
    input=Decimal("1.00"),
    cached_input=Decimal("0.10"),
    cache_write=Decimal("1.25"),
    cache_write_1h=Decimal("2.00"),
    output=Decimal("5.00"),
)
APIS = frozenset({Api.CHAT_COMPLETIONS, Api.MESSAGES, Api.RESPONSES})
MODEL = Model("Golden", "http://golden/v1", "golden", None, PRICE, apis=APIS)
ANSWER = "CheapModel: What is the capital of …"
ANSWERS: dict[Api, dict[str, Any]] = {
    Api.CHAT_COMPLETIONS: {"choices": [{"message": {"content": ANSWER}}]},
    Api.MESSAGES: {"content": [{"type": "text", "text": ANSWER}]},
    Api.RESPONSES: {"output": [{"type": "message", "content": [{"type": "output_text", "text": ANSWER}]}]},
}
NOT_IN_EVERY_BILL = {"written_1h": 0, "reasoning": 0, "searches": 0}


def cases(name: str) -> list[Any]:
    listed = tomllib.loads((GOLDEN / name).read_text())["case"]
    return [pytest.param(case, id=case["name"]) for case in listed]


def api_of(case: dict[str, Any]) -> Api:
    return Api(case.get("api", Api.CHAT_COMPLETIONS))


def check(case: dict[str, Any], usage: Usage, cost: Decimal) -> None:
    assert cost == Decimal(case["usd"])
    bill = {
        "input": usage.input_tokens,
        "cached": usage.cached_input_tokens,
        "written": usage.cache_write_tokens,
        "output": usage.output_tokens,
        "written_1h": usage.cache_write_1h_tokens,
        "reasoning": usage.reasoning_tokens,
        "searches": usage.web_searches,
    }
    expected = case["bill"]
    if api_of(case) is Api.CHAT_COMPLETIONS:  # these say nothing of what the bill does not depend on
        bill = {name: bill[name] for name in expected}
    else:
        expected = NOT_IN_EVERY_BILL | expected
    assert bill == expected
    assert usage.estimated is case.get("estimated", False)


@pytest.mark.parametrize("case", [*cases("answers.toml"), *cases("streams.toml")])
def test_the_sum_that_was_worked_out_by_hand_is_right(case: dict[str, Any]) -> None:
    terms = [term.split("*") for term in case["worked"].split("+")]
    products = [Decimal(term[0].strip()) * Decimal((term[1:] or ["1"])[0].strip()) for term in terms]
    assert sum(products) / 10**6 == Decimal(case["usd"])


@pytest.mark.parametrize("case", cases("answers.toml"))
def test_an_answer_is_billed_as_worked_out_by_hand(case: dict[str, Any]) -> None:
    api = api_of(case)
    answer = json.loads(case["answer"]) if "answer" in case else dict(ANSWERS[api])
    if "usage" in case:
        answer["usage"] = json.loads(case["usage"])
    usage = usage_stated(api, answer) or usage_estimated(
        short_request(api, stream=False).prompt_tokens, output_characters(api, answer)
    )
    check(case, usage, charge(PRICE, usage))


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("piece", [1, 7, 10**6], ids=["bytewise", "in sevens", "at once"])
@pytest.mark.parametrize("case", cases("streams.toml"))
def test_a_stream_is_billed_as_worked_out_by_hand(case: dict[str, Any], piece: int, newline: str) -> None:
    text = case["stream"].lstrip("\n")
    sent = (text + "\n" if text.endswith("\n") else text).replace("\n", newline).encode()
    pieces = [sent[start : start + piece] for start in range(0, len(sent), piece)]
    api = api_of(case)
    if api is Api.CHAT_COMPLETIONS:
        setting = RelaySetting(pieces, model=MODEL)
    else:
        setting = NativeRelaySetting(pieces, model=MODEL, api=api)

    delivered = setting.run()

    check(case, setting.bill.usage, setting.bill.cost)
    assert end_of(api, delivered.replace(newline.encode(), b"\n")) == case["ends"]
    assert setting.bill.failed is (case["ends"] in ("error", "failed"))


@pytest.mark.parametrize("case", [param for param in cases("streams.toml") if "api" in param.values[0]])
def test_a_native_stream_tells_its_client_the_cost_that_was_worked_out_by_hand(case: dict[str, Any]) -> None:
    setting = NativeRelaySetting([case["stream"].lstrip().encode() + b"\n"], model=MODEL, api=api_of(case))
    stated = [usage for event in events_of(setting.run()) if (usage := final_usage(event))]
    if case["ends"] == "error" or case.get("estimated"):
        assert stated == [], "a figure that is not the bill was passed on as if it were"
    else:
        assert Decimal(str(stated[-1]["cost"])) == Decimal(case["usd"])


def end_of(api: Api, delivered: bytes) -> str:
    """How a client of `api` reads the end of what it got: as `ends` says it."""
    if api is Api.CHAT_COMPLETIONS:
        if b'"code": "upstream_error"' in delivered:
            return "error"
        return "whole" if delivered.endswith(b"data: [DONE]\n\n") else "as sent"
    last = events_of(delivered)[-1]
    if last["type"] == "error":
        told = last["error"]
        assert told["type"] == "api_error" if api is Api.MESSAGES else told["code"] == "upstream_error"
        assert b"\nevent: error\ndata: " in b"\n" + delivered
        return "error"
    if last["type"] == "response.failed":
        return "failed"
    return "whole" if last["type"] in LAST_EVENTS else "as sent"
