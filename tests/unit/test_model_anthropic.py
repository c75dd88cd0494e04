"""Anthropic's Messages, as the mocks speak them."""

import json
from typing import Any

import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from flask.testing import FlaskClient
from pydantic import TypeAdapter

from cheap_model.app import PROFILE
from model_server.app import create_app
from model_server.config import Settings

URL = "/v1/messages"
COUNT_URL = "/v1/messages/count_tokens"
FAST = Settings(first_token_seconds=0, token_interval_seconds=0, max_body_bytes=200_000)
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 99}
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
NO_CACHE = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}


def tool(name: str, /, **properties: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", "properties": properties}}


CITY, TIME = tool("city", name={"type": "string"}), tool("time", hour={"type": "integer", "minimum": 9})
BOTH = {"type": "any", "disable_parallel_tool_use": False}


@pytest.fixture
def client() -> FlaskClient:
    return create_app(PROFILE, FAST).test_client()


def ask(client: FlaskClient, **fields: Any) -> Message:
    response = client.post(URL, json={**HELLO, **fields})
    assert response.status_code == 200, response.data
    return Message.model_validate(response.json)


def events_of(client: FlaskClient, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    response = client.post(URL, json={**HELLO, **fields, "stream": True})
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    *events, nothing = response.text.split("\n\n")
    assert nothing == ""
    read = []
    for event in events:
        name, data = event.split("\n")
        read.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    assert all(name == data["type"] for name, data in read)
    return read


def accumulate(events: list[tuple[str, dict[str, Any]]]) -> Message:
    """The message that a client makes of the events, each of which must be one that it knows."""
    message: dict[str, Any] = {}
    inputs: dict[int, str] = {}
    for name, data in events:
        if name == "ping":
            continue
        EVENT.validate_python(data)
        match name:
            case "message_start":
                message = data["message"]
                assert message["content"] == []
            case "content_block_start":
                assert data["index"] == len(message["content"])
                message["content"].append(dict(data["content_block"]))
            case "content_block_delta":
                block, delta = message["content"][data["index"]], data["delta"]
                if delta["type"] == "text_delta":
                    block["text"] += delta["text"]
                else:
                    inputs[data["index"]] = inputs.get(data["index"], "") + delta["partial_json"]
            case "message_delta":
                message |= data["delta"]
                message["usage"] |= data["usage"]
    for index, text in inputs.items():
        message["content"][index]["input"] = json.loads(text)
    return Message.model_validate(message)


def test_a_message_has_anthropics_shape(client: FlaskClient) -> None:
    response = client.post(URL, json={**HELLO, "model": "whatever"})
    assert response.headers["request-id"].startswith("req_")
    body = response.json
    assert body is not None
    assert body.pop("id").startswith("msg_")
    assert body == {
        "type": "message",
        "role": "assistant",
        "model": "CheapModel",
        "content": [{"type": "text", "text": "CheapModel: Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {
            "input_tokens": 8,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 5,
            "cache_creation": NO_CACHE,
            "service_tier": "standard",
        },
    }


def test_cached_tokens_are_beside_the_input_tokens(client: FlaskClient) -> None:
    usage = ask(client, system="x" * 4100).usage
    assert usage.cache_read_input_tokens == 1024
    assert usage.input_tokens == 1028 + 8 - 1024


@pytest.mark.parametrize(
    ("fields", "text", "reason", "sequence"),
    [
        ({"max_tokens": 2}, "CheapMod", "max_tokens", None),
        ({"stop_sequences": ["there", "lo", ""]}, "CheapModel: Hel", "stop_sequence", "lo"),
        ({"stop_sequences": ["lo", "Hel"]}, "CheapModel: ", "stop_sequence", "Hel"),
        ({"stop_sequences": ["lo"], "max_tokens": 1}, "Chea", "max_tokens", None),
        (
            {"stop_sequences": ["nowhere"], "temperature": 1, "top_k": 3},
            "CheapModel: Hello",
            "end_turn",
            None,
        ),
    ],
)
def test_limits_and_stops_end_the_text(
    client: FlaskClient, fields: dict[str, Any], text: str, reason: str, sequence: str | None
) -> None:
    message = ask(client, **fields)
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": text}]
    assert (message.stop_reason, message.stop_sequence) == (reason, sequence)


def test_a_text_that_stops_before_it_begins_is_no_block(client: FlaskClient) -> None:
    fields = {"stop_sequences": ["Cheap"]}
    assert ask(client, **fields).content == []
    names = [name for name, _ in events_of(client, **fields)]
    assert names == ["message_start", "message_delta", "message_stop"]


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_a_json_schema_is_met(client: FlaskClient, place: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}}}
    message = ask(client, **{place: {"format": form} if place == "output_config" else form})
    [block] = message.content
    assert block.type == "text"
    assert json.loads(block.text) == {"ok": True}


@pytest.mark.parametrize(
    ("choice", "inputs"),
    [
        (None, []),
        ({"type": "auto", "disable_parallel_tool_use": False}, []),
        ({"type": "none"}, []),
        ({"type": "any"}, [("city", {"name": "Hello"})]),
        ({"type": "any", "disable_parallel_tool_use": True}, [("city", {"name": "Hello"})]),
        ({"type": "tool", "name": "time"}, [("time", {"hour": 9})]),
        (BOTH, [("city", {"name": "Hello"}), ("time", {"hour": 9})]),
    ],
)
def test_tools_are_used_as_the_choice_demands(
    client: FlaskClient, choice: dict[str, Any] | None, inputs: list[tuple[str, Any]]
) -> None:
    message = ask(client, tools=[CITY, {**TIME, "type": "custom"}], tool_choice=choice)
    used = [block for block in message.content if block.type == "tool_use"]
    assert [(block.name, block.input) for block in used] == inputs
    assert all(block.id.startswith("toolu_") for block in used)
    assert message.stop_reason == ("tool_use" if inputs else "end_turn")
    assert len(message.content) == max(1, len(inputs))


def test_the_input_of_a_call_that_was_cut_is_empty(client: FlaskClient) -> None:
    message = ask(client, tools=[CITY], tool_choice={"type": "any"}, max_tokens=3)
    [block] = message.content
    assert block.type == "tool_use"
    assert (block.input, message.stop_reason, message.usage.output_tokens) == ({}, "max_tokens", 3)


def test_an_input_is_an_object_whatever_the_schema(client: FlaskClient) -> None:
    odd = {"name": "odd", "input_schema": {"type": "object", "const": 5}}
    [block] = ask(client, tools=[odd], tool_choice={"type": "any"}).content
    assert block.type == "tool_use"
    assert block.input == {}


def test_a_stream_is_the_documented_events(client: FlaskClient) -> None:
    names = [name for name, _ in events_of(client)]
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 5,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_stream_of_tools_opens_one_block_after_the_other(client: FlaskClient) -> None:
    events = events_of(client, tools=[CITY, TIME], tool_choice=BOTH)
    blocks = [(data["index"], name) for name, data in events if name.startswith("content_block")]
    pieces = {0: 1 + 5, 1: 1 + 3}
    assert blocks == [
        (index, name)
        for index in (0, 1)
        for name in [
            "content_block_start",
            *["content_block_delta"] * pieces[index],
            "content_block_stop",
        ]
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 2},
        {"stop_sequences": ["lo"]},
        {"tools": [CITY, TIME], "tool_choice": BOTH},
        {"system": "x" * 4100},
    ],
    ids=["text", "cut", "stopped", "tools", "cached"],
)
def test_the_events_of_a_stream_add_up_to_the_whole_message(
    client: FlaskClient, fields: dict[str, Any]
) -> None:
    whole = ask(client, **fields)
    streamed = accumulate(events_of(client, **fields))
    assert streamed.to_dict() | {"id": ""} == whole.to_dict() | {"id": ""}


def test_the_usage_of_a_stream_is_cumulative(client: FlaskClient) -> None:
    events = dict(events_of(client))
    start = events["message_start"]["message"]["usage"]
    assert (start["input_tokens"], start["output_tokens"]) == (8, 0)
    assert events["message_delta"]["usage"] == {
        "input_tokens": 8,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 5,
    }


@pytest.mark.parametrize("system", ["x" * 4100, "Be brief.", None])
def test_counted_tokens_are_those_that_a_message_is_billed_for(
    client: FlaskClient, system: str | None
) -> None:
    body: dict[str, Any] = {"messages": HELLO["messages"], "system": system, "tools": [CITY]}
    counted = MessageTokensCount.model_validate(client.post(COUNT_URL, json=body).json)
    assert json.loads(client.get("/ledger").data)["calls"] == 0
    usage = ask(client, **body).usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
    assert json.loads(client.get("/ledger").data)["input_tokens"] == counted.input_tokens


@pytest.mark.parametrize("fault", ["malformed_json", "cut_midstream", "no_usage"])
def test_counting_fails_on_request_too_and_costs_nothing(client: FlaskClient, fault: str) -> None:
    response = client.post(COUNT_URL, json=HELLO, headers={"X-Mock-Fault": fault}, buffered=False)
    received: list[bytes] = []
    try:
        received.extend(response.iter_encoded())
    except ConnectionResetError:
        assert fault == "cut_midstream"
    expected = b'{"input_tokens":8}'
    assert b"".join(received) == (expected if fault == "no_usage" else expected[:9])
    assert json.loads(client.get("/ledger").data)["calls"] == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("path", [URL, COUNT_URL])
def test_an_error_has_anthropics_shape(client: FlaskClient, path: str, status: int, kind: str) -> None:
    response = client.post(path, json=HELLO, headers={"X-Mock-Fault": f"status={status}"})
    assert response.status_code == status
    body = response.json
    assert body is not None
    assert body["error"].pop("message")
    assert body == {
        "type": "error",
        "error": {"type": kind},
        "request_id": response.headers["request-id"],
    }


def test_what_flask_refuses_has_anthropics_shape_on_these_paths_alone(client: FlaskClient) -> None:
    for response, status, kind in (
        (client.get(URL), 405, "invalid_request_error"),
        (client.get("/v1/messages/batches"), 404, "not_found_error"),
        (client.post(URL, data=b" " * 200_001), 413, "request_too_large"),
    ):
        assert response.status_code == status
        assert response.json is not None
        assert response.json["error"]["type"] == kind
    other = client.get("/v1/messagesandmore")
    assert other.json is not None
    assert "code" in other.json["error"]
    assert "request-id" not in other.headers


def content(*blocks: object, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"model": 4}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (content(), "messages[0].content"),
        (content("hi"), "messages[0].content[0]"),
        (content({"text": "hi"}), "messages[0].content[0].type"),
        (content({"type": "text"}), "messages[0].content[0].text"),
        (content({"type": "image"}), "messages[0].content[0].source"),
        (content({"type": "image", "source": {"type": "hex"}}), "messages[0].content[0].source.type"),
        (content({"type": "image", "source": {"type": "base64"}}), "messages[0].content[0].source.data"),
        (content({"type": "document", "source": {"type": "text"}}), "messages[0].content[0].source.data"),
        (content({"type": "tool_use", "id": "t", "name": "f"}), "messages[0].content[0].input"),
        (content({"type": "tool_use", "name": "f", "input": {}}), "messages[0].content[0].id"),
        (content({"type": "tool_result", "content": "x"}), "messages[0].content[0].tool_use_id"),
        (
            content({"type": "tool_result", "tool_use_id": "t", "content": [{}]}),
            "messages[0].content[0].content[0].type",
        ),
        ({"system": 1}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_p": "x"}, "top_p"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": [1]}, "stop_sequences"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "", "input_schema": {"type": "object"}}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "f", "input_schema": {}}]}, "tools[0].input_schema.type"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [CITY], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [CITY], "tool_choice": {"type": "all"}}, "tool_choice.type"),
        ({"tools": [CITY], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": [CITY], "tool_choice": {"type": "tool", "name": "x"}}, "x"),
        (
            {"tools": [CITY], "tool_choice": {"type": "any", "disable_parallel_tool_use": 1}},
            "tool_choice.disable_parallel_tool_use",
        ),
        ({"output_format": {"type": "json"}}, "output_format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": []}, "output_config"),
    ],
)
def test_a_wrong_field_is_named(client: FlaskClient, fields: dict[str, Any], param: str) -> None:
    response = client.post(URL, json={**HELLO, **fields})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["type"] == "invalid_request_error"
    assert f"'{param}'" in response.json["error"]["message"]


@pytest.mark.parametrize(
    ("block", "tokens"),
    [
        ({"type": "text", "text": "12345"}, 2),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, 85),
        ({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "12345"}}, 2),
        ({"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "1"}]}}, 1),
        ({"type": "document", "source": {"type": "url", "url": "abcd"}}, 7),
        ({"type": "redacted_thinking", "data": "x" * 99}, 0),
        ({"type": "search_result", "a": 1}, 8),
        ({"type": "tool_result", "tool_use_id": "t"}, 0),
        (
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [{"type": "image", "source": {"type": "url", "url": "u"}}],
            },
            85,
        ),
    ],
)
def test_every_block_is_counted(client: FlaskClient, block: dict[str, Any], tokens: int) -> None:
    counted = client.post(COUNT_URL, json=content(block)).json
    assert counted == {"input_tokens": 6 + tokens}
