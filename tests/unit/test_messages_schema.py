"""Which Messages requests are taken, which field of the others is named, and what is counted in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.catalog import AUTO
from gateway.errors import InvalidRequest
from gateway.schema.base import ModelRequest
from gateway.schema.messages import MessagesRequest, parse_messages_request

HELLO = {"role": "user", "content": "Hello"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "x" * 4000}}
TOOL = {"name": "weather", "input_schema": {"type": "object"}}


def parse(**fields: Any) -> MessagesRequest:
    return parse_messages_request(json.dumps({"messages": [HELLO], **fields}).encode())


def user(*blocks: object) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages[0]"),
        ({"messages": [HELLO, {"content": "Hello"}]}, "messages[1].role"),
        ({"messages": [{"role": 1, "content": "Hello"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {}}]}, "messages[0].content"),
        ({"messages": [user("Hello")]}, "messages[0].content[0]"),
        ({"messages": [user({})]}, "messages[0].content[0].type"),
        ({"messages": [user(text("x"), {"type": "text"})]}, "messages[0].content[1].text"),
        ({"messages": [user({"type": "text", "text": 1})]}, "messages[0].content[0].text"),
        ({"system": 1}, "system"),
        ({"system": [{"type": "text"}]}, "system[0].text"),
        ({"tools": {}}, "tools"),
        ({"tools": [TOOL, 1]}, "tools[1]"),
        ({"max_tokens": "64"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 64.0}, "max_tokens"),
        ({"model": 1}, "model"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_the_field_at_fault_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(("body", "param"), [(b"[]", None), (b"{", None), (b"{}", "messages")])
def test_a_body_without_messages_is_refused(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_messages_request(body)
    assert refused.value.param == param


def test_what_only_the_provider_can_judge_is_taken() -> None:
    request = parse(
        messages=[{"role": "oracle", "content": [{"type": "future", "content": 7, "source": []}]}],
        thinking=3,
        output_config="x",
        tools=[{}],
    )
    assert request.prompt_tokens > 0
    assert request.capabilities == {"tools"}


def test_absent_fields_have_their_defaults() -> None:
    request: ModelRequest = parse()
    assert (request.model, request.stream, request.include_usage, request.stored) == (
        AUTO,
        False,
        True,
        False,
    )
    assert request.max_output_tokens is None
    assert request.capabilities == frozenset()


def test_given_fields_are_read() -> None:
    request = parse(model="claude", stream=True, max_tokens=64)
    assert (request.model, request.stream, request.max_output_tokens) == ("claude", True, 64)


def test_only_what_the_user_wrote_counts_as_the_users() -> None:
    request = parse(
        system="System prompt",
        messages=[
            {"role": "user", "content": "Zürich"},
            {"role": "assistant", "content": [text("not this")]},
            user(
                text("ab"),
                IMAGE,
                {"type": "tool_result", "tool_use_id": "a", "content": [text("nor this")]},
                {"type": "tool_result", "tool_use_id": "b", "content": "nor that"},
                {"type": "document", "source": {"type": "text", "data": "nor those"}},
                text("c\N{GRINNING FACE}"),
            ),
        ],
    )
    assert request.user_characters == 6 + 2 + 2


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 2),
        ({"messages": [HELLO, HELLO]}, 2 + 3 + 2),
        ({"system": "Be brief."}, 2 + 3 + 3),
        ({"system": [text("Be brief."), text("Be kind.")]}, 2 + 3 + 3 + 2),
        ({"system": ""}, 2),
        ({"messages": [user(text("Hello"), IMAGE)]}, 2 + 85),
        ({"messages": [user({"type": "tool_result", "content": "12345678"})]}, 2),
        ({"messages": [user({"type": "tool_result", "content": [text("12345678"), IMAGE]})]}, 2 + 85),
        # weather; {"city":"x"}
        ({"messages": [user({"type": "tool_use", "name": "weather", "input": {"city": "x"}})]}, 2 + 3),
        ({"messages": [user({"type": "document", "source": {"type": "text", "data": "12345"}})]}, 2),
        (
            {
                "messages": [
                    user({"type": "document", "source": {"type": "content", "content": [text("12345")]}})
                ]
            },
            2,
        ),
        # [{"name":"weather","input_schema":{"type":"object"}}]
        ({"tools": [TOOL]}, 2 + 14),
        ({"tools": []}, 2),
    ],
)
def test_the_prompt_is_counted_as_four_characters_a_token(fields: dict[str, Any], tokens: int) -> None:
    assert parse(**fields).prompt_tokens == tokens + 3 + 3


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({"messages": [user(IMAGE)]}, {"images"}),
        ({"messages": [user({"type": "tool_result", "content": [IMAGE]})]}, {"images", "tools"}),
        ({"messages": [user({"type": "document", "source": {"type": "base64"}})]}, {"files"}),
        ({"messages": [user({"type": "document", "source": {"type": "url"}})]}, {"files"}),
        ({"messages": [user({"type": "document", "source": {"type": "text", "data": "x"}})]}, set()),
        (
            {"messages": [user({"type": "document", "source": {"type": "content", "content": [IMAGE]}})]},
            {"images"},
        ),
        ({"tools": [TOOL]}, {"tools"}),
        ({"tools": []}, set()),
        ({"output_config": {"format": {"type": "json_schema"}}}, {"json_schema"}),
        ({"output_config": {"effort": "low"}}, set()),
        ({"output_format": {"type": "json_schema"}}, {"json_schema"}),
        ({"stream": True}, {"streaming"}),
    ],
)
def test_what_a_model_must_be_capable_of_is_told(fields: dict[str, Any], needed: set[str]) -> None:
    assert parse(**fields).capabilities == needed


def test_the_body_keeps_its_bytes_but_for_the_model() -> None:
    body = (
        b'{ "model":"auto",\n "messages": [{"role":"user","content":"Z\xc3\xbcrich\\u0021"}], "future": 1.0 }'
    )
    assert parse_messages_request(body).body_for("claude-x") == body.replace(b'"auto"', b'"claude-x"')
