"""OpenAI's Responses, as the mocks speak them."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from cheap_model.app import PROFILE
from model_server.app import create_app
from model_server.config import Settings
from model_server.dialects.responses_store import MAX_REMEMBERED, Conversation, ResponseStore
from model_server.errors import UnknownResponse

URL = "/v1/responses"
FAST = Settings(first_token_seconds=0, token_interval_seconds=0)
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
OBJECT = {"type": "object", "properties": {"ok": {"type": "boolean"}}}


def tool(name: str, /, **properties: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": properties}}


CITY, TIME = tool("city", name={"type": "string"}), tool("time", hour={"type": "integer", "minimum": 9})
BOTH: dict[str, Any] = {"tools": [CITY, TIME], "tool_choice": "required", "parallel_tool_calls": True}


@pytest.fixture
def client() -> FlaskClient:
    return create_app(PROFILE, FAST).test_client()


def ask(client: FlaskClient, given: object = "Hello", **fields: Any) -> Response:
    response = client.post(URL, json={"input": given, **fields})
    assert response.status_code == 200, response.data
    return Response.model_validate(response.json)


def events_of(client: FlaskClient, given: object = "Hello", **fields: Any) -> list[dict[str, Any]]:
    response = client.post(URL, json={"input": given, **fields, "stream": True})
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    *events, nothing = response.text.split("\n\n")
    assert nothing == ""
    read = []
    for number, event in enumerate(events):
        name, data = event.split("\n")
        read.append(json.loads(data.removeprefix("data: ")))
        EVENT.validate_python(read[-1])
        assert name == f"event: {read[-1]['type']}"
        assert read[-1]["sequence_number"] == number
    return read


def same(response: dict[str, Any]) -> dict[str, Any]:
    """The response without what differs between two answers to the same request."""
    output = [{**item, "id": item["id"][:3]} for item in response["output"]]
    return {**response, "id": "", "created_at": 0, "completed_at": 0, "output": output}


def test_a_response_has_openais_shape(client: FlaskClient) -> None:
    body = client.post(URL, json={"input": "Hello", "model": "whatever"}).json
    assert body is not None
    assert body["id"].startswith("resp_")
    assert (body["object"], body["model"], body["status"]) == ("response", "CheapModel", "completed")
    assert body["completed_at"] >= body["created_at"] > 1_700_000_000
    [item] = body["output"]
    assert item.pop("id").startswith("msg_")
    assert item == {
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "CheapModel: Hello"}],
    }
    assert body["usage"] == {
        "input_tokens": 8,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 13,
    }
    assert (body["error"], body["incomplete_details"], body["previous_response_id"]) == (None, None, None)


def test_what_the_request_said_is_repeated(client: FlaskClient) -> None:
    said = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "store": False,
        "temperature": 0.5,
        "tool_choice": "auto",
        "tools": [CITY],
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
    }
    body = client.post(URL, json={"input": "Hello", **said, "reasoning": {"effort": "low"}}).json
    assert body is not None
    Response.model_validate(body)
    assert {name: body[name] for name in said} == said
    assert body["reasoning"] == {"effort": "low", "summary": None}
    unsaid = client.post(URL, json={"input": "Hello"}).json
    assert unsaid is not None
    assert (unsaid["metadata"], unsaid["tools"], unsaid["tool_choice"]) == ({}, [], "auto")
    assert (unsaid["store"], unsaid["parallel_tool_calls"], unsaid["temperature"]) == (True, True, 1.0)


def test_a_limit_makes_it_incomplete(client: FlaskClient) -> None:
    response = ask(client, max_output_tokens=2)
    assert (response.status, response.output_text) == ("incomplete", "CheapMod")
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.completed_at is None
    [item] = response.output
    assert item.type == "message"
    assert item.status == "incomplete"


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ({"type": "json_object"}, {"model": "CheapModel", "answer": "Hello"}),
        ({"type": "json_schema", "name": "verdict", "schema": OBJECT, "strict": True}, {"ok": True}),
    ],
)
def test_a_text_format_is_met_and_repeated(client: FlaskClient, form: dict[str, Any], value: object) -> None:
    body = client.post(URL, json={"input": "Hello", "text": {"format": form}}).json
    assert json.loads(Response.model_validate(body).output_text) == value
    assert body is not None
    assert body["text"] == {"format": form, "verbosity": "medium"}


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({"tool_choice": "auto", "parallel_tool_calls": True}, []),
        ({"tool_choice": "none"}, []),
        ({"tool_choice": "required"}, [("city", '{"name": "Hello"}')]),
        ({"tool_choice": "required", "parallel_tool_calls": False}, [("city", '{"name": "Hello"}')]),
        ({"tool_choice": {"type": "function", "name": "time"}}, [("time", '{"hour": 9}')]),
        (BOTH, [("city", '{"name": "Hello"}'), ("time", '{"hour": 9}')]),
    ],
)
def test_functions_are_called_as_the_choice_demands(
    client: FlaskClient, fields: dict[str, Any], calls: list[tuple[str, str]]
) -> None:
    response = ask(client, **{"tools": [CITY, TIME], **fields})
    made = [item for item in response.output if item.type == "function_call"]
    assert [(item.name, item.arguments) for item in made] == calls
    assert all(item.call_id.startswith("call_") and item.status == "completed" for item in made)
    assert len({item.id for item in made} | {item.call_id for item in made}) == 2 * len(calls)
    assert len(response.output) == max(1, len(calls))


def test_a_stream_of_text_is_the_documented_events(client: FlaskClient) -> None:
    assert [event["type"] for event in events_of(client)] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 5,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_a_stream_of_calls_is_the_documented_events(client: FlaskClient) -> None:
    events = events_of(client, **BOTH)
    assert [(event["output_index"], event["type"]) for event in events[2:-1]] == [
        (index, f"response.{kind}")
        for index, pieces in ((0, 5), (1, 3))
        for kind in [
            "output_item.added",
            *["function_call_arguments.delta"] * pieces,
            "function_call_arguments.done",
            "output_item.done",
        ]
    ]


@pytest.mark.parametrize(
    "fields",
    [{}, {"max_output_tokens": 2}, BOTH, {**BOTH, "max_output_tokens": 8}, {"instructions": "x" * 4100}],
    ids=["text", "cut text", "calls", "cut calls", "cached"],
)
def test_the_events_of_a_stream_add_up_to_the_whole_response(
    client: FlaskClient, fields: dict[str, Any]
) -> None:
    whole = client.post(URL, json={"input": "Hello", **fields}).json
    assert whole is not None
    events = events_of(client, **fields)
    items: dict[int, dict[str, Any]] = {}
    for event in events[2:-1]:
        index = event["output_index"]
        match event["type"].removeprefix("response."):
            case "output_item.added":
                items[index] = event["item"]
                assert event["item"]["status"] == "in_progress"
            case "content_part.added":
                items[index]["content"].append(event["part"])
            case "output_text.delta":
                items[index]["content"][0]["text"] += event["delta"]
            case "output_text.done":
                assert event["text"] == items[index]["content"][0]["text"]
            case "content_part.done":
                assert event["part"] == items[index]["content"][0]
            case "function_call_arguments.delta":
                items[index]["arguments"] += event["delta"]
            case "function_call_arguments.done":
                assert event["arguments"] == items[index]["arguments"]
            case "output_item.done":
                assert event["item"] == items[index] | {"status": event["item"]["status"]}
                items[index] = event["item"]
    end = events[-1]
    assert end["type"] == f"response.{whole['status']}"
    assert end["response"]["output"] == list(items.values())
    assert same(end["response"]) == same(whole)
    begun = events[0]["response"]
    assert (begun["status"], begun["output"], begun["usage"]) == ("in_progress", [], None)
    assert begun == events[1]["response"]
    assert begun["id"] == end["response"]["id"]


def test_cached_tokens_are_stated(client: FlaskClient) -> None:
    usage = ask(client, instructions="x" * 4100).usage
    assert usage is not None
    assert (usage.input_tokens, usage.input_tokens_details.cached_tokens) == (1028 + 8, 1024)


@pytest.mark.parametrize("stream", [False, True])
def test_a_follow_up_reads_all_that_came_before(client: FlaskClient, stream: bool) -> None:
    # The instructions are not carried over, as OpenAI has it.
    first = events_of(client, instructions="Be brief.")[-1]["response"] if stream else None
    first_id = first["id"] if first else ask(client, instructions="Be brief.").id
    second = ask(client, "And now?", previous_response_id=first_id)
    assert second.previous_response_id == first_id
    assert second.output_text == "CheapModel: And now?"
    assert second.usage is not None
    assert second.usage.input_tokens == (3 + 2) + (3 + 5) + (3 + 2) + 3
    third = ask(client, "Go on", previous_response_id=second.id, instructions="Be brief.")
    assert third.usage is not None
    assert third.usage.input_tokens == (3 + 3) + (5 + 8 + 5) + (3 + 5) + (3 + 2) + 3


def test_a_follow_up_with_a_functions_output_answers_the_question(client: FlaskClient) -> None:
    first = ask(client, "Weather?", **BOTH)
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "1234"}
        for item in first.output
        if item.type == "function_call"
    ]
    second = ask(client, outputs, previous_response_id=first.id)
    assert second.output_text == "CheapModel: Weather?"
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens == (3 + 2) + (3 + first.usage.output_tokens) + 2 * (3 + 1) + 3


def test_the_same_conversation_sent_whole_costs_the_same(client: FlaskClient) -> None:
    first = ask(client)
    followed = ask(client, "And now?", previous_response_id=first.id).usage
    sent = [
        {"role": "user", "content": "Hello"},
        first.output[0].to_dict(),
        {"role": "user", "content": "And now?"},
    ]
    assert ask(client, sent).usage == followed


@pytest.mark.parametrize("stored", [False, None])
def test_an_answer_that_is_unknown_cannot_be_followed(client: FlaskClient, stored: bool | None) -> None:
    previous = "resp_0" if stored is None else ask(client, store=stored).id
    response = client.post(URL, json={"input": "x", "previous_response_id": previous})
    assert response.status_code == 400
    assert response.json is not None
    error = response.json["error"]
    assert error.pop("message") == f"Previous response with id '{previous}' not found."
    assert error == {
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }


def test_the_oldest_answer_is_forgotten_first() -> None:
    store = ResponseStore()
    for number in range(MAX_REMEMBERED + 1):
        store.remember(str(number), Conversation(number))
    assert store.recall("1").tokens == 1
    assert store.recall(str(MAX_REMEMBERED)).tokens == MAX_REMEMBERED
    with pytest.raises(UnknownResponse):
        store.recall("0")


def test_a_huge_question_is_not_remembered_whole(client: FlaskClient) -> None:
    answer = ask(client, "x" * 100_000)
    assert ask(
        client, [{"type": "reasoning", "id": "r", "summary": []}], previous_response_id=answer.id
    ).output_text == ("CheapModel: " + "x" * 23 + "…")


def items(*given: object) -> dict[str, Any]:
    return {"input": list(given)}


def message(*parts: object) -> dict[str, Any]:
    return items({"role": "user", "content": list(parts)})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        (items("hi"), "input[0]"),
        (items({"content": "hi"}), "input[0].role"),
        (items({"role": "tool", "content": "hi"}), "input[0].role"),
        (items({"role": "user"}), "input[0].content"),
        (items({"type": "item_reference", "id": "msg_1"}), "input[0].type"),
        (items({"type": ["message"]}), "input[0].type"),
        (message(), "input[0].content"),
        (message("hi"), "input[0].content[0]"),
        (message({"text": "hi"}), "input[0].content[0].type"),
        (message({"type": "input_text"}), "input[0].content[0].text"),
        (message({"type": "input_image"}), "input[0].content[0].image_url"),
        (items({"type": "function_call", "call_id": "c", "arguments": "{}"}), "input[0].name"),
        (items({"type": "function_call", "call_id": "c", "name": "f"}), "input[0].arguments"),
        (items({"type": "function_call", "name": "f", "arguments": "{}"}), "input[0].call_id"),
        (items({"type": "function_call_output", "output": "x"}), "input[0].call_id"),
        (items({"type": "function_call_output", "call_id": "c"}), "input[0].output"),
        ({"model": 4}, "model"),
        ({"instructions": ["x"]}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"parallel_tool_calls": "yes"}, "parallel_tool_calls"),
        ({"previous_response_id": 1}, "previous_response_id"),
        ({"reasoning": {"effort": 1}}, "reasoning.effort"),
        ({"store": "no"}, "store"),
        ({"stream": 1}, "stream"),
        ({"temperature": 3}, "temperature"),
        ({"text": "x"}, "text"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
        ({"text": {"verbosity": 1}}, "text.verbosity"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": 1}]}, "tools[0].parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [CITY], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [CITY], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tools": [CITY], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        ({"top_p": 2}, "top_p"),
        ({"truncation": "no"}, "truncation"),
        ({"user": 1}, "user"),
    ],
)
def test_a_wrong_field_is_named(client: FlaskClient, fields: dict[str, Any], param: str) -> None:
    response = client.post(URL, json={"input": "Hello", **fields})
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["type"] == "invalid_request_error"
    assert response.json["error"]["param"] == param


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        (message({"type": "input_text", "text": "12345"}), 2),
        (message({"type": "input_image", "file_id": "f"}), 85),
        (message({"type": "refusal", "refusal": "12345"}), 2),
        (message({"type": "input_file", "a": 1}), 7),
        (items({"role": "developer", "content": "12345"}), 2),
        (items({"type": "function_call", "call_id": "c", "name": "abcd", "arguments": "{}"}), 2),
        (items({"type": "function_call_output", "call_id": "c", "output": "12345"}), 2),
        (items({"type": "reasoning", "id": "r", "summary": []}), -3),
    ],
)
def test_every_item_is_counted(client: FlaskClient, given: dict[str, Any], tokens: int) -> None:
    usage = ask(client, given["input"]).usage
    assert usage is not None
    assert usage.input_tokens == 6 + tokens
