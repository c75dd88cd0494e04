"""Several tool calls in one answer of the mocks."""

import json
from typing import Any

import pytest

from cheap_model.app import PROFILE
from model_server.completion import Answer, complete
from model_server.reply import render, render_chunks
from model_server.schema import parse_request


def tool(name: str, /, **properties: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": properties}},
    }


CITY, TIME = tool("city", name={"type": "string"}), tool("time", hour={"type": "integer", "minimum": 9})


def ask(*tools: dict[str, Any], **fields: Any) -> Answer:
    body = {
        "messages": [{"role": "user", "content": "Rome"}],
        "tools": tools,
        "tool_choice": "required",
        **fields,
    }
    return complete(PROFILE, parse_request(json.dumps(body).encode()))


def called(answer: Answer, index: int = 0) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in answer.choices[index].tool_calls]


def test_every_function_is_called_in_order_where_that_is_asked_for() -> None:
    answer = ask(CITY, TIME, parallel_tool_calls=True)
    assert called(answer) == [("city", '{"name": "Rome"}'), ("time", '{"hour": 9}')]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.usage.output_tokens == (1 + 4) + (1 + 3)


@pytest.mark.parametrize("fields", [{}, {"parallel_tool_calls": None}, {"parallel_tool_calls": False}])
def test_one_function_is_called_otherwise(fields: dict[str, Any]) -> None:
    assert called(ask(CITY, TIME, **fields)) == [("city", '{"name": "Rome"}')]


@pytest.mark.parametrize(
    ("choice", "names"),
    [("auto", []), ("none", []), ({"type": "function", "function": {"name": "time"}}, ["time"])],
)
def test_a_choice_of_one_or_none_is_not_made_several(choice: object, names: list[str]) -> None:
    answer = ask(CITY, TIME, parallel_tool_calls=True, tool_choice=choice)
    assert [name for name, _ in called(answer)] == names


def test_the_first_of_several_calls_is_the_one_that_would_be_made_alone() -> None:
    alone, both = ask(CITY, TIME), ask(CITY, TIME, parallel_tool_calls=True)
    assert both.choices[0].tool_calls[0] == alone.choices[0].tool_call


def test_calls_of_the_same_function_have_ids_of_their_own() -> None:
    answer = ask(CITY, CITY, parallel_tool_calls=True, n=2)
    assert len({call.id for choice in answer.choices for call in choice.tool_calls}) == 4


@pytest.mark.parametrize(
    ("limit", "calls"),
    [
        (1, [("city", "")]),
        (3, [("city", '{"name":')]),
        (5, [("city", '{"name": "Rome"}')]),
        (6, [("city", '{"name": "Rome"}'), ("time", "")]),
        (8, [("city", '{"name": "Rome"}'), ("time", '{"hour":')]),
    ],
)
def test_a_token_limit_ends_the_calls_where_it_is_reached(limit: int, calls: list[tuple[str, str]]) -> None:
    answer = ask(CITY, TIME, parallel_tool_calls=True, max_tokens=limit)
    assert called(answer) == calls
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.output_tokens == limit


def test_a_limit_holds_even_where_a_functions_name_is_longer() -> None:
    answer = ask(tool("a_name_of_many_tokens"), max_tokens=5)
    assert called(answer) == []
    assert (answer.choices[0].finish_reason, answer.usage.output_tokens) == ("length", 0)


def test_the_calls_of_a_stream_are_told_apart_by_their_index() -> None:
    answer = ask(CITY, TIME, parallel_tool_calls=True)
    chunks = render_chunks(answer, include_usage=False)
    assert sum(chunk.tokens for chunk in chunks) == answer.usage.output_tokens
    deltas = [json.loads(chunk.data)["choices"][0]["delta"] for chunk in chunks]
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas[1:-1]:
        [piece] = delta["tool_calls"]
        known = calls.setdefault(piece["index"], {"pieces": 0, "function": {"arguments": ""}})
        known["pieces"] += 1
        for key, value in piece["function"].items():
            known["function"][key] = known["function"].get(key, "") + value
        known |= {key: value for key, value in piece.items() if key in ("id", "type")}
    message = json.loads(render(answer))["choices"][0]["message"]
    assert [calls[index].pop("pieces") for index in (0, 1)] == [5, 4]
    assert message["tool_calls"] == [calls[0], calls[1]]
    assert message["content"] is None
