"""What a request for a response asks of a provider that speaks chat completions only, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.translation.responses_request import chat_from_responses
from gateway.translation.responses_tools import tools_in_namespaces
from gateway.translation.target import ChatTarget

TARGET = ChatTarget(reasoning=True, max_tokens_name="max_completion_tokens")
PLAIN_TARGET = ChatTarget(reasoning=False, max_tokens_name="max_tokens")
FUNCTION = {"type": "function", "name": "f"}
CHAT_FUNCTION = {"type": "function", "function": {"name": "f"}}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"}
CHAT_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}


def chat(input: object = "Hello", target: ChatTarget = TARGET, **fields: Any) -> dict[str, Any]:
    return chat_from_responses({"input": input, **fields}, target)


def messages(*items: object, **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(list(items), **fields)["messages"]
    return found


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        chat(**fields)
    return refused.value


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: object) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def call(call_id: str) -> dict[str, Any]:
    return {"type": "function_call", "id": "fc_1", "call_id": call_id, "name": "f", "arguments": '{"a": 1}'}


def chat_call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def output(call_id: str, output: object = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def tool(call_id: str, content: object = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def test_a_string_is_what_the_user_says() -> None:
    assert chat("Hello") == {"messages": [user("Hello")]}


def test_instructions_come_first_as_a_system_message() -> None:
    assert chat("Hello", instructions="Be brief.")["messages"] == [
        {"role": "system", "content": "Be brief."},
        user("Hello"),
    ]


def test_messages_with_and_without_a_type_keep_their_roles() -> None:
    assert messages(
        {"role": "system", "content": "s"},
        {"type": "message", "role": "developer", "content": [text("d")]},
        {"type": "message", "role": "user", "content": [text("u")], "status": "completed"},
        {"role": "assistant", "content": "a", "phase": "final_answer"},
    ) == [
        {"role": "system", "content": "s"},
        {"role": "system", "content": "d"},
        user("u"),
        assistant("a"),
    ]


def test_parts_keep_their_order() -> None:
    assert messages(
        user(
            [
                text("Look"),
                IMAGE,
                {"type": "input_file", "file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                text("and say"),
            ]
        )
    ) == [
        user(
            [
                {"type": "text", "text": "Look"},
                CHAT_IMAGE,
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
                },
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                {"type": "text", "text": "and say"},
            ]
        )
    ]


def test_a_breakpoint_of_the_cache_stays_on_its_part() -> None:
    marked = {**text("long"), "prompt_cache_breakpoint": {"mode": "explicit"}}
    (message,) = messages(user([marked]))
    assert message["content"] == [
        {"type": "text", "text": "long", "prompt_cache_breakpoint": {"mode": "explicit"}}
    ]


def test_an_earlier_answer_goes_back_in_as_it_came_out() -> None:
    answer = {
        "id": "msg_1",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": "Yes", "annotations": [], "logprobs": []},
            {"type": "refusal", "refusal": "No"},
        ],
    }
    assert messages(user("?"), answer)[1] == assistant(
        [{"type": "text", "text": "Yes"}, {"type": "refusal", "refusal": "No"}]
    )


def test_calls_join_what_the_assistant_said_before_them() -> None:
    assert messages(user("?"), assistant("Let me see"), call("a"), call("b"), output("a"), output("b")) == [
        user("?"),
        {**assistant("Let me see"), "tool_calls": [chat_call("a"), chat_call("b")]},
        tool("a"),
        tool("b"),
    ]


def test_calls_without_words_have_a_message_of_their_own() -> None:
    assert messages(call("a"), output("a"), call("b"), output("b")) == [
        {**assistant(None), "tool_calls": [chat_call("a")]},
        tool("a"),
        {**assistant(None), "tool_calls": [chat_call("b")]},
        tool("b"),
    ]


def test_two_messages_of_the_assistant_stay_two() -> None:
    assert messages(assistant("one"), assistant("two"), call("a"), output("a")) == [
        assistant("one"),
        {**assistant("two"), "tool_calls": [chat_call("a")]},
        tool("a"),
    ]


def test_reasoning_is_dropped_and_does_not_part_a_turn() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
    assert messages(reasoning, assistant("Hm"), reasoning, call("a"), output("a"), user("Go on")) == [
        {**assistant("Hm"), "tool_calls": [chat_call("a")]},
        tool("a"),
        user("Go on"),
    ]


def test_words_behind_a_call_do_not_part_it_from_its_output() -> None:
    assert messages(call("a"), assistant("soon"), output("a")) == [
        {**assistant("soon"), "tool_calls": [chat_call("a")]},
        tool("a"),
    ]
    assert messages(assistant("now"), call("a"), assistant("soon"), output("a"))[0]["content"] == [
        {"type": "text", "text": "now"},
        {"type": "text", "text": "soon"},
    ]


def test_what_is_said_between_a_call_and_its_output_comes_after_it() -> None:
    assert messages(call("a"), user("Hurry"), call("b"), output("b"), output("a"), user("So?")) == [
        {**assistant(None), "tool_calls": [chat_call("a"), chat_call("b")]},
        tool("b"),
        tool("a"),
        user("Hurry"),
        user("So?"),
    ]


def test_a_call_that_was_never_answered_holds_nothing_back() -> None:
    assert messages(call("a"), user("Never mind"), call("b"), output("b")) == [
        {**assistant(None), "tool_calls": [chat_call("a")]},
        user("Never mind"),
        {**assistant(None), "tool_calls": [chat_call("b")]},
        tool("b"),
    ]


def test_an_output_ahead_of_its_call_holds_nothing_back() -> None:
    assert messages(output("a"), call("a"), user("So?"), assistant("Well")) == [
        tool("a"),
        {**assistant(None), "tool_calls": [chat_call("a")]},
        user("So?"),
        assistant("Well"),
    ]


def test_images_of_outputs_follow_all_the_outputs() -> None:
    assert messages(
        call("a"), call("b"), output("a", [text("one"), IMAGE]), output("b", [text("two"), text("three")])
    ) == [
        {**assistant(None), "tool_calls": [chat_call("a"), chat_call("b")]},
        tool("a", "one"),
        tool("b", [{"type": "text", "text": "two"}, {"type": "text", "text": "three"}]),
        user([CHAT_IMAGE]),
    ]


def test_an_output_of_images_alone_leaves_its_message_empty() -> None:
    assert messages(call("a"), output("a", [IMAGE]))[1:] == [tool("a", ""), user([CHAT_IMAGE])]


def test_calls_of_custom_tools_are_calls_of_custom_tools() -> None:
    assert messages(
        {"type": "custom_tool_call", "call_id": "a", "name": "sh", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "x.py"},
    ) == [
        {
            **assistant(None),
            "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls"}}],
        },
        tool("a", "x.py"),
    ]


def test_functions_are_nested_and_strict_is_kept() -> None:
    schema = {"type": "object", "properties": {}}
    full = {**FUNCTION, "description": "d", "parameters": schema, "strict": True}
    assert chat(tools=[full, {**FUNCTION, "strict": False, "parameters": None}])["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": schema, "strict": True},
        },
        {"type": "function", "function": {"name": "f", "strict": False}},
    ]


def test_a_grammar_of_a_custom_tool_is_nested() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: WORD"}
    tools = [
        {"type": "custom", "name": "g", "description": "d", "format": grammar},
        {"type": "custom", "name": "t", "format": {"type": "text"}},
        {"type": "custom", "name": "u"},
    ]
    assert chat(tools=tools)["tools"] == [
        {
            "type": "custom",
            "custom": {
                "name": "g",
                "description": "d",
                "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: WORD"}},
            },
        },
        {"type": "custom", "custom": {"name": "t", "format": {"type": "text"}}},
        {"type": "custom", "custom": {"name": "u"}},
    ]


@pytest.mark.parametrize(
    ("choice", "translated"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        (FUNCTION, CHAT_FUNCTION),
        ({"type": "custom", "name": "c"}, {"type": "custom", "custom": {"name": "c"}}),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [FUNCTION]},
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CHAT_FUNCTION]}},
        ),
    ],
)
def test_the_choice_of_a_tool_is_kept(choice: object, translated: object) -> None:
    assert chat(tools=[FUNCTION], tool_choice=choice)["tool_choice"] == translated


def test_without_tools_nothing_is_said_of_them() -> None:
    assert chat(tools=[], tool_choice="auto", parallel_tool_calls=True) == chat()


def test_parallel_calls_are_kept() -> None:
    assert chat(tools=[FUNCTION], parallel_tool_calls=False)["parallel_tool_calls"] is False


def test_the_limit_of_output_goes_by_the_providers_name_for_it() -> None:
    assert chat(max_output_tokens=5)["max_completion_tokens"] == 5
    assert chat(target=PLAIN_TARGET, max_output_tokens=5)["max_tokens"] == 5


def test_the_same_fields_are_carried() -> None:
    fields: dict[str, Any] = {
        "temperature": 0,
        "top_p": 0.5,
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "service_tier": "flex",
    }
    assert chat(**fields) == {**chat(), **fields}


def test_metadata_goes_only_with_what_is_to_be_stored() -> None:
    assert chat(metadata={"a": "b"}, store=True) == {**chat(), "store": True, "metadata": {"a": "b"}}
    assert chat(metadata={"a": "b"}, store=False) == chat()
    assert chat(metadata={"a": "b"}) == chat()


@pytest.mark.parametrize(
    ("fields", "translated"),
    [
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"top_logprobs": 0}, {}),
        (
            {"top_logprobs": 0, "include": ["message.output_text.logprobs"]},
            {"logprobs": True, "top_logprobs": 0},
        ),
        ({"include": ["reasoning.encrypted_content"]}, {}),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": {"a": {}}}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": {"a": {}}},
                }
            },
        ),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {"reasoning_effort": "high"}),
        ({"reasoning": {"effort": None}}, {}),
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            {"stream": True, "stream_options": {"include_obfuscation": False}},
            {"stream": True, "stream_options": {"include_usage": True}},
        ),
    ],
)
def test_what_chat_completions_says_otherwise_is_said_so(
    fields: dict[str, Any], translated: dict[str, Any]
) -> None:
    assert chat(**fields) == {**chat(), **translated}


def test_a_model_that_does_not_reason_is_not_asked_for_effort() -> None:
    assert chat(target=PLAIN_TARGET, reasoning={"effort": "high"}) == chat()


def test_defaults_and_nulls_ask_for_nothing() -> None:
    asked: dict[str, Any] = {
        "model": "auto",
        "stream": False,
        "store": False,
        "background": False,
        "truncation": "disabled",
        "reasoning": {"context": "auto", "mode": "standard"},
        "stream_options": {"include_obfuscation": False},
        "previous_response_id": None,
        "conversation": None,
        "prompt": None,
        "max_tool_calls": None,
        "include": [],
        "text": {},
        "never_heard_of": None,
    }
    assert chat(**asked) == chat()


def test_an_earlier_response_is_refused_with_what_to_do_instead() -> None:
    refused = refusal(previous_response_id="resp_1")
    assert refused.param == "previous_response_id"
    assert "whole conversation" in refused.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}, "input": None}, "prompt"),
        ({"background": True}, "background"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"truncation": "auto"}, "truncation"),
        ({"context_management": []}, "context_management"),
        ({"never_heard_of": 1}, "never_heard_of"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"stream_options": {"include_usage": True}}, "stream_options.include_usage"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"include": [1]}, "include[0]"),
        ({"text": {"format": {"type": "grammar", "grammar": "x"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"later": 1}}, "text.later"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
        ({"reasoning": {"effort": 3}}, "reasoning.effort"),
        ({"tools": [FUNCTION, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "mcp", "server_label": "s"}]}, "tools[0].type"),
        ({"tools": [{"type": "local_shell"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [{**FUNCTION, "async": True}]}, "tools[0].async"),
        ({"tools": [{**FUNCTION, "allowed_callers": ["programmatic"]}]}, "tools[0].allowed_callers"),
        ({"tools": [{**FUNCTION, "output_schema": {}}]}, "tools[0].output_schema"),
        ({"tools": [{"type": "custom", "name": "c", "format": {"type": "x"}}]}, "tools[0].format.type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "mcp", "server_label": "s"}}, "tool_choice.type"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        (
            {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}},
            "tool_choice.tools[0].type",
        ),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_output_tokens": True}, "max_output_tokens"),
        ({"user": 1}, "user"),
        ({"store": "yes"}, "store"),
        ({"metadata": []}, "metadata"),
        ({"instructions": []}, "instructions"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 1}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"type": "web_search_call"}]}, "input[0].type"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0].type"),
        ({"input": [{"type": "message", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{**user("a"), "later": 1}]}, "input[0].later"),
        ({"input": [user([{"type": "input_image", "file_id": "file_1"}])]}, "input[0].content[0].file_id"),
        ({"input": [user([{"type": "input_image"}])]}, "input[0].content[0].image_url"),
        ({"input": [user([{"type": "input_file", "file_id": "file_1"}])]}, "input[0].content[0].file_id"),
        ({"input": [user([{"type": "input_file", "file_url": "u"}])]}, "input[0].content[0].file_url"),
        (
            {"input": [user([{"type": "input_file", "file_data": "x", "detail": "high"}])]},
            "input[0].content[0].detail",
        ),
        ({"input": [user([{"type": "input_audio", "audio": "x"}])]}, "input[0].content[0].input_audio"),
        ({"input": [user([{"type": "computer_screenshot"}])]}, "input[0].content[0].type"),
        ({"input": [assistant([IMAGE])]}, "input[0].content[0].type"),
        ({"input": [user([{"type": "refusal", "refusal": "no"}])]}, "input[0].content[0].type"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": ""}]}, "input[0].call_id"),
        ({"input": [{**call("a"), "arguments": {}}]}, "input[0].arguments"),
        ({"input": [{**call("a"), "caller": {"type": "program", "caller_id": "p"}}]}, "input[0].caller"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "a"}]}, "input[0].output"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    refused = refusal(**fields)
    assert refused.param == param
    assert refused.status == 400
    assert param.rpartition(".")[2] in refused.message


def test_a_refused_type_is_named_with_its_place() -> None:
    message = refusal(tools=[{"type": "web_search"}]).message
    assert "web_search" in message
    assert "tools[0].type" in message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
FULL: dict[str, Any] = {
    "input": [
        user([text("Look"), IMAGE, {"type": "input_file", "file_data": "x", "filename": "a"}]),
        {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        call("a"),
        output("a", [text("b")]),
        {"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "x"},
        user([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]),
    ],
    "tools": [
        {**FUNCTION, "parameters": {}, "strict": True, "allowed_callers": ["direct"]},
        {"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "d"}},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION]},
    "include": ["message.output_text.logprobs"],
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto", "context": "auto"},
    "stream_options": {"include_obfuscation": False},
    "metadata": {"a": "b"},
    "instructions": "i",
    "max_output_tokens": 5,
}


def places(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    return [place for name, child in children for place in [(*at, name), *places(child, (*at, name))]]


@given(st.sampled_from(places(FULL)), JSON)
def test_any_value_anywhere_is_translated_or_refused(place: tuple[str | int, ...], value: object) -> None:
    values = json.loads(json.dumps(FULL))
    holder = values
    for name in place[:-1]:
        holder = holder[name]
    holder[place[-1]] = value
    try:
        translated = chat_from_responses(values, TARGET)
    except InvalidRequest as error:
        assert error.param  # noqa: PT017
        assert len(error.message) < 400  # noqa: PT017
    else:
        json.dumps(translated)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["user", "assistant", "reasoning"]).map(lambda kind: (kind, "")),
            st.tuples(st.sampled_from(["call", "output"]), st.sampled_from("abc")),
        ),
        max_size=12,
    )
)
def test_whatever_the_order_outputs_follow_their_calls(steps: list[tuple[str, str]]) -> None:
    made: dict[str, Any] = {
        "user": lambda _: user("u"),
        "assistant": lambda _: assistant("a"),
        "reasoning": lambda _: {"type": "reasoning", "summary": []},
        "call": call,
        "output": output,
    }
    called: set[str] = set()
    answered: set[str] = set()
    items = [user("start")]
    for kind, name in steps:
        if (kind == "call" and name in called) or (kind == "output" and name not in called - answered):
            continue
        called |= {name} if kind == "call" else set()
        answered |= {name} if kind == "output" else set()
        items.append(made[kind](name))
    found = messages(*items)
    for index, message in enumerate(found):
        expected = {asked["id"] for asked in message.get("tool_calls", ())} & answered
        following = found[index + 1 : index + 1 + len(expected)]
        assert {after.get("tool_call_id") for after in following} == expected
    said = [item for item in items if item.get("role") in ("user", "assistant")]
    assert sum(message["role"] == "user" for message in found) == sum(i["role"] == "user" for i in said)
    assert sum(message["role"] == "tool" for message in found) == len(answered)


def test_what_clients_add_to_the_items_that_they_got_is_left_out() -> None:
    text = {"type": "output_text", "text": "{}", "annotations": [], "parsed": {}}
    items = [
        {"type": "message", "role": "assistant", "content": [text]},
        {
            "type": "function_call",
            "call_id": "c",
            "name": "f",
            "arguments": "{}",
            "parsed_arguments": {"a": 1},
        },
        {"type": "function_call_output", "call_id": "c", "output": "4"},
    ]
    chat = chat_from_responses({"input": items}, ChatTarget(reasoning=False, max_tokens_name="max_tokens"))
    assert "parsed" not in repr(chat)
    assert [message["role"] for message in chat["messages"]] == ["assistant", "tool"]


FORECAST = {"type": "function", "name": "forecast", "description": "Days ahead.", "parameters": {}}
WEATHER = {"type": "namespace", "name": "weather", "description": "The weather.", "tools": [FORECAST]}


def test_tools_of_a_namespace_are_tools_by_both_names_and_described_by_both() -> None:
    called = {"type": "function_call", "call_id": "c", "name": "forecast", "arguments": "{}"}
    called["namespace"] = "weather"
    answered = {"type": "function_call_output", "call_id": "c", "output": "4", "namespace": "weather"}
    asked = chat([called, answered], tools=[WEATHER])
    (tool,) = asked["tools"]
    assert tool["function"]["name"] == "weather__forecast"
    assert tool["function"]["description"] == "The weather.\n\nDays ahead."
    assert asked["messages"][0]["tool_calls"][0]["function"]["name"] == "weather__forecast"


@pytest.mark.parametrize("name", ["x" * 80, "x" * 57])
def test_a_long_name_is_shortened_to_what_providers_take_and_stays_its_own(name: str) -> None:
    tools = [{**WEATHER, "tools": [{**FORECAST, "name": f"{name}{end}"} for end in ("a", "b")]}]
    names = [tool["function"]["name"] for tool in chat(tools=tools)["tools"]]
    assert len(set(names)) == 2
    assert {len(each) for each in names} == {64}
    known = tools_in_namespaces({"tools": tools})
    assert [known[each] for each in names] == [("weather", f"{name}a"), ("weather", f"{name}b")]


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({**WEATHER, "tools": [{"type": "web_search"}]}, "tools[0].tools[0].type"),
        ({**WEATHER, "tools": [WEATHER]}, "tools[0].tools[0].type"),
        ({**WEATHER, "tools": [1]}, "tools[0].tools[0]"),
        ({**WEATHER, "tools": 1}, "tools[0].tools"),
        ({**WEATHER, "name": None}, "tools[0].name"),
        ({**WEATHER, "colour": "red"}, "tools[0].colour"),
    ],
)
def test_what_a_namespace_cannot_hold_is_refused_by_name(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat(tools=[tool])
    assert refused.value.param == param
