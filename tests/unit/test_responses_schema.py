"""Which requests for responses are taken, which field of the others is named, and what is read from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog import AUTO
from gateway.errors import InvalidRequest
from gateway.jsontext import parse_object
from gateway.schema.responses import ResponsesRequest, parse_responses_request

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
IMAGE = {"type": "input_image", "image_url": "https://images.test/cat.png", "detail": "auto"}


def parse(input: object = "Hello", **fields: Any) -> ResponsesRequest:
    return parse_responses_request(json.dumps({"input": input, **fields}).encode())


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        parse_responses_request(body)
    return refused.value


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def text(text: object) -> dict[str, object]:
    return {"type": "input_text", "text": text}


@pytest.mark.parametrize(
    ("input", "param"),
    [
        (None, "input"),
        (1, "input"),
        (True, "input"),
        ({}, "input"),
        (["Hello"], "input[0]"),
        ([user("Hello"), None], "input[1]"),
        ([{"type": 1}], "input[0].type"),
        ([{"role": ["user"], "content": "Hello"}], "input[0].role"),
        ([user(1)], "input[0].content"),
        ([user({"type": "input_text"})], "input[0].content"),
        ([user([None])], "input[0].content[0]"),
        ([user(["Hello"])], "input[0].content[0]"),
        ([user([{}])], "input[0].content[0].type"),
        ([user([text("a"), text(None)])], "input[0].content[1].text"),
        ([{"type": "message", **user([text(1)])}], "input[0].content[0].text"),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": 1}]}],
            "input[0].content[0].refusal",
        ),
        ([{"type": "function_call", "name": 1, "arguments": "{}"}], "input[0].name"),
        ([{"type": "function_call", "name": "f", "arguments": {}}], "input[0].arguments"),
        ([{"type": "function_call_output", "output": 1}], "input[0].output"),
        ([{"type": "function_call_output", "output": [text(None)]}], "input[0].output[0].text"),
        ([{"type": "custom_tool_call", "name": "f", "input": 1}], "input[0].input"),
    ],
)
def test_an_ill_typed_input_is_refused_by_the_place_at_fault(input: object, param: str) -> None:
    refused = refusal(json.dumps({"input": input}).encode())
    assert refused.status == 400
    assert refused.param == param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", 1),
        ("stream", "true"),
        ("instructions", ["Be brief."]),
        ("max_output_tokens", "5"),
        ("max_output_tokens", 1.5),
        ("max_output_tokens", True),
        ("tools", {}),
    ],
)
def test_an_ill_typed_field_is_refused_by_name(field: str, value: object) -> None:
    assert refusal(json.dumps({"input": "Hello", field: value}).encode()).param == field


def test_a_tool_that_is_no_object_is_refused_by_its_place() -> None:
    assert refusal(b'{"input": "", "tools": [{"type": "function"}, "f"]}').param == "tools[1]"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"input": "a", "input": "b"}', b'{"input": NaN}', b'{"input":']
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    assert refusal(body).status == 400


@pytest.mark.parametrize("field", [{"prompt": {"id": "pmpt_1"}}, {"previous_response_id": "resp_1"}])
def test_a_prompt_or_an_earlier_response_may_stand_in_for_the_input(field: dict[str, object]) -> None:
    request = parse_responses_request(json.dumps(field).encode())
    assert request.stored
    assert request.user_characters == 0
    assert request.prompt_tokens == 3


def test_no_model_named_means_auto() -> None:
    assert parse().model == AUTO
    assert parse(model=None).model == AUTO
    assert parse(model="CheapModel").model == "CheapModel"


def test_usage_is_always_part_of_the_answer() -> None:
    assert parse(stream=True).include_usage
    assert parse(stream=True).stream
    assert not parse(stream=None).stream


def test_the_limit_of_output_is_read() -> None:
    assert parse(max_output_tokens=16).max_output_tokens == 16
    assert parse().max_output_tokens is None


@given(st.text(CHARACTERS))
def test_a_string_of_input_is_the_users_text(words: str) -> None:
    assert parse(words).user_characters == len(words)


def test_only_what_the_user_said_counts_as_the_users_text() -> None:
    request = parse(
        [
            {"role": "developer", "content": "x" * 1000},
            {"type": "message", "role": "user", "content": [text("four"), IMAGE, text("é😀")]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "x" * 1000}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "x" * 1000},
            {"type": "function_call_output", "call_id": "c", "output": "x" * 1000},
            user("five5"),
        ],
        instructions="x" * 1000,
    )
    assert request.user_characters == 4 + 2 + 5


def test_the_prompts_tokens_are_estimated_from_all_that_is_sent() -> None:
    tools = [{"type": "function", "name": "f"}]
    request = parse(
        [
            user([text("12345"), IMAGE]),
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "four", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c", "output": [text("1"), IMAGE]},
            {"type": "custom_tool_call", "call_id": "d", "name": "f", "input": "12345678"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": "123456789"},
        ],
        instructions="123456789",
        tools=tools,
    )
    items = (3 + 2) + 3 + (3 + 3) + (3 + 1) + (3 + 3) + (3 + 3)
    written = len('[{"type":"function","name":"f"}]')
    assert request.prompt_tokens == items + (3 + 3) + 2 * 85 + -(-written // 4) + 3


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, set()),
        ({"input": [user([IMAGE])]}, {"images"}),
        ({"input": [user([{"type": "input_file", "file_data": "x"}])]}, {"files"}),
        ({"input": [user([{"type": "input_audio", "input_audio": {}}])]}, {"audio"}),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": [IMAGE]}]},
            {"images", "tools"},
        ),
        ({"tools": []}, set()),
        ({"tools": [{"type": "function", "name": "f"}]}, {"tools"}),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}}, {"json_schema"}),
        ({"text": {"format": {"type": "text"}}}, set()),
        ({"text": {"format": []}}, set()),
        ({"text": "json_schema"}, set()),
        ({"stream": True}, {"streaming"}),
    ],
)
def test_what_a_model_must_be_capable_of_is_read(fields: dict[str, Any], needed: set[str]) -> None:
    assert parse(**fields).capabilities == needed


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"id": "msg_1"}]},
    ],
)
def test_what_a_provider_must_have_kept_is_known(fields: dict[str, Any]) -> None:
    assert parse(**fields).stored


@pytest.mark.parametrize(
    "fields",
    [{}, {"store": True}, {"background": False}, {"previous_response_id": None}, {"input": [user("Hello")]}],
)
def test_what_stands_for_itself_needs_nothing_kept(fields: dict[str, Any]) -> None:
    assert not parse(**fields).stored


def test_a_provider_gets_the_clients_bytes_with_its_own_model() -> None:
    body = b'{ "model" : "auto", "input":"h\\u00e9", "later": [1.0, {}],\n"stream": true }'
    sent = parse_responses_request(body).body_for("gpt-5")
    assert sent == body.replace(b'"auto"', b'"gpt-5"')


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(CHARACTERS, max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["type", "role", "content", "text", "id", "output", "name", "arguments", "format"]
                ),
                inner
                | st.sampled_from(
                    ["user", "message", "input_text", "input_image", "function_call", "json_schema"]
                ),
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(
        ["input", "text", "tools", "instructions", "background", "conversation", "max_output_tokens"]
    ),
)
def test_whatever_is_sent_is_read_or_refused(value: object, field: str) -> None:
    body = json.dumps({"input": "Hello", field: value}).encode()
    try:
        request = parse_responses_request(body)
    except InvalidRequest as error:
        assert error.param  # noqa: PT017
        return
    assert request.user_characters >= 0
    assert request.prompt_tokens >= 3
    assert isinstance(request.capabilities, frozenset)
    assert request.stored in (True, False)
    assert parse_object(request.body_for("m")).values == {**json.loads(body), "model": "m"}


def test_an_answer_in_the_background_is_refused_since_it_could_not_be_billed() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_responses_request(b'{"input": "Hello", "background": true}')
    assert refused.value.param == "background"
