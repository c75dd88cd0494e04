"""Messages that a client can get wrong: refused in Anthropic's shape by the name of the field, they cost
nothing and harm nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.catalogs import write_catalog
from tests.support.drawn import any_json, any_objects, any_text, drawing, sending, spoiled
from tests.support.refusals import COUNT_TOKENS, MESSAGES, assert_field_refused, unharmed
from tests.support.wire import ask, post

pytestmark = pytest.mark.heavy

GOOD = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "input_schema": SCHEMA}


def saying(content: Any, role: str = "user") -> dict[str, Any]:
    """Fields of a request with one message."""
    return {"messages": [{"role": role, "content": content}]}


def block(**fields: Any) -> dict[str, Any]:
    """Fields of a request with one block in its one message."""
    return saying([fields])


def image(**source: Any) -> dict[str, Any]:
    return block(type="image", source=source)


def document(**fields: Any) -> dict[str, Any]:
    return block(type="document", **fields)


BLOCK = "messages[0].content[0]"
NO_OBJECTS: list[Any] = [None, [], "hi", 1]
NO_TEXTS: list[Any] = [1, True, {}]
NO_LISTS: list[Any] = [{}, "weather", 1]

# What no model is asked, and whose tokens nobody counts.
WRONG: list[tuple[dict[str, Any], str]] = [
    *(({"messages": [message]}, "messages[0]") for message in NO_OBJECTS),
    *(
        ({"messages": [{"role": role, "content": "hi"}]}, "messages[0].role")
        for role in (None, 1, ["user"], {"user": 1})
    ),
    ({"messages": [{"content": "hi"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    *((saying(content), "messages[0].content") for content in (None, 1, True, {}, {"type": "text"})),
    *((saying([part]), BLOCK) for part in NO_OBJECTS),
    (block(text="hi"), f"{BLOCK}.type"),
    (block(type=1), f"{BLOCK}.type"),
    (block(type="text"), f"{BLOCK}.text"),
    (block(type="text", text=1), f"{BLOCK}.text"),
    ({"messages": [{"role": "user", "content": "hi"}, {"role": 1}]}, "messages[1].role"),
    *(({"system": system}, "system") for system in NO_TEXTS),
    *(({"system": [part]}, "system[0]") for part in NO_OBJECTS),
    ({"system": [{"type": "text"}]}, "system[0].text"),
    *(({"tools": tools}, "tools") for tools in NO_LISTS),
    *(({"tools": [tool]}, "tools[0]") for tool in NO_OBJECTS),
    *(({"max_tokens": limit}, "max_tokens") for limit in ("5", 5.0, True, [5])),
]

# What chat completions need otherwise.
WRONG_TO_TRANSLATE: list[tuple[dict[str, Any], str]] = [
    *(({"max_tokens": limit}, "max_tokens") for limit in (None, 0, -1)),
    *(({"temperature": number}, "temperature") for number in ("1", True, [1])),
    ({"stop_sequences": "stop"}, "stop_sequences"),
    ({"stop_sequences": ["a", 1]}, "stop_sequences[1]"),
    ({"tools": [{"input_schema": SCHEMA}]}, "tools[0].name"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    *(
        ({"tools": [{"name": "f", "input_schema": schema}]}, "tools[0].input_schema.type")
        for schema in ({}, {"type": "array"}, {"type": ["object"]})
    ),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {}}, "tool_choice.type"),
    ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": "1"}}, "thinking.budget_tokens"),
    ({"output_config": {"effort": "utmost"}}, "output_config.effort"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
    ({"service_tier": "priority"}, "service_tier"),
    (block(type="image"), f"{BLOCK}.source"),
    (image(data="aaaa"), f"{BLOCK}.source.type"),
    (image(type="base64", media_type="image/png"), f"{BLOCK}.source.data"),
    (image(type="url", url=1), f"{BLOCK}.source.url"),
    (block(type="tool_result", content="x"), f"{BLOCK}.tool_use_id"),
    (block(type="tool_result", tool_use_id="a", content=[{}]), f"{BLOCK}.content[0].type"),
    (saying([{"type": "tool_use", "id": "a", "name": "f"}], "assistant"), f"{BLOCK}.input"),
]

# What they have nothing for.
UNTRANSLATABLE: list[tuple[dict[str, Any], str]] = [
    ({"top_k": 5}, "top_k"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": []}, "mcp_servers"),
    ({"a field of next year": 1}, "a field of next year"),
    ({"x" * 1000: 1}, "x" * 64),
    ({"speed": "fast"}, "speed"),
    ({"thinking": {"type": "deep"}}, "thinking.type"),
    ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format.type"),
    ({"context_management": {"edits": [{"type": "compact"}]}}, "context_management.edits[0].type"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [{**WEATHER, "input_examples": []}]}, "tools[0].input_examples"),
    ({"tools": [WEATHER], "tool_choice": {"type": "several"}}, "tool_choice.type"),
    *((saying("hi", role), "messages[0].role") for role in ("", "User", "bot", "user ", "tool")),
    (block(type=""), f"{BLOCK}.type"),
    (block(type="search_result", content=[]), f"{BLOCK}.type"),
    (saying([{"type": "image", "source": {}}], "assistant"), f"{BLOCK}.type"),
    (block(type="text", text="hi", colour="red"), f"{BLOCK}.colour"),
    (image(type="file", file_id="f"), f"{BLOCK}.source.type"),
    (image(type="base64", media_type="video/mp4", data="aaaa"), f"{BLOCK}.source.media_type"),
    (document(source={"type": "url", "url": "x"}), f"{BLOCK}.source.type"),
    (document(source={"type": "text", "data": "x"}, citations={"enabled": True}), f"{BLOCK}.citations"),
]


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway that has to translate, whose only worker has to survive all of it."""
    return start_gateway(WEB_CONCURRENCY="1")


@pytest.fixture(scope="module")
def native(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> GatewayUnderTest:
    """A gateway that lets Messages pass through."""
    return start_gateway(WEB_CONCURRENCY="1", MODELS_FILE=write_catalog(tmp_path_factory.mktemp("models")))


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=str)
@pytest.mark.parametrize("path", [MESSAGES, COUNT_TOKENS])
def test_a_wrong_field_is_refused_by_its_name(
    gateway: GatewayUnderTest, path: str, fields: dict[str, Any], param: str
) -> None:
    with unharmed(gateway):
        body = json.dumps(GOOD | fields).encode()
        assert_field_refused(ask(gateway.gateway_url, post(body, path=path)), param, path=path)


@pytest.mark.parametrize(("fields", "param"), WRONG_TO_TRANSLATE, ids=str)
def test_what_a_chat_completion_needs_is_demanded_by_its_name(
    gateway: GatewayUnderTest, fields: dict[str, Any], param: str
) -> None:
    with unharmed(gateway):
        body = json.dumps(GOOD | fields).encode()
        assert_field_refused(ask(gateway.gateway_url, post(body, path=MESSAGES)), param, path=MESSAGES)


@pytest.mark.parametrize(("fields", "param"), UNTRANSLATABLE, ids=lambda value: str(value)[:80])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_what_cannot_be_translated_is_refused_by_its_name(
    gateway: GatewayUnderTest, fields: dict[str, Any], param: str, stream: bool
) -> None:
    with unharmed(gateway):
        body = json.dumps(GOOD | fields | {"stream": stream}).encode()
        answer = ask(gateway.gateway_url, post(body, path=MESSAGES))
        assert_field_refused(answer, param, path=MESSAGES)
        assert "cannot be translated" in answer.json()["error"]["message"]


def test_the_tokens_of_what_cannot_be_translated_are_counted(gateway: GatewayUnderTest) -> None:
    with unharmed(gateway):
        for fields, _ in UNTRANSLATABLE:
            body = json.dumps(GOOD | fields).encode()
            answer = ask(gateway.gateway_url, post(body, path=COUNT_TOKENS))
            assert answer.status == 200, (fields, answer.body)
            assert answer.json()["input_tokens"] > 0


def test_a_providers_refusal_is_told_in_its_own_words(gateway: GatewayUnderTest) -> None:
    errors = int(gateway.counters().get("model:CheapModel:errors", 0))
    body = json.dumps(GOOD | {"temperature": 5}).encode()
    answer = ask(gateway.gateway_url, post(body, path=MESSAGES))
    assert (answer.status, answer.headers["X-Gateway-Model"]) == (400, "CheapModel")
    error = answer.json()["error"]
    assert answer.json() == {"type": "error", "error": error}
    assert error["type"] == "invalid_request_error"
    assert "temperature" in error["message"]
    assert int(gateway.counters()["model:CheapModel:errors"]) == errors + 1


texts = any_text | st.just("hello")
ephemeral = st.just({"type": "ephemeral"})
text_blocks = st.fixed_dictionaries(
    {"type": st.just("text"), "text": texts}, optional={"cache_control": ephemeral}
)
image_blocks = st.fixed_dictionaries(
    {
        "type": st.just("image"),
        "source": st.fixed_dictionaries({"type": st.just("url"), "url": texts})
        | st.fixed_dictionaries(
            {"type": st.just("base64"), "media_type": st.just("image/png"), "data": texts}
        ),
    },
    optional={"cache_control": ephemeral},
)
result_blocks = st.fixed_dictionaries(
    {
        "type": st.just("tool_result"),
        "tool_use_id": texts,
        "content": texts | st.lists(text_blocks | image_blocks, max_size=2),
    },
    optional={"is_error": st.booleans()},
)
document_blocks = st.fixed_dictionaries(
    {"type": st.just("document"), "source": st.fixed_dictionaries({"type": st.just("text"), "data": texts})},
    optional={"title": texts, "context": texts, "citations": st.just({"enabled": False})},
)
call_blocks = st.fixed_dictionaries(
    {
        "type": st.just("tool_use"),
        "id": texts,
        "name": texts,
        "input": st.dictionaries(any_text, any_json, max_size=2),
    }
)
thinking_blocks = st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts, "signature": texts})
good_messages = st.fixed_dictionaries(
    {
        "role": st.just("user"),
        "content": texts
        | st.lists(text_blocks | image_blocks | result_blocks | document_blocks, min_size=1, max_size=3),
    }
) | st.fixed_dictionaries(
    {
        "role": st.just("assistant"),
        "content": texts | st.lists(text_blocks | call_blocks | thinking_blocks, min_size=1, max_size=3),
    }
)
good_tools = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["weather", "time"]),
        "input_schema": st.fixed_dictionaries(
            {"type": st.just("object")},
            optional={"properties": st.dictionaries(any_text, any_json, max_size=2)},
        ),
    },
    optional={"description": texts, "type": st.just("custom"), "strict": st.booleans()},
)
good_requests = st.fixed_dictionaries(
    {
        # The policy seldom takes the dear one, which is slow, for texts so short.
        "model": st.sampled_from(["CheapModel", "auto"]),
        "messages": st.lists(good_messages, min_size=1, max_size=3),
        "max_tokens": st.integers(1, 100),
        "tools": st.lists(good_tools, min_size=1, max_size=2),
    },
    optional={
        "stream": st.booleans(),
        "system": texts | st.lists(text_blocks, min_size=1, max_size=2),
        "tool_choice": st.fixed_dictionaries(
            {"type": st.sampled_from(["auto", "any", "none"])},
            optional={"disable_parallel_tool_use": st.booleans()},
        )
        | st.just({"type": "tool", "name": "weather"}),
        "temperature": st.floats(0, 1),
        "stop_sequences": st.lists(texts, max_size=3),
        "thinking": st.sampled_from(
            [{"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}, {"type": "disabled"}]
        ),
        "output_config": st.just({"format": {"type": "json_schema", "schema": SCHEMA}}),
        "metadata": st.just({"user_id": "u"}),
    },
)


@pytest.mark.parametrize(("served", "examples"), [("gateway", 400), ("native", 200)])
def test_no_json_object_as_a_message_makes_the_gateway_fail(
    request: pytest.FixtureRequest, served: str, examples: int
) -> None:
    with sending(request.getfixturevalue(served)) as statuses:

        @settings(drawing, max_examples=examples)
        @given(st.sampled_from([MESSAGES, COUNT_TOKENS]), spoiled(good_requests) | any_objects)
        def send(path: str, body: dict[str, Any]) -> None:
            statuses.send(path, json.dumps(body).encode())

        send()
    assert statuses.seen.keys() >= {200, 400}
    assert statuses.billed > examples / 20
