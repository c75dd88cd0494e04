"""How requests of Anthropic's Messages API become chat completions, and what is refused by which name."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.translation.messages_request import chat_from_messages
from gateway.translation.target import ChatTarget

PLAIN = ChatTarget(reasoning=False, max_tokens_name="max_tokens")
REASONING = ChatTarget(reasoning=True, max_tokens_name="max_completion_tokens")
HELLO = {"role": "user", "content": "Hello"}
HINT = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = {**SCHEMA, "additionalProperties": False}
WEATHER = {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
IMAGE = {"type": "image", "source": PNG}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}}


def translate(target: ChatTarget = PLAIN, **fields: Any) -> dict[str, Any]:
    return chat_from_messages({"model": "auto", "max_tokens": 64, "messages": [HELLO], **fields}, target)


def messages_for(*messages: dict[str, Any], **fields: Any) -> Any:
    return translate(messages=list(messages), **fields)["messages"]


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        translate(**fields)
    return refused.value


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def user(*blocks: object) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: object) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def result(identity: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identity, **more}


def call(identity: str, name: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments, **more}


def test_a_plain_request_keeps_its_words_and_its_limit() -> None:
    assert translate() == {"messages": [HELLO], "max_tokens": 64}


def test_the_limit_has_the_name_that_the_model_knows() -> None:
    assert translate(REASONING) == {"messages": [HELLO], "max_completion_tokens": 64}


def test_the_system_prompt_is_the_first_message() -> None:
    assert messages_for(HELLO, system="Be brief.") == [{"role": "system", "content": "Be brief."}, HELLO]
    blocks = [text("Be brief.", **HINT), text("Be kind.")]
    assert messages_for(HELLO, system=blocks)[0] == {
        "role": "system",
        "content": [text("Be brief."), text("Be kind.")],
    }
    assert messages_for(HELLO, system=blocks[:1])[0]["content"] == "Be brief."
    assert messages_for(HELLO, system=[]) == [HELLO]


def test_a_system_message_between_the_others_stays_where_it_is() -> None:
    told = {"role": "system", "content": [text("Now in French.")]}
    assert messages_for(HELLO, told, HELLO) == [HELLO, {"role": "system", "content": "Now in French."}, HELLO]


def test_blocks_of_a_user_become_parts_in_order() -> None:
    by_url = {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}, **HINT}
    assert messages_for(user(text("Compare", **HINT), IMAGE, by_url)) == [
        {
            "role": "user",
            "content": [
                text("Compare"),
                IMAGE_PART,
                {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
            ],
        }
    ]


def test_a_pdf_becomes_a_file_named_by_its_title_with_its_context_before_it() -> None:
    document = {"type": "document", "source": PDF, "title": "plan.pdf", "context": "From Ann."}
    nameless = {"type": "document", "source": PDF, "citations": {"enabled": False}}
    assert messages_for(user(document, nameless))[0]["content"] == [
        text("From Ann."),
        {
            "type": "file",
            "file": {"filename": "plan.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        },
        {
            "type": "file",
            "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        },
    ]


def test_a_document_of_text_becomes_text_with_its_title_and_context_before_it() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Once upon a time"}
    document = {"type": "document", "source": source, "title": "Tale", "context": "Old."}
    assert messages_for(user(document))[0]["content"] == [
        text("Tale"),
        text("Old."),
        text("Once upon a time"),
    ]
    assert messages_for(user({"type": "document", "source": source}))[0]["content"] == "Once upon a time"


def test_results_of_tools_come_before_the_rest_and_their_images_after_them_in_order() -> None:
    blocks = [
        text("First"),
        result("a", content=[text("one"), IMAGE, text("two")], **HINT),
        text("Second"),
        result("b", content="no such city", is_error=True),
        result("c"),
        result("d", content=[IMAGE]),
    ]
    assert messages_for(user(*blocks)) == [
        {"role": "tool", "tool_call_id": "a", "content": [text("one"), text("two")]},
        {"role": "tool", "tool_call_id": "b", "content": "no such city"},
        {"role": "tool", "tool_call_id": "c", "content": ""},
        {"role": "tool", "tool_call_id": "d", "content": ""},
        {"role": "user", "content": [text("First"), IMAGE_PART, text("Second"), IMAGE_PART]},
    ]


def test_results_alone_leave_no_message_of_the_user() -> None:
    assert messages_for(user(result("a", content=[text("sunny")]))) == [
        {"role": "tool", "tool_call_id": "a", "content": "sunny"}
    ]


def test_what_an_assistant_did_becomes_text_and_tool_calls_without_its_thinking() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        text("Let me see.", citations=None),
        call("a", "weather", {"city": "Zürich", "days": [1, 2]}, caller={"type": "direct"}, **HINT),
        call("b", "now", {}),
    ]
    assert messages_for(HELLO, assistant(*blocks))[1] == {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [
            {
                "id": "a",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Zürich","days":[1,2]}'},
            },
            {"id": "b", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ],
    }
    assert messages_for(assistant(call("b", "now", {})))[0]["content"] is None
    assert messages_for(assistant(blocks[0])) == [{"role": "assistant", "content": ""}]


def test_a_prefill_is_the_last_message() -> None:
    assert messages_for(HELLO, {"role": "assistant", "content": "{"})[-1] == {
        "role": "assistant",
        "content": "{",
    }


def test_tools_become_functions() -> None:
    tools = [
        WEATHER | {"strict": True, "type": "custom", "eager_input_streaming": True, **HINT},
        {"name": "now", "input_schema": {"type": "object"}, "allowed_callers": ["direct"]},
    ]
    assert translate(tools=tools)["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Of a city.",
                "parameters": SCHEMA,
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}},
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        (
            {"type": "tool", "name": "weather"},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": False},
            {"tool_choice": "auto", "parallel_tool_calls": True},
        ),
    ],
)
def test_a_choice_of_tools_keeps_its_meaning(choice: dict[str, Any], expected: dict[str, Any]) -> None:
    chat = translate(tools=[WEATHER], tool_choice=choice)
    assert {name: chat[name] for name in chat if name not in ("messages", "max_tokens", "tools")} == expected


def test_without_tools_no_choice_is_sent_and_none_can_be_demanded() -> None:
    assert translate(tools=[], tool_choice={"type": "auto"}) == translate()
    assert refusal(tool_choice={"type": "any"}).param == "tool_choice"


def test_sampling_stops_and_streams_are_carried_over() -> None:
    chat = translate(temperature=0, top_p=0.5, stop_sequences=["END", "\n\n"], stream=True)
    assert chat == translate() | {
        "temperature": 0,
        "top_p": 0.5,
        "stop": ["END", "\n\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert translate(stream=False, stop_sequences=[]) == translate()


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"user_id": "ann"}},
        {"service_tier": "auto"},
        {"speed": "standard"},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        {"output_config": {"effort": "high"}},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        {"container": None, "inference_geo": None, "future": None, "thinking": None, "tools": None},
        HINT,
    ],
)
def test_what_the_answer_does_not_depend_on_is_left_out(fields: dict[str, Any]) -> None:
    assert translate(**fields) == translate()


def test_the_standard_tier_is_openais_default() -> None:
    assert translate(service_tier="standard_only")["service_tier"] == "default"


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 4097}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 16384}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 16385, "display": "omitted"}}, "high"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "between_tools"}}, None),
        ({"thinking": {"type": "disabled"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, None),
        ({"output_config": {"effort": "medium"}}, "medium"),
        ({"output_config": {"effort": "high"}}, "high"),
        ({"output_config": {"effort": "xhigh"}}, "high"),
        ({"output_config": {"effort": "max"}}, "high"),
    ],
)
def test_thinking_becomes_an_effort_where_the_model_reasons(
    fields: dict[str, Any], effort: str | None
) -> None:
    assert translate(REASONING, **fields).get("reasoning_effort") == effort


@pytest.mark.parametrize("where", ["output_format", "output_config"])
def test_a_schema_of_the_answer_is_demanded_strictly(where: str) -> None:
    wanted = {"type": "json_schema", "schema": CLOSED}
    fields = {where: wanted if where == "output_format" else {"format": wanted}}
    chat = translate(PLAIN, **fields)
    assert chat["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": CLOSED, "strict": True},
    }


def test_a_schema_that_openai_would_refuse_as_strict_is_not_called_so() -> None:
    wanted = {"type": "json_schema", "schema": SCHEMA}
    assert translate(PLAIN, output_format=wanted)["response_format"]["json_schema"] == {
        "name": "answer",
        "schema": SCHEMA,
        "strict": False,
    }


SEARCH = {"type": "search_result", "source": "x", "title": "x", "content": [text("x")]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"container": "c"}, "container"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"top_k": 5}, "top_k"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"speed": "fast"}, "speed"),
        ({"future": 1}, "future"),
        ({"x" * 99: 1}, "x" * 64),
        (
            {"context_management": {"edits": [{"type": "compact_20260112"}]}},
            "context_management.edits[0].type",
        ),
        ({"context_management": {"other": 1}}, "context_management.other"),
        ({"output_config": {"task_budget": {}}}, "output_config.task_budget"),
        ({"output_format": {"type": "text", "schema": {}}}, "output_format.type"),
        ({"thinking": {"type": "eternal"}}, "thinking.type"),
        ({"tools": [WEATHER, {"type": "web_search_20250305", "name": "web_search"}]}, "tools[1].type"),
        ({"tools": [WEATHER | {"defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [WEATHER | {"input_examples": [{}]}]}, "tools[0].input_examples"),
        ({"tools": [WEATHER | {"allowed_callers": ["code"]}]}, "tools[0].allowed_callers"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"messages": [HELLO, {"role": "developer", "content": "x"}]}, "messages[1].role"),
        ({"messages": [HELLO | {"name": "x"}]}, "messages[0].name"),
        ({"messages": [user(SEARCH)]}, "messages[0].content[0].type"),
        ({"messages": [user(result("a", content=[SEARCH]))]}, "messages[0].content[0].content[0].type"),
        ({"messages": [user(call("a", "b", {}))]}, "messages[0].content[0].type"),
        ({"messages": [user(text("x", future=1))]}, "messages[0].content[0].future"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [user(IMAGE | {"transformations": {"oversized_image": "error"}})]},
            "messages[0].content[0].transformations.oversized_image",
        ),
        *(
            (
                {"messages": [user({"type": "document", "source": {"type": kind}})]},
                "messages[0].content[0].source.type",
            )
            for kind in ("url", "file", "content")
        ),
        (
            {"messages": [user({"type": "document", "source": PDF, "citations": {"enabled": True}})]},
            "messages[0].content[0].citations",
        ),
        ({"messages": [assistant({"type": "server_tool_use"})]}, "messages[0].content[0].type"),
        ({"messages": [assistant(IMAGE)]}, "messages[0].content[0].type"),
        (
            {"messages": [assistant(call("a", "b", {}, caller={"type": "code_execution"}))]},
            "messages[0].content[0].caller",
        ),
        ({"system": [IMAGE]}, "system[0].type"),
    ],
)
def test_what_cannot_be_translated_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refusal(**fields)
    assert error.param == param
    assert (
        "cannot be translated for this model's provider, which speaks chat completions only." in error.message
    )


def test_a_refusal_says_which_value_it_is_about() -> None:
    error = refusal(tools=[{"type": "bash_20250124", "name": "bash"}])
    assert error.message.startswith("'bash_20250124' as 'tools[0].type' cannot be translated")


def test_an_unprintable_name_is_not_repeated() -> None:
    error = refusal(**{"a\x1b[31mb": 1})
    assert error.param is None
    assert "\x1b" not in error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [user("x")]}, "messages[0].content[0]"),
        ({"messages": [user({"text": "x"})]}, "messages[0].content[0].type"),
        ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source"),
        ({"messages": [user(result("a", is_error="no"))]}, "messages[0].content[0].is_error"),
        ({"messages": [assistant(call("a", "b", []))]}, "messages[0].content[0].input"),  # type: ignore[arg-type]
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"stop_sequences": ["END", 1]}, "stop_sequences[1]"),
        ({"stream": "yes"}, "stream"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"metadata": "ann"}, "metadata"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_format": {"type": "json_schema"}}, "output_format.schema"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": {"name": "x"}}, "tools"),
    ],
)
def test_what_is_ill_typed_or_missing_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


def test_one_format_of_the_answer_is_enough() -> None:
    wanted = {"type": "json_schema", "schema": SCHEMA}
    assert refusal(output_format=wanted, output_config={"format": wanted}).param == "output_format"


# A request with everything in it, in which any one value is replaced by nonsense.
FULL = {
    "model": "auto",
    "max_tokens": 64,
    "system": [text("Be brief.", **HINT)],
    "messages": [
        user(
            text("x"),
            IMAGE,
            {"type": "document", "source": PDF, "title": "t", "citations": {"enabled": False}},
        ),
        assistant(text("y"), call("a", "weather", {"city": "x"}, caller={"type": "direct"})),
        user(result("a", content=[text("z"), IMAGE], is_error=False)),
    ],
    "tools": [WEATHER | {"strict": True, "allowed_callers": ["direct"]}],
    "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    "temperature": 0.5,
    "stop_sequences": ["END"],
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
    "metadata": {"user_id": "x"},
    "service_tier": "auto",
    "stream": True,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, child in inner for path in paths(child, (*at, name)))]


def with_nonsense(value: Any, path: tuple[Any, ...], nonsense: object) -> Any:
    if not path:
        return nonsense
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_nonsense(value[path[0]], path[1:], nonsense)
    return copy


@given(path=st.sampled_from(paths(FULL)[1:]), nonsense=JSON, target=st.sampled_from([PLAIN, REASONING]))
def test_nonsense_anywhere_is_translated_or_refused_and_nothing_else(
    path: tuple[Any, ...], nonsense: object, target: ChatTarget
) -> None:
    chat: dict[str, Any] = {}
    with suppress(InvalidRequest):
        chat = chat_from_messages(with_nonsense(FULL, path, nonsense), target)
    assert "model" not in chat
    json.dumps(chat)


def test_the_request_is_left_as_it_was() -> None:
    before = json.dumps(FULL)
    chat_from_messages(FULL, REASONING)
    assert json.dumps(FULL) == before
