"""Requests for Responses that a client can get wrong: refused in OpenAI's shape by the name of the field,
they cost nothing and harm nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.catalogs import write_catalog
from tests.support.drawn import any_json, any_objects, any_text, drawing, sending, spoiled
from tests.support.refusals import RESPONSES, assert_field_refused, assert_refused, unharmed
from tests.support.wire import ask, post

pytestmark = pytest.mark.heavy

GOOD = {"input": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "weather", "parameters": SCHEMA}
PART = "input[0].content[0]"
NO_OBJECTS: list[Any] = [None, [], "hi", 1]
NO_TEXTS: list[Any] = [1, True, {}]
NO_LISTS: list[Any] = [{}, "weather", 1]


def item(**fields: Any) -> dict[str, Any]:
    """Fields of a request with one item."""
    return {"input": [fields]}


def part(role: str = "user", **fields: Any) -> dict[str, Any]:
    """Fields of a request with one part in its one message."""
    return item(role=role, content=[fields])


def answered(**fields: Any) -> dict[str, Any]:
    """Fields of a request with the output of one call."""
    return item(type="function_call_output", **fields)


# What no model is asked.
WRONG: list[tuple[dict[str, Any], str]] = [
    *(({"input": [item]}, "input[0]") for item in NO_OBJECTS),
    *((item(role=role, content="hi"), "input[0].role") for role in (1, ["user"], True)),
    *((item(type=kind, content="hi"), "input[0].type") for kind in (1, ["message"], False)),
    *((item(role="user", content=content), "input[0].content") for content in NO_TEXTS),
    *((item(role="user", content=[part]), PART) for part in NO_OBJECTS),
    (part(text="hi"), f"{PART}.type"),
    (part(type=1), f"{PART}.type"),
    (part(type="input_text"), f"{PART}.text"),
    (part(type="output_text", text=1), f"{PART}.text"),
    (part(type="refusal", refusal=[]), f"{PART}.refusal"),
    (answered(call_id="a", output=1), "input[0].output"),
    (answered(call_id="a", output=[1]), "input[0].output[0]"),
    (item(type="function_call", name="f", arguments={}), "input[0].arguments"),
    (item(type="custom_tool_call", name="f", input=1), "input[0].input"),
    ({"input": [{"role": "user", "content": "hi"}, 1]}, "input[1]"),
    *(({"instructions": text}, "instructions") for text in (1, ["Be brief."], False)),
    *(({"max_output_tokens": limit}, "max_output_tokens") for limit in ("5", 5.0, True, [5])),
    *(({"tools": tools}, "tools") for tools in NO_LISTS),
    *(({"tools": [tool]}, "tools[0]") for tool in NO_OBJECTS),
    ({"background": True}, "background"),
]

# What chat completions need otherwise.
WRONG_TO_TRANSLATE: list[tuple[dict[str, Any], str]] = [
    (item(role="user"), "input[0].content"),
    *((item(role=role, content="hi"), "input[0].role") for role in ("", "User", "bot", "tool")),
    (item(type="message", content="hi"), "input[0].role"),
    (part(type="input_image"), f"{PART}.image_url"),
    (part(type="input_audio", input_audio={"data": "aaaa"}), f"{PART}.input_audio.format"),
    (part(type="input_file", filename="a"), f"{PART}.file_data"),
    (answered(output="x"), "input[0].call_id"),
    (answered(call_id="a"), "input[0].output"),
    (item(type="function_call", call_id="a", arguments="{}"), "input[0].name"),
    (item(type="function_call", call_id="a", name="f"), "input[0].arguments"),
    *(({"max_output_tokens": limit}, "max_output_tokens") for limit in (0, -1)),
    *(({"temperature": number}, "temperature") for number in ("1", True, [1])),
    ({"metadata": []}, "metadata"),
    ({"include": [1]}, "include[0]"),
    ({"text": "plain"}, "text"),
    ({"text": {"format": {}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "text.format.name"),
    ({"reasoning": "high"}, "reasoning"),
    ({"reasoning": {"effort": 1}}, "reasoning.effort"),
    ({"tools": [{"name": "f"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [{**WEATHER, "parameters": "{}"}]}, "tools[0].parameters"),
    ({"tools": [{"type": "namespace", "name": "n", "tools": [{}]}]}, "tools[0].tools[0].type"),
    ({"tools": [WEATHER], "tool_choice": 1}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
]

# What they have nothing for.
UNTRANSLATABLE: list[tuple[dict[str, Any], str]] = [
    ({"a field of next year": 1}, "a field of next year"),
    ({"x" * 1000: 1}, "x" * 64),
    ({"max_tool_calls": 3}, "max_tool_calls"),
    ({"truncation": "auto"}, "truncation"),
    ({"include": ["file_search_call.results"]}, "include[0]"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}, "tools[0].type"),
    ({"tools": [{"type": "mcp", "server_label": "a"}]}, "tools[0].type"),
    ({"tools": [{**WEATHER, "colour": "red"}]}, "tools[0].colour"),
    ({"tools": [WEATHER], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    (item(type="web_search_call", id="ws_1", status="completed"), "input[0].type"),
    (item(type=""), "input[0].type"),
    (part(type="input_image", file_id="f"), f"{PART}.file_id"),
    (part(type="input_file", file_url="x"), f"{PART}.file_url"),
    (part(type="input_text", text="hi", colour="red"), f"{PART}.colour"),
    (part(type="input_image", image_url="x", role="assistant"), f"{PART}.type"),
    (part(type=""), f"{PART}.type"),
]

# What only a provider that serves Responses has kept.
STORED: list[tuple[dict[str, Any], str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"previous_response_id": ""}, "previous_response_id"),
    ({"conversation": {"id": "conv_1"}}, "conversation"),
    ({"conversation": {}}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    (item(type="item_reference", id="msg_1"), "input"),
    (item(id="msg_1"), "input"),
]


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway that has to translate, whose only worker has to survive all of it."""
    return start_gateway(WEB_CONCURRENCY="1")


@pytest.fixture(scope="module")
def native(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> GatewayUnderTest:
    """A gateway that lets Responses pass through."""
    return start_gateway(WEB_CONCURRENCY="1", MODELS_FILE=write_catalog(tmp_path_factory.mktemp("models")))


@pytest.mark.parametrize(("fields", "param"), WRONG, ids=str)
@pytest.mark.parametrize("served", ["gateway", "native"])
def test_a_wrong_field_is_refused_by_its_name(
    request: pytest.FixtureRequest, served: str, fields: dict[str, Any], param: str
) -> None:
    asked: GatewayUnderTest = request.getfixturevalue(served)
    with unharmed(asked):
        body = json.dumps(GOOD | fields).encode()
        assert_field_refused(ask(asked.gateway_url, post(body, path=RESPONSES)), param)


@pytest.mark.parametrize(("fields", "param"), WRONG_TO_TRANSLATE, ids=str)
def test_what_a_chat_completion_needs_is_demanded_by_its_name(
    gateway: GatewayUnderTest, fields: dict[str, Any], param: str
) -> None:
    with unharmed(gateway):
        body = json.dumps(GOOD | fields).encode()
        assert_field_refused(ask(gateway.gateway_url, post(body, path=RESPONSES)), param)


@pytest.mark.parametrize(("fields", "param"), UNTRANSLATABLE, ids=lambda value: str(value)[:80])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_what_cannot_be_translated_is_refused_by_its_name(
    gateway: GatewayUnderTest, fields: dict[str, Any], param: str, stream: bool
) -> None:
    with unharmed(gateway):
        body = json.dumps(GOOD | fields | {"stream": stream}).encode()
        answer = ask(gateway.gateway_url, post(body, path=RESPONSES))
        assert_field_refused(answer, param)
        assert "cannot be translated" in answer.json()["error"]["message"]


@pytest.mark.parametrize(("fields", "param"), STORED, ids=str)
@pytest.mark.parametrize("model", ["auto", "ExpensiveModel"])
def test_what_the_provider_has_not_kept_is_refused_by_its_field(
    gateway: GatewayUnderTest, fields: dict[str, Any], param: str, model: str
) -> None:
    with unharmed(gateway):
        body = json.dumps(GOOD | fields | {"model": model}).encode()
        answer = ask(gateway.gateway_url, post(body, path=RESPONSES))
        assert_refused(answer, 400, param)
        assert "keeps no earlier answers" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["previous_response_id", "prompt"])
def test_an_input_may_be_missing_only_beside_what_stands_in_for_it(
    gateway: GatewayUnderTest, native: GatewayUnderTest, name: str
) -> None:
    with unharmed(gateway), unharmed(native):
        answers = [
            ask(served.gateway_url, post(json.dumps({name: None}).encode(), path=RESPONSES))
            for served in (gateway, native)
        ]
        for answer in answers:
            assert_field_refused(answer, "input")
    answer = ask(native.gateway_url, post(json.dumps({name: "x"}).encode(), path=RESPONSES))
    assert answer.headers["X-Gateway-Model"], "the provider has not been asked"


def test_the_smallest_limit_is_an_integer(gateway: GatewayUnderTest) -> None:
    body = json.dumps(GOOD | {"max_output_tokens": 1}).encode()
    answer = ask(gateway.gateway_url, post(body, path=RESPONSES))
    assert (answer.status, answer.json()["status"]) == (200, "incomplete")


texts = any_text | st.just("hello")
text_parts = st.fixed_dictionaries({"type": st.just("input_text"), "text": texts})
other_parts = st.fixed_dictionaries(
    {"type": st.just("input_image"), "image_url": texts}, optional={"detail": st.just("low")}
) | st.fixed_dictionaries({"type": st.just("input_file"), "file_data": texts, "filename": texts})
said_parts = st.fixed_dictionaries({"type": st.just("output_text"), "text": texts}) | st.fixed_dictionaries(
    {"type": st.just("refusal"), "refusal": texts}
)
good_items = (
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "system", "developer"]),
            "content": texts | st.lists(text_parts, max_size=3),
        }
    )
    | st.fixed_dictionaries(
        {"role": st.just("user"), "content": st.lists(text_parts | other_parts, max_size=3)}
    )
    | st.fixed_dictionaries(
        {
            "type": st.just("message"),
            "role": st.just("assistant"),
            "content": texts | st.lists(said_parts, max_size=2),
        },
        optional={"id": texts, "status": st.just("completed")},
    )
    | st.fixed_dictionaries(
        {"type": st.just("function_call"), "call_id": texts, "name": texts, "arguments": texts}
    )
    | st.fixed_dictionaries(
        {"type": st.just("function_call_output"), "call_id": texts, "output": texts | st.lists(text_parts)}
    )
    | st.fixed_dictionaries({"type": st.just("reasoning"), "id": texts, "summary": st.just([])})
)
functions = st.fixed_dictionaries(
    {"type": st.just("function"), "name": st.sampled_from(["weather", "time"])},
    optional={
        "parameters": st.just(SCHEMA) | st.dictionaries(any_text, any_json, max_size=2),
        "description": texts,
        "strict": st.booleans(),
    },
)
namespaces = st.fixed_dictionaries(
    {"type": st.just("namespace"), "name": texts, "tools": st.lists(functions, max_size=2)},
    optional={"description": texts},
)
good_tools = functions | namespaces
good_requests = st.fixed_dictionaries(
    {
        # The policy seldom takes the dear one, which is slow, for texts so short.
        "model": st.sampled_from(["CheapModel", "auto"]),
        "input": texts | st.lists(good_items, min_size=1, max_size=3),
        "tools": st.lists(good_tools, min_size=1, max_size=2),
    },
    optional={
        "stream": st.booleans(),
        "instructions": texts,
        "max_output_tokens": st.integers(1, 100),
        "tool_choice": st.sampled_from(["auto", "none", "required", {"type": "function", "name": "time"}]),
        "parallel_tool_calls": st.booleans(),
        "temperature": st.floats(0, 1),
        "text": st.just({"format": {"type": "json_schema", "name": "city", "schema": SCHEMA}}),
        "reasoning": st.just({"effort": "low"}),
        "metadata": st.dictionaries(any_text, any_text, max_size=2),
        "store": st.booleans(),
        "include": st.just(["reasoning.encrypted_content"]),
    },
)


@pytest.mark.parametrize(("served", "examples"), [("gateway", 400), ("native", 200)])
def test_no_json_object_as_a_response_makes_the_gateway_fail(
    request: pytest.FixtureRequest, served: str, examples: int
) -> None:
    with sending(request.getfixturevalue(served)) as statuses:

        @settings(drawing, max_examples=examples)
        @given(spoiled(good_requests) | any_objects)
        def send(body: dict[str, Any]) -> None:
            statuses.send(RESPONSES, json.dumps(body).encode())

        send()
    assert statuses.seen.keys() >= {200, 400}
    assert statuses.billed > examples / 20
