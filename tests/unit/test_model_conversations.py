"""The same conversation costs the same in every dialect of the mocks that has conversations."""

import json
from typing import Any

import pytest

from model_server.dialects import anthropic_schema, responses_schema
from model_server.dialects.responses_store import ResponseStore
from model_server.request import ModelRequest
from model_server.schema import parse_request
from model_server.tokens import count_json

CALL = {"city": "Rome", "days": 3}
ARGUMENTS = '{"city":"Rome","days":3}'
LONG = "x" * 4100


def chat(*messages: Any, **fields: Any) -> ModelRequest:
    return parse_request(json.dumps({"messages": messages, **fields}).encode())


def anthropic(*messages: Any, **fields: Any) -> ModelRequest:
    return anthropic_schema.parse_request(
        json.dumps({"messages": messages, "max_tokens": 9, **fields}).encode()
    )


def responses(given: Any, **fields: Any) -> ModelRequest:
    body = json.dumps({"input": given, **fields}).encode()
    return responses_schema.parse_request(body, ResponseStore().recall).request


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


def chat_call(name: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": name, "arguments": ARGUMENTS}}


def response_call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": name, "name": name, "arguments": ARGUMENTS}


CONVERSATIONS = {
    "a question": (chat(user("Hello")), anthropic(user("Hello")), responses("Hello")),
    "a system prompt": (
        chat({"role": "system", "content": "Be brief."}, user("Hello")),
        anthropic(user("Hello"), system="Be brief."),
        responses("Hello", instructions="Be brief."),
    ),
    "parts": (
        chat(
            user(
                [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:,"}},
                    {"type": "text", "text": "What?"},
                ]
            )
        ),
        anthropic(
            user(
                [
                    {"type": "text", "text": "Look:", "cache_control": {"type": "ephemeral"}},
                    {"type": "image", "source": {"type": "url", "url": "data:,"}},
                    {"type": "text", "text": "What?"},
                ]
            )
        ),
        responses(
            [
                user(
                    [
                        {"type": "input_text", "text": "Look:"},
                        {"type": "input_image", "image_url": "data:,"},
                        {"type": "input_text", "text": "What?"},
                    ]
                )
            ]
        ),
    ),
    "two calls and their results": (
        chat(
            user("Weather?"),
            assistant("Let me see.", tool_calls=[chat_call("weather"), chat_call("time")]),
            {"role": "tool", "tool_call_id": "weather", "content": "sunny"},
            {"role": "tool", "tool_call_id": "time", "content": "noon"},
            user("And tomorrow?"),
        ),
        anthropic(
            user("Weather?"),
            assistant(
                [
                    {"type": "thinking", "thinking": "a tool may know", "signature": "s"},
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "weather", "name": "weather", "input": CALL},
                    {"type": "tool_use", "id": "time", "name": "time", "input": CALL},
                ]
            ),
            user(
                [
                    {"type": "tool_result", "tool_use_id": "weather", "content": "sunny"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "time",
                        "content": [{"type": "text", "text": "noon"}],
                    },
                    {"type": "text", "text": "And tomorrow?"},
                ]
            ),
        ),
        responses(
            [
                user("Weather?"),
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
                },
                response_call("weather"),
                response_call("time"),
                {"type": "function_call_output", "call_id": "weather", "output": "sunny"},
                {
                    "type": "function_call_output",
                    "call_id": "time",
                    "output": [{"type": "input_text", "text": "noon"}],
                },
                user("And tomorrow?"),
            ]
        ),
    ),
    "a result at the end": (
        chat(
            user("Weather?"),
            assistant(None, tool_calls=[chat_call("weather")]),
            {"role": "tool", "tool_call_id": "weather", "content": "sunny"},
        ),
        anthropic(
            user("Weather?"),
            assistant([{"type": "tool_use", "id": "weather", "name": "weather", "input": CALL}]),
            user([{"type": "tool_result", "tool_use_id": "weather", "content": "sunny"}]),
        ),
        responses(
            [
                user("Weather?"),
                response_call("weather"),
                {"type": "function_call_output", "call_id": "weather", "output": "sunny"},
            ]
        ),
    ),
    "one long enough for the cache": (
        chat({"role": "system", "content": LONG}, user("a"), assistant("b"), user("c")),
        anthropic(user("a"), assistant("b"), user("c"), system=LONG),
        responses([user("a"), assistant("b"), user("c")], instructions=LONG),
    ),
}


@pytest.mark.parametrize("requests", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_a_conversation_costs_the_same_in_every_dialect(requests: tuple[ModelRequest, ...]) -> None:
    first, *others = requests
    assert first.prompt_tokens > 6
    for other in others:
        assert other.prompt == first.prompt
        assert other.questions == first.questions


def test_a_long_conversation_is_cached_but_for_its_last_message() -> None:
    assert [each.cached_tokens for each in CONVERSATIONS["one long enough for the cache"]] == [1024] * 3


def test_tools_are_counted_as_the_dialect_writes_them() -> None:
    schema = {"type": "object"}
    flat = [{"type": "function", "name": "é", "parameters": schema}]
    own = [{"name": "é", "input_schema": schema}]
    assert responses("", tools=flat).prompt_tokens == 6 + count_json(flat)
    assert anthropic(user(""), tools=own).prompt_tokens == 6 + count_json(own)
    assert responses("", tools=[]).prompt_tokens == anthropic(user(""), tools=[]).prompt_tokens == 6
