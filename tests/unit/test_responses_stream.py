"""What a client of OpenAI's Responses gets for a streamed chat completion."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import APIError, OpenAI
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseIncompleteEvent,
    ResponseStreamEvent,
)
from pydantic import TypeAdapter

from gateway.billing import Usage
from gateway.errors import UpstreamError
from gateway.translation.responses_answer import ResponsesTranslator

USAGE = Usage(10, 4, 3)
COST = Decimal("0.5")
EVENTS: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
USAGE_CHUNK = {"choices": [], "usage": {"prompt_tokens": 1}}


def translator(**values: Any) -> ResponsesTranslator:
    return ResponsesTranslator({"input": "Hello", "stream": True, **values}, clock=lambda: 1_700_000_000)


def delta(finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-test", "choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


def call_delta(**fields: Any) -> dict[str, Any]:
    return delta(tool_calls=[fields])


def streamed(chunks: Iterable[dict[str, Any]], **values: Any) -> bytes:
    translated = translator(**values)
    return b"".join([*map(translated.events, chunks), translated.end(USAGE, COST)])


def read(stream: bytes) -> list[dict[str, Any]]:
    """The events, each checked against its model, its name and its number."""
    events = []
    for number, block in enumerate(stream.decode().removesuffix("\n\n").split("\n\n")):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        EVENTS.validate_python(event)
        events.append(event)
    return events


def events_of(chunks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return read(streamed(chunks))


def final_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    assert events[-1]["type"] in ("response.completed", "response.incomplete")
    response: dict[str, Any] = events[-1]["response"]
    Response.model_validate(response)
    return response


def output_of(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = final_of(events_of(chunks))["output"]
    return output


def calls_of(*chunks: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(item["call_id"], item["name"], item["arguments"]) for item in output_of(*chunks)]


def accumulated(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The output as a client builds it up from nothing but the deltas."""
    items: list[dict[str, Any]] = []
    for event in events:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert event["output_index"] == len(items)
            items.append(event["item"])
        elif kind == "response.content_part.added":
            content = items[event["output_index"]]["content"]
            assert event["content_index"] == len(content)
            content.append(event["part"])
        elif kind.endswith(".delta"):
            holder = items[event["output_index"]]
            assert holder["id"] == event["item_id"]
            if "content_index" in event:
                holder = holder["content"][event["content_index"]]
            name = {"output_text": "text", "refusal": "refusal", "function_call_arguments": "arguments"}.get(
                kind.split(".")[1], "input"
            )
            holder[name] += event["delta"]
            if "logprobs" in event:
                holder["logprobs"] += event["logprobs"]
    return items


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    token = response["id"].removeprefix("resp_")
    found: dict[str, Any] = json.loads(json.dumps(response).replace(token, "TOKEN"))
    return found


def client_of(stream: bytes) -> OpenAI:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream)

    return OpenAI(
        api_key="none",
        base_url="http://gateway.test/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
        _strict_response_validation=True,
    )


def test_a_text_is_told_step_by_step() -> None:
    events = events_of(
        [
            delta(role="assistant", content=""),
            delta(content="Hel"),
            delta(content="lo"),
            delta("stop"),
            USAGE_CHUNK,
        ]
    )
    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    assert events[0]["response"]["model"] == "gpt-test"
    assert events[0]["response"]["usage"] is None
    assert events[2]["item"]["content"] == []
    assert events[4]["logprobs"] == []
    assert events[6]["text"] == "Hello"
    assert events[8]["item"] == events[9]["response"]["output"][0]
    assert events[9]["response"]["usage"]["total_tokens"] == 13
    assert events[9]["response"]["usage"]["cost"] == 0.5


def test_one_item_is_done_before_the_next_begins() -> None:
    events = events_of(
        [
            delta(content="Let me see"),
            call_delta(index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
            call_delta(index=0, function={"arguments": '{"x"'}),
            call_delta(index=0, function={"arguments": ":1}"}),
            call_delta(index=1, id="b", type="function", function={"name": "g", "arguments": "{}"}),
            delta("tool_calls"),
        ]
    )
    assert [event["type"].removeprefix("response.") for event in events[2:-1]] == [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert events[8]["item"]["name"] == "f"
    assert events[8]["item"]["arguments"] == ""


def test_refusals_and_custom_calls_have_events_of_their_own() -> None:
    custom = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "sh", "input": "l"}}
    events = events_of([delta(refusal="N"), delta(refusal="o"), delta(tool_calls=[custom])])
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds.count("refusal.delta") == 2
    assert kinds.count("refusal.done") == 1
    assert kinds.count("custom_tool_call_input.delta") == 1
    assert kinds.count("custom_tool_call_input.done") == 1


def test_each_delta_carries_the_log_probabilities_of_its_tokens() -> None:
    def token(text: str) -> dict[str, Any]:
        return {"token": text, "logprob": -0.1, "bytes": list(text.encode()), "top_logprobs": []}

    chunks = [delta(content="a"), delta(content="b"), delta("stop")]
    for chunk, text in zip(chunks, "ab", strict=False):
        chunk["choices"][0]["logprobs"] = {"content": [token(text)]}
    events = events_of(chunks)
    assert [e["logprobs"] for e in events if e["type"] == "response.output_text.delta"] == [
        [token("a")],
        [token("b")],
    ]
    assert final_of(events)["output"][0]["content"][0]["logprobs"] == [token("a"), token("b")]


def test_log_probabilities_that_come_after_their_text_are_kept() -> None:
    chunks = [delta(content="a"), delta(content=""), delta("stop")]
    end = {"token": "<end>", "logprob": -0.1, "bytes": [], "top_logprobs": []}
    chunks[1]["choices"][0]["logprobs"] = {"content": [end]}
    (message,) = output_of(*chunks)
    assert message["content"][0]["logprobs"] == [end]


def test_nothing_said_is_an_empty_answer() -> None:
    assert [event["type"] for event in events_of([])] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert output_of(delta(role="assistant"), delta("stop")) == []


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [{"index": 0}]},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": 1, "delta": {"content": "b"}}]},
        delta(content=None, tool_calls=None, refusal=None, function_call=None),
        delta(reasoning_content="Hm"),
        USAGE_CHUNK,
    ],
)
def test_a_chunk_that_says_nothing_gives_no_events(chunk: dict[str, Any]) -> None:
    translated = translator()
    translated.events(delta(role="assistant"))
    assert translated.events(chunk) == b""


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": {}},
        {"choices": ["a"]},
        {"choices": [{"delta": "a"}]},
        delta(content=1),
        delta(tool_calls={}),
        delta(tool_calls=[1]),
        delta(tool_calls=[{"function": []}]),
        delta(tool_calls=[{"function": {"name": "f", "arguments": 1}}]),
        delta(function_call="f"),
        delta("error"),
        {"choices": [{"delta": {}, "error": {"code": 502, "message": "Gone."}}]},
        delta("tool_calls", tool_calls=[{"index": 0, "id": "a"}]),
    ],
)
def test_what_is_no_chunk_is_the_providers_fault(chunk: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError):
        translator().events(chunk)


def test_calls_all_numbered_0_are_told_apart_by_their_ids() -> None:
    assert calls_of(
        call_delta(index=0, id="a", function={"name": "f", "arguments": "{}"}),
        call_delta(index=0, id="b", function={"name": "f", "arguments": "{}"}),
    ) == [("a", "f", "{}"), ("b", "f", "{}")]


def test_calls_without_index_or_id_are_told_apart_by_their_names() -> None:
    whole = {"function": {"name": "f", "arguments": "{}"}}
    other = {"function": {"name": "g", "arguments": ""}}
    found = calls_of(delta(tool_calls=[whole, whole, other]))
    assert [(name, arguments) for _, name, arguments in found] == [("f", "{}"), ("f", "{}"), ("g", "{}")]
    assert len({call_id for call_id, _, _ in found}) == 3


def test_pieces_without_index_go_on_with_the_last_call() -> None:
    assert calls_of(
        call_delta(id="a", function={"name": "f", "arguments": ""}),
        call_delta(function={"arguments": '{"x":'}),
        call_delta(id="a", function={"arguments": "1}"}),
        call_delta(id="b", function={"name": "f"}),
        call_delta(function={"arguments": "{}"}),
    ) == [("a", "f", '{"x":1}'), ("b", "f", "{}")]


def test_a_name_or_an_id_said_again_begins_nothing() -> None:
    assert calls_of(
        call_delta(index=0, id="a", function={"name": "f", "arguments": "{"}),
        call_delta(index=0, id="a", function={"name": "f", "arguments": "}"}),
        call_delta(index=0, id="random", function={"arguments": ""}),
        call_delta(index=0, id="", function={"name": "f", "arguments": None}),
    ) == [("a", "f", "{}")]


def test_a_new_id_with_every_piece_begins_nothing() -> None:
    assert calls_of(
        call_delta(id="a", function={"name": "f", "arguments": ""}),
        call_delta(id="x", function={"arguments": '{"x":'}),
        call_delta(id="y", function={"arguments": "1}"}),
        call_delta(id="b", function={"name": "f", "arguments": "{}"}),
    ) == [("a", "f", '{"x":1}'), ("b", "f", "{}")]


@pytest.mark.parametrize("call_id", ["", "a"])
@pytest.mark.parametrize(
    "pieces", [["", '{"x":1}', '{"y":2}'], ['{"x":1}', '{"y":2}'], ['{"x"', ":1}", "\n", " {"], ["{}", "{}"]]
)
def test_a_second_object_for_a_call_that_nobody_names_is_the_providers_fault(
    call_id: str, pieces: list[str]
) -> None:
    translated = translator()
    translated.events(call_delta(index=0, id=call_id, function={"name": "f", "arguments": pieces[0]}))
    for piece in pieces[1:-1]:
        translated.events(call_delta(index=0, function={"arguments": piece}))
    with pytest.raises(UpstreamError):
        translated.events(call_delta(index=0, function={"arguments": pieces[-1]}))


@pytest.mark.parametrize("name", ["f", "g"])
def test_a_second_object_under_the_same_id_is_another_call_where_it_is_named(name: str) -> None:
    found = calls_of(
        call_delta(index=0, id="a", function={"name": "f", "arguments": '{"x":1}'}),
        call_delta(index=0, id="a", function={"name": name, "arguments": '{"y":2}'}),
    )
    assert [(called, arguments) for _, called, arguments in found] == [("f", '{"x":1}'), (name, '{"y":2}')]
    assert found[0][0] != found[1][0]


def test_braces_within_a_string_begin_nothing() -> None:
    pieces = ['{"x":"', "{", "}", "{}", "\\", '"', "{", '}\\\\"', "}"]
    begun = call_delta(index=0, id="a", function={"name": "f", "arguments": ""})
    later = [call_delta(index=0, function={"arguments": piece}) for piece in pieces]
    assert calls_of(begun, *later) == [("a", "f", '{"x":"{}{}\\"{}\\\\"}')]


def test_braces_of_a_custom_tool_s_input_begin_nothing() -> None:
    first = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": "{}"}}
    (item,) = output_of(call_delta(**first), call_delta(index=0, type="custom", custom={"input": "{}"}))
    assert item["input"] == "{}{}"


def test_a_call_without_arguments_gets_an_empty_object_before_it_is_done() -> None:
    events = events_of(
        [
            call_delta(index=0, id="a", function={"name": "f", "arguments": ""}),
            call_delta(index=1, id="b", function={"name": "g", "arguments": '{"x":1}'}),
            delta("tool_calls"),
        ]
    )
    first = [e for e in events if e.get("output_index") == 0]
    assert [event["type"].removeprefix("response.") for event in first] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert (first[1]["delta"], first[2]["arguments"], first[3]["item"]["arguments"]) == ("{}", "{}", "{}")
    assert final_of(events)["output"][0]["arguments"] == "{}"


@pytest.mark.parametrize("finish_reason", ["length", "content_filter"])
def test_a_call_that_was_cut_before_its_arguments_keeps_none(finish_reason: str) -> None:
    (item,) = output_of(
        call_delta(index=0, id="a", function={"name": "f", "arguments": ""}), delta(finish_reason)
    )
    assert (item["status"], item["arguments"]) == ("incomplete", "")


def test_a_custom_tool_s_empty_input_stays_empty() -> None:
    custom = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": ""}}
    (item,) = output_of(call_delta(**custom), delta("tool_calls"))
    assert item["input"] == ""


def test_a_name_that_comes_late_is_waited_for() -> None:
    assert calls_of(
        call_delta(index=0, id="a"),
        call_delta(index=0, function={"arguments": '{"x"'}),
        call_delta(index=0, function={"name": "f", "arguments": ":1}"}),
    ) == [("a", "f", '{"x":1}')]


def test_the_same_id_twice_is_told_apart_for_the_client() -> None:
    found = calls_of(
        call_delta(index=0, id="a", function={"name": "f", "arguments": "{}"}),
        call_delta(index=1, id="a", function={"name": "g", "arguments": "{}"}),
    )
    assert found[0] == ("a", "f", "{}")
    assert found[1][0] != "a"


def test_interleaved_arguments_reach_their_calls() -> None:
    assert calls_of(
        call_delta(index=0, id="a", function={"name": "f", "arguments": '{"x"'}),
        call_delta(index=1, id="b", function={"name": "g", "arguments": '{"y"'}),
        delta(
            tool_calls=[
                {"index": 0, "function": {"arguments": ":1}"}},
                {"index": 1, "function": {"arguments": ":2}"}},
            ]
        ),
    ) == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]


def test_what_is_added_to_a_whole_call_is_the_providers_fault_unless_blank() -> None:
    translated = translator()
    translated.events(call_delta(index=0, id="a", function={"name": "f", "arguments": "{}"}))
    translated.events(call_delta(index=1, id="b", function={"name": "g", "arguments": "{}"}))
    assert translated.events(call_delta(index=0, function={"arguments": "\n"})) == b""
    with pytest.raises(UpstreamError):
        translated.events(call_delta(index=0, function={"arguments": "{}"}))


def test_a_legacy_function_call_in_pieces_is_a_call() -> None:
    ((call_id, name, arguments),) = calls_of(
        delta(function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": "{"}),
        delta(function_call={"arguments": "}"}),
    )
    assert call_id
    assert (name, arguments) == ("f", "{}")


def test_words_behind_a_call_are_a_second_message() -> None:
    output = output_of(
        delta(content="now"),
        call_delta(index=0, id="a", function={"name": "f", "arguments": "{}"}),
        delta(content="soon"),
    )
    assert [item["type"] for item in output] == ["message", "function_call", "message"]
    assert output[2]["content"][0]["text"] == "soon"


def test_the_client_accumulates_a_whole_answer() -> None:
    chunks = [
        delta(content="Let me "),
        delta(content="see\u2028"),
        call_delta(index=0, id="a", function={"name": "f", "arguments": '{"x":1}'}),
        delta("tool_calls"),
    ]
    with (
        client_of(streamed(chunks)) as client,
        client.responses.stream(model="auto", input="Hello") as stream,
    ):
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    assert final.output_text == "Let me see\u2028"
    assert final.output[1].to_dict()["arguments"] == '{"x":1}'
    assert final.usage is not None
    assert final.usage.total_tokens == 13


def test_the_client_raises_on_the_error_that_ends_a_broken_stream() -> None:
    translated = translator()
    broken = translated.events(delta(content="Hel")) + translated.error(
        UpstreamError("The provider broke off.")
    )
    with client_of(broken) as client:
        events = iter(client.responses.create(model="auto", input="Hello", stream=True))
        with pytest.raises(APIError, match="The provider broke off") as raised:
            list(events)
    assert raised.value.code == "upstream_error"
    last = broken.decode().split("\n\n")[-2]
    numbers = [int(number) for number in re.findall(r'"sequence_number":(\d+)', broken.decode())]
    assert numbers == list(range(len(numbers)))
    EVENTS.validate_json(last.partition("data: ")[2])


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ARGUMENTS = st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=2).map(json.dumps)
NAMES = st.sampled_from(["f", "g", "h"])
FINISHES = ["stop", "length", "tool_calls", "content_filter", None]


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    ends = [*cuts, len(text)]
    return [text[start:end] for start, end in zip([0, *cuts], ends, strict=True)]


def numbered(draw: st.DrawFn, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The deltas of calls that have their numbers, as interleaved as can be."""
    queues: list[list[dict[str, Any]]] = []
    for index, call in enumerate(calls):
        kind, name = call["type"], "input" if call["type"] == "custom" else "arguments"
        first, *rest = pieces(draw, call[kind][name])
        queues.append(
            [{"index": index, "id": call["id"], "type": kind, kind: {**call[kind], name: first}}]
            + [{"index": index, kind: {name: piece}} for piece in rest]
        )
    deltas: list[dict[str, Any]] = []
    while any(queues):
        # The first piece of each comes in order, all else in any.
        started = {delta["index"] for delta in deltas}
        ready = [index for index, queue in enumerate(queues) if queue and index <= len(started)]
        deltas.append(queues[draw(st.sampled_from(ready))].pop(0))
    return deltas


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A completion, and chunks that say the same in one of the ways that providers have."""
    style = draw(st.sampled_from(["numbered", "all 0", "unnumbered"]))
    content, refusal = draw(st.none() | TEXTS), draw(st.none() | TEXTS)
    finish_reason = draw(st.sampled_from(FINISHES))
    calls: list[dict[str, Any]] = []
    for number in range(draw(st.integers(0, 3))):
        arguments = draw(ARGUMENTS)
        if style == "numbered":
            arguments = arguments[: draw(st.integers(0, len(arguments)))]
        kind, name = "function", draw(NAMES)
        called = {"name": name, "arguments": arguments}
        if style == "numbered" and draw(st.booleans()):
            kind, called = "custom", {"name": name, "input": draw(TEXTS)}
        calls.append({"id": f"call_{number}", "type": kind, kind: called})
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if calls:
        message["tool_calls"] = calls
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in pieces(draw, content or "")]
    deltas += [{"refusal": piece} for piece in pieces(draw, refusal or "")]
    if style == "numbered":
        deltas += [{"tool_calls": [piece]} for piece in numbered(draw, calls)]
    elif style == "all 0":
        deltas += [{"tool_calls": [{**call, "index": 0}]} for call in calls]
    else:
        deltas += [{"tool_calls": calls}]
    chunks = [delta(**fields) for fields in deltas]
    chunks += [delta(finish_reason), USAGE_CHUNK]
    completion = {
        "model": "gpt-test",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    }
    return completion, chunks


@given(answers())
def test_whole_and_streamed_answers_are_the_same(answer: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    completion, chunks = answer
    events = events_of(chunks)
    final = final_of(events)
    whole = json.loads(translator().whole(completion, USAGE, COST))
    assert without_ids(final) == without_ids(whole)
    built = accumulated(events)
    assert [{**item, "status": None} for item in built] == [
        {**item, "status": None} for item in final["output"]
    ]
    done = {e["output_index"]: e["item"] for e in events if e["type"] == "response.output_item.done"}
    assert [done[index] for index in range(len(final["output"]))] == final["output"]


@given(answers())
def test_the_clients_accumulator_ends_with_the_same(
    answer: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    stream = streamed(answer[1])
    with client_of(stream) as client, client.responses.stream(model="auto", input="Hello") as events:
        last = list(events)[-1]
    final = final_of(read(stream))
    assert last.type == f"response.{final['status']}"
    assert isinstance(last, ResponseCompletedEvent | ResponseIncompleteEvent)
    assert without_parsed(last.response.to_dict()["output"]) == final["output"]


def without_parsed(value: Any) -> Any:
    """What the client was sent, without what it adds itself."""
    if isinstance(value, list):
        return [without_parsed(child) for child in value]
    if isinstance(value, dict):
        return {name: without_parsed(child) for name, child in value.items() if not name.startswith("parsed")}
    return value
