"""Which chat completion requests are taken, which field of the others is named, and what providers get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog import AUTO
from gateway.errors import InvalidRequest
from gateway.schema.chat import ROLES, ChatRequest, parse_chat_request

HELLO = {"role": "user", "content": "Hello"}
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


def parse(**fields: Any) -> ChatRequest:
    return parse_chat_request(json.dumps({"messages": [HELLO], **fields}).encode())


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        parse_chat_request(body)
    return refused.value


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ([], "messages"),
        ({}, "messages"),
        ("Hello", "messages"),
        (1, "messages"),
        (True, "messages"),
        (["Hello"], "messages[0]"),
        ([None], "messages[0]"),
        ([[HELLO]], "messages[0]"),
        ([HELLO, 1], "messages[1]"),
        ([{}], "messages[0].role"),
        ([{"content": "Hello"}], "messages[0].role"),
        ([HELLO, {"role": None, "content": "Hello"}], "messages[1].role"),
        ([{"role": "robot", "content": "Hello"}], "messages[0].role"),
        ([{"role": "User", "content": "Hello"}], "messages[0].role"),
        ([{"role": ["user"], "content": "Hello"}], "messages[0].role"),
        ([{"role": {}, "content": "Hello"}], "messages[0].role"),
        *(([{"role": role}], "messages[0].content") for role in ROLES if role != "assistant"),
        ([HELLO, user(None)], "messages[1].content"),
        ([user(1)], "messages[0].content"),
        ([user(False)], "messages[0].content"),
        ([user({"type": "text", "text": "Hello"})], "messages[0].content"),
        ([{"role": "assistant", "content": 1}], "messages[0].content"),
        ([user(["Hello"])], "messages[0].content[0]"),
        ([user([None])], "messages[0].content[0]"),
        ([user([{}])], "messages[0].content[0].type"),
        ([user([{"type": None}])], "messages[0].content[0].type"),
        ([user([{"text": "Hello"}])], "messages[0].content[0].type"),
        ([user([{"type": "text"}])], "messages[0].content[0].text"),
        (
            [HELLO, user([{"type": "text", "text": ""}, {"type": "text", "text": 1}])],
            "messages[1].content[1].text",
        ),
        ([{"role": "assistant", "content": [{"type": "text", "text": None}]}], "messages[0].content[0].text"),
    ],
)
def test_an_ill_typed_message_is_refused_by_the_place_at_fault(messages: object, param: str) -> None:
    refused = refusal(json.dumps({"messages": messages}).encode())
    assert refused.status == 400
    assert refused.param == param
    assert refused.body()["error"]["type"] == "invalid_request_error"


def test_a_request_without_messages_is_refused() -> None:
    assert refusal(b'{"model": "auto"}').param == "messages"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 1}, "model"),
        ({"model": ["auto"]}, "model"),
        ({"model": {}}, "model"),
        ({"model": False}, "model"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream": []}, "stream"),
        ({"stream_options": "usage"}, "stream_options"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": 0}, "stream_options"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        *(
            ({name: value}, name)
            for name in ("n", "best_of", "max_tokens", "max_completion_tokens")
            for value in ("10", 10.0, 1.5, True, [10], {"n": 10}, 0, -1)
        ),
        ({"max_tokens": 5, "max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": "100000"}, "max_completion_tokens"),
    ],
)
def test_an_ill_typed_parameter_that_the_gateway_uses_is_refused(fields: dict[str, Any], param: str) -> None:
    refused = refusal(json.dumps({"messages": [HELLO], **fields}).encode())
    assert refused.param == param
    assert f"'{param}'" in refused.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"nonsense", None),
        (b"[]", None),
        (b"\xff", None),
        (b'{"messages": [{"role": "user", "content": "\\udc00"}]}', "messages"),
        (b'{"messages": [{"role": "user", "content": "\\u0000"}]}', "messages"),
        (b'{"model": "a", "model": "b", "messages": []}', "model"),
    ],
)
def test_what_is_no_strict_json_is_refused(body: bytes, param: str | None) -> None:
    refused = refusal(body)
    assert (refused.status, refused.param) == (400, param)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(CHARACTERS) | st.sampled_from([*ROLES, "text"]),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["messages", "role", "content", "type", "text", "model"]), inner
            )
        ),
    ).map(lambda messages: json.dumps({"messages": messages}).encode())
)
def test_whatever_the_messages_the_request_is_taken_or_refused_with_a_param(body: bytes) -> None:
    try:
        chat = parse_chat_request(body)
    except InvalidRequest as error:
        param = error.param or ""
    else:
        param = "messages"
        assert chat.user_characters >= 0
        assert chat.prompt_tokens >= 3 + 3 * len(chat.messages)
    assert param.startswith("messages")


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
        {"role": "user", "content": ""},
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"role": "user", "content": "Hello", "name": 1},
    ],
)
def test_a_message_is_taken_as_providers_take_it(message: dict[str, object]) -> None:
    assert parse(messages=[message]).messages == [message]


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_taken(role: str) -> None:
    assert parse(messages=[{"role": role, "content": "Hello"}]).prompt_tokens == 3 + 3 + 2


@pytest.mark.parametrize("fields", [{}, {"model": None}, {"model": "auto"}])
def test_a_request_that_names_no_model_leaves_the_choice_to_the_gateway(fields: dict[str, object]) -> None:
    assert parse(**fields).model == AUTO


@pytest.mark.parametrize("name", ["", "Auto", " auto", "CheapModel"])
def test_any_other_model_is_the_one_the_client_named(name: str) -> None:
    assert parse(model=name).model == name != AUTO


@pytest.mark.parametrize(("value", "streamed"), [(True, True), (False, False), (None, False)])
def test_only_true_asks_for_a_stream(value: bool | None, streamed: bool) -> None:
    assert parse(stream=value).stream is streamed
    assert parse().stream is False


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"include_usage": True}, True),
        ({"include_usage": False}, False),
        ({"include_usage": None}, False),
        ({}, False),
        (None, False),
        ({"include_obfuscation": True}, False),
    ],
)
def test_only_true_asks_for_usage(options: dict[str, object] | None, wanted: bool) -> None:
    assert parse(stream=True, stream_options=options).include_usage is wanted


def test_parameters_that_the_gateway_does_not_know_are_not_judged() -> None:
    fields = {"temperature": "hot", "tools": 7, "seed": 1.5, "no_such_parameter": {"a": [1]}}
    assert parse(**fields).body.values == {"messages": [HELLO], **fields}


def test_numbers_of_answers_and_tokens_may_be_null() -> None:
    fields = {"n": None, "best_of": None, "max_tokens": None, "max_completion_tokens": None}
    chat = parse(**fields)
    assert (chat.choices, chat.generated_choices, chat.max_output_tokens) == (1, 1, None)


@pytest.mark.parametrize(
    ("fields", "wanted", "generated"),
    [
        ({"n": 3}, 3, 3),
        ({"best_of": 4}, 1, 4),
        ({"n": 3, "best_of": 4}, 3, 4),
        ({"n": 3, "best_of": 2}, 3, 3),
    ],
)
def test_answers_of_which_the_client_gets_the_best_are_generated_too(
    fields: dict[str, int], wanted: int, generated: int
) -> None:
    chat = parse(**fields)
    assert (chat.choices, chat.generated_choices) == (wanted, generated)


def test_the_texts_of_a_prompt_are_those_of_all_its_messages() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "file"}, {"type": "text", "text": "b"}],
        },
        {"role": "assistant"},
    ]
    assert parse(messages=messages).prompt_tokens == 3 + (3 + 3) + (3 + 1 + 1) + 3


PROMPT = r'"messages" :[{"role":"user","content":"H\u00e9llo \/ é 😀"}]'


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        # A plain answer: the model's name, nothing else.
        (f'{{ {PROMPT} , "temperature":1.0e2 }}\n', f'{{"model":"m", {PROMPT} , "temperature":1.0e2 }}\n'),
        (f'{{"model" : "auto",{PROMPT}, "top_p":0.10}}', f'{{"model" : "m",{PROMPT}, "top_p":0.10}}'),
        (f'{{"model":null,{PROMPT}}}', f'{{"model":"m",{PROMPT}}}'),
        (f'{{{PROMPT},"stream":false}}', f'{{"model":"m",{PROMPT},"stream":false}}'),
        (
            f'{{{PROMPT},"stream":null,"stream_options":{{ "include_usage" : false }}}}',
            f'{{"model":"m",{PROMPT},"stream":null,"stream_options":{{ "include_usage" : false }}}}',
        ),
        # A stream: usage too, unless it is asked for already.
        (
            f'{{{PROMPT},"stream":true}}',
            f'{{"model":"m","stream_options":{{"include_usage":true}},{PROMPT},"stream":true}}',
        ),
        (
            f'{{"stream" : true , "stream_options" : null , "model":"x", {PROMPT}}}',
            f'{{"stream" : true , "stream_options" : {{"include_usage":true}} , "model":"m", {PROMPT}}}',
        ),
        *(
            (
                f'{{"stream":true, "stream_options": {{ {options} }}, "model":"x",{PROMPT}}}',
                f'{{"stream":true, "stream_options": {{{changed}}}, "model":"m",{PROMPT}}}',
            )
            for options, changed in [
                ("", '"include_usage":true'),
                ('"include_usage" : false', '"include_usage":true'),
                ('"include_usage" : null', '"include_usage":true'),
                ('"x": [1], "include_usage": false, "y": "é"', '"x":[1],"include_usage":true,"y":"é"'),
                ('"include_obfuscation": false', '"include_obfuscation":false,"include_usage":true'),
            ]
        ),
        (
            f'{{"stream":true,"stream_options": {{ "include_usage" : true,"x":1.0 }}, "model":"x",{PROMPT}}}',
            f'{{"stream":true,"stream_options": {{ "include_usage" : true,"x":1.0 }}, "model":"m",{PROMPT}}}',
        ),
    ],
)
def test_a_provider_gets_the_client_s_bytes_but_for_the_model_and_the_wish_for_usage(
    body: str, sent: str
) -> None:
    assert parse_chat_request(body.encode()).body_for("m").decode() == sent


@given(st.text(CHARACTERS))
def test_any_name_of_a_model_reaches_the_provider(name: str) -> None:
    assert json.loads(parse(model="x").body_for(name))["model"] == name
