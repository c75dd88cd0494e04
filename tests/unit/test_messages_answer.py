"""How chat completions become Anthropic's messages: each read back by Anthropic's own client."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.billing import Usage
from gateway.errors import GatewayError, InvalidRequest, LedgerUnavailable, UpstreamError, UpstreamTimeout
from gateway.translation.messages_answer import MessagesTranslator, error_body, translated_refusal
from gateway.translation.target import Translator

USAGE = Usage(
    input_tokens=20, cached_input_tokens=5, output_tokens=7, cache_write_tokens=2, reasoning_tokens=3
)
COST = Decimal("0.000185")
STATED = {
    "input_tokens": 13,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 5,
    "output_tokens": 7,
    "output_tokens_details": {"thinking_tokens": 3},
    "cost": 0.000185,
}
ESTIMATE = 17
ANY_EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)


def completion(message: object, finish_reason: object = "stop", **choice: object) -> dict[str, Any]:
    return {
        "id": "chatcmpl-123",
        "object": "chat.completion",
        "model": "gpt-x",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **choice}],
    }


def chunk(delta: object, finish_reason: object = None, **choice: object) -> dict[str, Any]:
    return {
        "id": "chatcmpl-123",
        "object": "chat.completion.chunk",
        "model": "gpt-x",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, **choice}],
    }


def call(identity: str, name: str, arguments: object, **more: object) -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calls(*deltas: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(deltas)})


def more(index: int | None, arguments: str, **fields: object) -> dict[str, Any]:
    """A later delta of a call."""
    numbered = {} if index is None else {"index": index}
    return {**numbered, "function": {"arguments": arguments}, **fields}


def whole(answer: dict[str, Any]) -> dict[str, Any]:
    body = MessagesTranslator(ESTIMATE).whole(answer, USAGE, COST)
    Message.model_validate_json(body)
    message: dict[str, Any] = json.loads(body)
    return message


def stream_bytes(chunks: Iterable[dict[str, Any]]) -> bytes:
    translator: Translator = MessagesTranslator(ESTIMATE)
    pieces = [translator.events(chunk) for chunk in chunks]
    return b"".join(pieces) + translator.end(USAGE, COST)


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream, checked to be well-formed and in Anthropic's order."""
    found = []
    for event in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        values = json.loads(data.removeprefix("data: "))
        assert name == f"event: {values['type']}"
        ANY_EVENT.validate_python(values)
        found.append(values)
    assert [event["type"] for event in found[:1] + found[-2:]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    position = -1
    is_open = False
    for event in found[1:-2]:
        if event["type"] == "content_block_start":
            assert not is_open
            position += 1
        assert event["index"] == position
        assert is_open == (event["type"] != "content_block_start")
        is_open = event["type"] != "content_block_stop"
    assert not is_open
    return found


def client_for(stream: bytes) -> anthropic.Anthropic:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=stream)

    http = anthropic.DefaultHttpxClient(transport=httpx2.MockTransport(answer))
    return anthropic.Anthropic(api_key="test", base_url="http://gateway", http_client=http, max_retries=0)


def accumulated(stream: bytes) -> dict[str, Any]:
    """The message that Anthropic's client makes of a stream, as it would have come whole."""
    events = events_of(stream)
    with (
        client_for(stream) as client,
        client.messages.stream(
            model="x", max_tokens=1, messages=[{"role": "user", "content": "x"}]
        ) as incoming,
    ):
        message = incoming.get_final_message()
    found = message.to_dict()
    for block in found["content"]:  # type: ignore[attr-defined]
        block.pop("parsed_output", None)
    # The client's accumulator keeps the fields of `usage` that it knows.
    found["usage"] = {**found["usage"], "cost": events[-2]["usage"]["cost"]}  # type: ignore[dict-item]
    found.pop("stop_details", None)
    return found


def streamed(*chunks: dict[str, Any]) -> dict[str, Any]:
    return accumulated(stream_bytes(chunks))


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def tool(identity: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": identity, "name": name, "input": arguments}


def test_a_whole_answer_is_a_message_with_the_usage_as_it_is_billed() -> None:
    assert whole(completion({"role": "assistant", "content": "Grüezi 😀"})) == {
        "id": "msg_123",
        "type": "message",
        "role": "assistant",
        "model": "gpt-x",
        "content": [text("Grüezi 😀")],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": STATED,
    }


def test_json_is_compact_and_not_escaped() -> None:
    body = MessagesTranslator(0).whole(completion({"content": "ü"}), USAGE, COST)
    assert b'"content":[{"type":"text","text":"\xc3\xbc"}]' in body


def test_usage_without_reasoning_does_not_speak_of_it() -> None:
    body = MessagesTranslator(0).whole(completion({"content": "x"}), Usage(3, 0, 2), Decimal(0))
    assert json.loads(body)["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 2,
        "cost": 0.0,
    }


@pytest.mark.parametrize("identity", [None, "", 7, "chatcmpl-", "…"])
def test_an_answer_without_an_id_gets_one_of_its_own(identity: object) -> None:
    answer = completion({"content": "x"}) | {"id": identity}
    first, second = whole(answer)["id"], whole(answer)["id"]
    assert first != second
    assert first.startswith("msg_")


ENDS: list[tuple[dict[str, Any], object, dict[str, Any], str, str | None]] = [
    ({"content": "x"}, "stop", {}, "end_turn", None),
    ({"content": "x"}, "length", {}, "max_tokens", None),
    ({"content": "x"}, "content_filter", {}, "refusal", None),
    ({"content": "x"}, None, {}, "end_turn", None),
    ({"content": "x"}, "eos", {}, "end_turn", None),
    ({"content": "x"}, 7, {}, "end_turn", None),
    ({"content": "x"}, "stop", {"stop_reason": "END"}, "stop_sequence", "END"),
    ({"content": "x"}, "stop", {"matched_stop": "END"}, "stop_sequence", "END"),
    ({"content": "x"}, "stop", {"stop_reason": 128009}, "end_turn", None),
    ({"content": "x"}, "stop", {"stop_reason": None}, "end_turn", None),
    ({"refusal": "No."}, "stop", {}, "refusal", None),
    ({"tool_calls": [call("a", "f", "{}")]}, "tool_calls", {}, "tool_use", None),
    ({"tool_calls": [call("a", "f", "{}")]}, "stop", {}, "tool_use", None),
    ({"tool_calls": [call("a", "f", "{}")]}, None, {}, "tool_use", None),
    ({"tool_calls": [call("a", "f", "{}")]}, "length", {}, "max_tokens", None),
    ({"function_call": {"name": "f", "arguments": "{}"}}, "function_call", {}, "tool_use", None),
    ({"tool_calls": [call("a", "f", "{}")]}, "content_filter", {}, "refusal", None),
    ({"content": "x"}, "tool_calls", {}, "end_turn", None),
    ({"content": "x"}, "stop", {"error": None}, "end_turn", None),
    ({"content": "x"}, "stop", {"error": {}}, "end_turn", None),
]


@pytest.mark.parametrize(("message", "finish_reason", "choice", "reason", "sequence"), ENDS)
def test_the_reason_of_the_end_is_anthropics(
    message: dict[str, Any], finish_reason: object, choice: dict[str, Any], reason: str, sequence: str | None
) -> None:
    for found in (
        whole(completion(message, finish_reason, **choice)),
        streamed(chunk(message), chunk({}, finish_reason, **choice)),
        streamed(chunk(message, finish_reason, **choice)),
    ):
        assert (found["stop_reason"], found["stop_sequence"]) == (reason, sequence)


def test_text_refusal_and_calls_become_blocks_in_this_order() -> None:
    message = {
        "content": "Well",
        "refusal": "No.",
        "reasoning_content": "secret",
        "tool_calls": [call("a", "f", '{"x": [1, "ü"]}'), call("b", "g", "")],
    }
    assert whole(completion(message))["content"] == [
        text("Well"),
        text("No."),
        tool("a", "f", {"x": [1, "ü"]}),
        tool("b", "g", {}),
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"content": ""},
        {"content": None},
        {},
        {"content": [], "tool_calls": [], "function_call": None},
        {"reasoning_content": "thought"},
    ],
)
def test_an_answer_that_says_nothing_has_no_blocks(message: dict[str, Any]) -> None:
    assert whole(completion(message))["content"] == []
    assert streamed(chunk(message), chunk({}, "stop"))["content"] == []


def test_content_in_parts_keeps_its_text_and_not_its_thinking() -> None:
    content = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]
    assert whole(completion({"content": content}))["content"] == [text("ab")]
    assert streamed(chunk({"content": content}), chunk({}, "stop"))["content"] == [text("ab")]


@pytest.mark.parametrize("arguments", [{"x": 1}, '{"x": 1}', ' \n{"x":1}\n'])
def test_arguments_are_read_whether_text_or_object(arguments: object) -> None:
    message = {"tool_calls": [call("a", "f", arguments, index=0)]}
    assert whole(completion(message))["content"] == [tool("a", "f", {"x": 1})]
    assert streamed(chunk(message), chunk({}, "stop"))["content"] == [tool("a", "f", {"x": 1})]


@pytest.mark.parametrize("arguments", [None, "", " ", {}, "null", " null\n"])
def test_a_call_without_arguments_has_an_empty_input(arguments: object) -> None:
    message = {"tool_calls": [call("a", "f", arguments, index=0)]}
    assert whole(completion(message))["content"] == [tool("a", "f", {})]
    assert streamed(chunk(message), chunk({}, "stop"))["content"] == [tool("a", "f", {})]


@pytest.mark.parametrize("pieces", [["null"], ["nu", "ll"], [" ", "null", " "]])
def test_of_arguments_that_are_null_nothing_is_sent(pieces: list[str]) -> None:
    begun = calls(call("a", "f", "", index=0), call("b", "g", '{"y":2}', index=1))
    stream = stream_bytes([begun, *(calls(more(0, piece)) for piece in pieces), chunk({}, "tool_calls")])
    assert b"null" not in b"".join(line for line in stream.splitlines() if b"partial_json" in line)
    assert accumulated(stream)["content"] == [tool("a", "f", {}), TIME]


def test_of_arguments_that_only_begin_like_null_all_is_sent() -> None:
    found = stream_bytes([calls(call("a", "f", " n", index=0)), calls(more(0, "il")), chunk({}, "length")])
    deltas = [event["delta"] for event in events_of(found) if event["type"] == "content_block_delta"]
    assert deltas == [{"type": "input_json_delta", "partial_json": "nil"}]


def test_a_call_without_an_id_gets_one() -> None:
    (block,) = whole(completion({"function_call": {"name": "f", "arguments": "{}"}}))["content"]
    assert block["id"].startswith("toolu_")
    found = streamed(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"x":'}}),
        chunk({"function_call": {"arguments": "1}"}}),
        chunk({}, "function_call"),
    )
    assert found["content"][0]["id"].startswith("toolu_")
    assert found["content"][0]["input"] == {"x": 1}


@pytest.mark.parametrize(
    "arguments", ["{", "[]", "7", '{"x": NaN}', '{"x": 1e999}', "{} {}", "[" * 5000, {"x": float("nan")}]
)
def test_whole_arguments_that_are_no_object_are_an_error(arguments: object) -> None:
    with pytest.raises(UpstreamError):
        whole(completion({"tool_calls": [call("a", "f", arguments)]}, "tool_calls"))


def test_raw_line_breaks_in_arguments_are_taken() -> None:
    message = {"tool_calls": [call("a", "f", '{"x": "one\ntwo"}')]}
    assert whole(completion(message))["content"] == [tool("a", "f", {"x": "one\ntwo"})]


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_tokens"), ("content_filter", "refusal")]
)
def test_a_call_that_was_cut_short_is_left_out(finish_reason: str, reason: str) -> None:
    message = {"content": "x", "tool_calls": [call("a", "f", "{}"), call("b", "g", '{"x": [1')]}
    found = whole(completion(message, finish_reason))
    assert found["content"] == [text("x"), tool("a", "f", {})]
    assert found["stop_reason"] == reason


BROKEN: list[tuple[object, dict[str, Any]]] = [
    ("error", {}),
    ("stop", {"error": {"code": 502, "message": "Upstream of the upstream is gone."}}),
    (None, {"error": {"code": 502}}),
]


@pytest.mark.parametrize(("finish_reason", "choice"), BROKEN)
def test_an_answer_that_the_provider_calls_broken_is_its_error(
    finish_reason: object, choice: dict[str, Any]
) -> None:
    translator = MessagesTranslator(ESTIMATE)
    translator.events(chunk({"content": "half an"}))
    for failing in (
        lambda: whole(completion({"content": "half an"}, finish_reason, **choice)),
        lambda: translator.events(chunk({}, finish_reason, **choice)),
    ):
        with pytest.raises(UpstreamError) as failed:
            failing()
        assert failed.value.message == "The provider broke off its answer."


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": ["x"]},
        {"choices": [{"index": 1, "message": {"content": "x"}}]},
        {"choices": [{}]},
        {"choices": [{"message": "x"}]},
        completion({"content": 7}),
        completion({"content": {"text": "x"}}),
        completion({"tool_calls": {}}),
        completion({"tool_calls": ["x"]}),
        completion({"tool_calls": [{}]}),
        completion({"tool_calls": [{"function": "f"}]}),
        completion({"tool_calls": [call("a", "f", 7)]}),
        completion({"tool_calls": [call("a", "", "{}")]}),
        completion({"tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]}),
        completion({"function_call": "f"}),
    ],
)
def test_what_is_no_completion_is_the_providers_error(answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError) as failed:
        whole(answer)
    assert failed.value.message == "The provider's answer cannot be read as a completion."


def test_only_the_first_choice_counts() -> None:
    answer = completion({"content": "first"})
    answer["choices"].insert(0, {"index": 1, "message": {"content": "second"}})
    assert whole(answer)["content"] == [text("first")]
    second = {"choices": [{"index": 1, "delta": {"content": "second"}, "finish_reason": "length"}]}
    found = streamed(chunk({"content": "first"}), second, chunk({}, "stop"))
    assert (found["content"], found["stop_reason"]) == ([text("first")], "end_turn")


def test_a_stream_begins_with_the_estimate_and_ends_with_the_bill() -> None:
    events = events_of(stream_bytes([chunk({"role": "assistant", "content": ""}), chunk({}, "stop")]))
    assert events == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_123",
                "type": "message",
                "role": "assistant",
                "model": "gpt-x",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {
                    "input_tokens": ESTIMATE,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 0,
                },
            },
        },
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": STATED,
        },
        {"type": "message_stop"},
    ]


def test_text_is_sent_as_it_comes() -> None:
    translator = MessagesTranslator(ESTIMATE)
    assert b"message_start" in translator.events(chunk({"role": "assistant"}))
    assert b'"text":"Gr\xc3\xbc"' in translator.events(chunk({"content": "Grü"}))
    assert b'"text":"ezi"' in translator.events(chunk({"content": "ezi"}))
    assert translator.events(chunk({})) == b""
    assert translator.events({"choices": [], "usage": {"prompt_tokens": 1}}) == b""


def test_the_first_calls_arguments_are_sent_as_they_come() -> None:
    translator = MessagesTranslator(ESTIMATE)
    translator.events(chunk({"content": "x"}))
    begun = translator.events(calls(call("a", "f", "", index=0)))
    assert b"content_block_stop" in begun
    assert b'"tool_use"' in begun
    assert b'"partial_json":"{\\"x\\""' in translator.events(calls(more(0, '{"x"')))
    assert b'"partial_json":":1}"' in translator.events(calls(more(0, ":1}")))
    after = translator.events(calls(call("b", "g", '{"y"', index=1)))
    assert after.count(b"content_block_stop\n") == after.count(b"content_block_start\n") == 1
    assert b'"partial_json":"{\\"y\\""' in after


def test_a_chunk_that_names_neither_choice_nor_model_does_not_begin_the_message() -> None:
    azure = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    assert MessagesTranslator(ESTIMATE).events(azure) == b""
    assert streamed(azure, chunk({"content": "x"}), chunk({}, "stop"))["model"] == "gpt-x"


def test_a_stream_of_nothing_is_still_a_message() -> None:
    found = streamed()
    assert (found["content"], found["model"], found["stop_reason"]) == ([], "", "end_turn")


WEATHER = tool("a", "f", {"x": 1})
TIME = tool("b", "g", {"y": 2})


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [
                calls(call("a", "f", "", index=0)),
                calls(more(0, '{"x"')),
                calls(more(0, ":1}")),
                calls(call("b", "g", "", index=1)),
                calls(more(1, '{"y":2}')),
            ],
            id="one after the other",
        ),
        pytest.param(
            [
                calls(call("a", "f", "", index=0), call("b", "g", "", index=1)),
                calls(more(0, '{"x"'), more(1, '{"y"')),
                calls(more(1, ":2}"), more(0, ":1}")),
            ],
            id="interleaved",
        ),
        pytest.param([calls(call("a", "f", '{"x":1}'), call("b", "g", '{"y":2}'))], id="whole without index"),
        pytest.param(
            [calls(call("a", "f", '{"x":1}', index=0)), calls(call("b", "g", '{"y":2}', index=0))],
            id="whole, all with index 0",
        ),
        pytest.param(
            [calls(call("a", "f", '{"x":1}', index=0), call("b", "g", '{"y":2}', index=0))],
            id="whole in one chunk, all with index 0",
        ),
        pytest.param(
            [
                calls(call("a", "f", "")),
                calls(more(None, '{"x":1}')),
                calls(call("b", "g", "")),
                calls(more(None, '{"y":2}', id="b")),
            ],
            id="in pieces without index",
        ),
        pytest.param(
            [
                calls(call("a", "f", "", index=0)),
                calls(more(0, '{"x":', id="other-1")),
                calls(more(0, "1}", id="other-2")),
                calls(call("b", "g", '{"y":2}', index=1)),
            ],
            id="a new id with every piece",
        ),
        pytest.param(
            [
                calls(call("a", "f", '{"x":', index=0)),
                calls(call("a", "f", "1}", index=0)),
                calls(call("b", "g", '{"y":', index=1)),
                calls(call("b", "g", "2}", index=1)),
            ],
            id="id and name repeated",
        ),
        pytest.param(
            [
                calls({"index": 0, "id": "a"}),
                calls({"index": 0, "function": {"name": "f", "arguments": None}}),
                calls(call("b", "g", '{"y":2}', index=1)),
                calls(more(0, '{"x":1}')),
            ],
            id="the name after the id",
        ),
        pytest.param(
            [calls(call("a", "f", '{"x":1}', index=True), call("b", "g", '{"y":2}', index="1"))],
            id="an index that is no number",
        ),
        pytest.param(
            [
                calls(call("a", "f", "")),
                calls(more(None, '{"x":', id="other-1")),
                calls(more(None, "1}", id="other-2")),
                calls(call("b", "g", '{"y":2}')),
            ],
            id="a new id with every piece, without index",
        ),
    ],
)
def test_calls_are_told_apart_however_the_provider_numbers_them(chunks: list[dict[str, Any]]) -> None:
    found = streamed(*chunks, chunk({}, "tool_calls"))
    assert found["content"] == [WEATHER, TIME]
    assert found["stop_reason"] == "tool_use"


def test_whole_calls_are_sent_at_once_though_several_come_together() -> None:
    both = calls(call("a", "f", '{"x":1}', index=0), call("b", "g", '{"y":2}', index=1))
    sent = MessagesTranslator(ESTIMATE).events(both)
    assert b'"partial_json":"{\\"x\\":1}"' in sent
    assert b'"partial_json":"{\\"y\\":2}"' in sent


def test_calls_with_neither_index_nor_id_are_told_apart_by_their_names() -> None:
    nameless = (
        {"function": {"name": "f", "arguments": '{"x":1}'}},
        {"function": {"name": "g", "arguments": "{}"}},
    )
    for found in (
        whole(completion({"tool_calls": list(nameless)})),
        streamed(calls(nameless[0]), calls(nameless[1])),
    ):
        first, second = found["content"]
        assert (first["name"], first["input"]) == ("f", {"x": 1})
        assert (second["name"], second["input"]) == ("g", {})
        assert first["id"] != second["id"]


@pytest.mark.parametrize("identity", ["", None])
@pytest.mark.parametrize("second", ["f", "g"])
def test_whole_calls_all_numbered_0_and_without_ids_are_told_apart(identity: str | None, second: str) -> None:
    first, other = (
        {"index": 0, "id": identity, "function": {"name": name, "arguments": arguments}}
        for name, arguments in (("f", '{"x":1}'), (second, '{"y":2}'))
    )
    for chunks in ([calls(first), calls(other)], [calls(first, other)]):
        found = streamed(*chunks, chunk({}, "tool_calls"))["content"]
        assert [(block["name"], block["input"]) for block in found] == [("f", {"x": 1}), (second, {"y": 2})]
        assert found[0]["id"] != found[1]["id"]


def test_pieces_of_calls_all_numbered_0_are_told_apart_by_their_names() -> None:
    found = streamed(
        calls({"index": 0, "function": {"name": "f", "arguments": '{"x"'}}),
        calls(more(0, ":1}")),
        calls({"index": 0, "function": {"name": "g", "arguments": ""}}),
        calls(more(0, '{"y":2}')),
        chunk({}, "tool_calls"),
    )["content"]
    assert [(block["name"], block["input"]) for block in found] == [("f", {"x": 1}), ("g", {"y": 2})]


def test_an_old_style_call_that_says_its_name_with_every_piece_is_one_call() -> None:
    pieces = [chunk({"function_call": {"name": "f", "arguments": piece}}) for piece in ('{"x"', ":1", "}")]
    (block,) = streamed(*pieces, chunk({}, "function_call"))["content"]
    assert (block["name"], block["input"]) == ("f", {"x": 1})


@pytest.mark.parametrize("identity", ["", "a"])
@pytest.mark.parametrize(
    "pieces",
    [
        ["", '{"x":1}', '{"y":2}'],
        ['{"x":1}', '{"y":2}'],
        ['{"x"', ":1}", "\n", " {"],
        ["{}", "{}"],
    ],
)
def test_a_second_object_for_a_call_that_nobody_names_is_the_providers_error(
    identity: str, pieces: list[str]
) -> None:
    translator = MessagesTranslator(ESTIMATE)
    translator.events(calls(call(identity, "f", pieces[0], index=0)))
    for piece in pieces[1:-1]:
        translator.events(calls(more(0, piece)))
    with pytest.raises(UpstreamError):
        translator.events(calls(more(0, pieces[-1])))


def test_braces_within_a_string_begin_nothing() -> None:
    pieces = ['{"x":"', "{", "}", "{}", "\\", '"', "{", '}\\\\"', "}"]
    begun = calls(call("a", "f", "", index=0))
    found = streamed(begun, *(calls(more(0, piece)) for piece in pieces), chunk({}, "tool_calls"))
    assert found["content"] == [tool("a", "f", {"x": '{}{}"{}\\'})]


def test_every_call_has_an_id_of_its_own() -> None:
    twice = [call("a", "f", '{"x":1}'), call("a", "g", '{"y":2}')]
    numbered = [call("a", "f", '{"x":1}', index=0), call("a", "g", '{"y":2}', index=1)]
    for found in (whole(completion({"tool_calls": twice})), streamed(calls(*numbered))):
        first, second = found["content"]
        assert first == WEATHER
        assert (second["name"], second["input"]) == ("g", {"y": 2})
        assert second["id"].startswith("toolu_")


def test_a_call_that_is_told_in_the_old_way_too_is_one_call() -> None:
    both = {"tool_calls": [call("a", "f", '{"x":1}')], "function_call": {"name": "f", "arguments": '{"x":1}'}}
    assert whole(completion(both))["content"] == [WEATHER]
    assert streamed(chunk(both, "tool_calls"))["content"] == [WEATHER]


def test_text_after_a_call_is_a_block_of_its_own() -> None:
    found = streamed(
        chunk({"content": "before"}),
        calls(call("a", "f", '{"x"', index=0)),
        chunk({"content": "after"}),
        calls(more(0, ":1}")),
        chunk({"content": "wards"}, "tool_calls"),
    )
    assert found["content"] == [text("before"), WEATHER, text("afterwards")]


@pytest.mark.parametrize("finish_reason", ["length", "content_filter"])
def test_streamed_arguments_that_were_cut_short_stand_as_they_came(finish_reason: str) -> None:
    stream = stream_bytes([calls(call("a", "f", '{"x', index=0)), chunk({}, finish_reason)])
    assert [event["delta"] for event in events_of(stream) if event["type"] == "content_block_delta"] == [
        {"type": "input_json_delta", "partial_json": '{"x'}
    ]


@pytest.mark.parametrize("finish_reason", ["tool_calls", "stop"])
@pytest.mark.parametrize("arguments", ["nonsense", '{"x', "[]", '{"x":NaN}', "nu"])
def test_streamed_arguments_that_end_as_no_object_are_the_providers_error(
    arguments: str, finish_reason: str
) -> None:
    translator = MessagesTranslator(ESTIMATE)
    translator.events(calls(call("a", "f", arguments, index=0), call("b", "g", "{}", index=1)))
    with pytest.raises(UpstreamError):
        translator.events(chunk({}, finish_reason))


def test_arguments_that_end_as_no_object_are_an_error_though_nothing_said_that_they_end() -> None:
    translator = MessagesTranslator(ESTIMATE)
    translator.events(calls(call("a", "f", '{"x', index=0)))
    with pytest.raises(UpstreamError):
        translator.end(USAGE, COST)


def test_a_streamed_call_of_a_custom_tool_is_the_providers_error() -> None:
    custom = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}
    with pytest.raises(UpstreamError):
        MessagesTranslator(ESTIMATE).events(calls(custom))


def test_a_call_that_is_never_named_is_the_providers_error() -> None:
    translator = MessagesTranslator(ESTIMATE)
    translator.events(calls({"index": 0, "id": "a", "function": {"arguments": "{}"}}))
    with pytest.raises(UpstreamError):
        translator.events(chunk({}, "tool_calls"))
    found = streamed(calls({"index": 0, "id": "a"}), chunk({"content": "x"}))
    assert (found["content"], found["stop_reason"]) == ([text("x")], "end_turn")


@pytest.mark.parametrize(
    "bad",
    [
        {"choices": {}},
        {"choices": ["x"]},
        chunk("x"),
        chunk({"content": 7}),
        chunk({"tool_calls": "x"}),
        chunk({"tool_calls": [7]}),
        calls({"function": 7}),
        calls(call("a", "f", 7)),
        chunk({"function_call": 7}),
    ],
)
def test_what_is_no_chunk_is_the_providers_error(bad: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError):
        MessagesTranslator(ESTIMATE).events(bad)


@pytest.mark.parametrize(
    "sloppy",
    [
        {},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        chunk({"role": "assistant", "content": None, "refusal": None, "tool_calls": None}),
        chunk({"role": 7, "refusal": 7, "function_call": {}}),
        chunk({"reasoning_content": "thought"}),
    ],
)
def test_a_chunk_that_says_nothing_changes_nothing(sloppy: dict[str, Any]) -> None:
    found = streamed(chunk({"content": "a"}), sloppy, chunk({"content": "b"}), sloppy, chunk({}, "stop"))
    assert found == streamed(chunk({"content": "ab"}), chunk({}, "stop"))


def test_halves_of_a_surrogate_pair_are_joined_and_lone_ones_replaced() -> None:
    assert whole(completion({"content": "\ud83d\ude00 \ud83d"}))["content"] == [text("😀 \ufffd")]
    pieces = [chunk({"content": piece}) for piece in ("\ud83d", "\ude00 \ude00 \ud83d")]
    assert streamed(*pieces, chunk({}, "stop"))["content"] == [text("😀 \ufffd \ufffd")]
    named = {"tool_calls": [call("\ud83d", "f\ud83d", '{"x":"\\ud83d"}')]}
    assert whole(completion(named))["content"] == [tool("\ufffd", "f\ufffd", {"x": "\ufffd"})]


def test_json_nested_too_deep_is_the_providers_error() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(UpstreamError):
        whole(completion({"tool_calls": [call("a", "f", deep)]}))
    for depth in [*range(900, 1000), *range(1000, 200_000, 9950)]:
        arguments = '{"x":' * depth + "1" + "}" * depth
        with suppress(UpstreamError):
            MessagesTranslator(0).whole(completion({"tool_calls": [call("a", "f", arguments)]}), USAGE, COST)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.text("abc_", min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(
    TEXTS, TEXTS | st.integers(-9, 9) | st.none() | st.lists(TEXTS, max_size=2), max_size=3
)


@st.composite
def completions(draw: st.DrawFn) -> dict[str, Any]:
    identities = draw(st.lists(NAMES, max_size=3, unique=True))
    message = {
        "role": "assistant",
        "content": draw(st.none() | TEXTS),
        "refusal": draw(st.none() | TEXTS),
        "tool_calls": [
            call(identity, draw(NAMES), draw(st.just("") | ARGUMENTS.map(json.dumps)))
            for identity in identities
        ],
    }
    ends = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
    return completion(message, draw(ends), stop_reason=draw(st.none() | NAMES | st.integers()))


def pieces_of(draw: st.DrawFn, words: str) -> list[str]:
    cuts = draw(st.lists(st.integers(0, len(words)), max_size=4).map(sorted))
    return [words[start:end] for start, end in zip([0, *cuts], [*cuts, len(words)], strict=True)]


def chunks_of(draw: st.DrawFn, answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The completion as a stream: each text in pieces, the calls begun in order, their pieces mixed."""
    (choice,) = answer["choices"]
    message = choice["message"]
    yield chunk({"role": "assistant"})
    for name in ("content", "refusal"):
        yield from (chunk({name: piece}) for piece in pieces_of(draw, message[name] or ""))
    waiting = [pieces_of(draw, whole_call["function"]["arguments"]) for whole_call in message["tool_calls"]]
    begun = 0
    while begun < len(waiting) or any(waiting):
        going = [index for index in range(begun) if waiting[index]]
        index = draw(st.sampled_from([*going, begun] if begun < len(waiting) else going))
        if index == begun:
            name = message["tool_calls"][index]["function"]["name"]
            yield calls(call(message["tool_calls"][index]["id"], name, "", index=index))
            begun += 1
        else:
            yield calls(more(index, waiting[index].pop(0)))
    end = {name: value for name, value in choice.items() if name not in ("index", "message", "finish_reason")}
    yield chunk({}, choice["finish_reason"], **end)
    yield {"choices": [], "usage": {"prompt_tokens": 20}}


@given(st.data())
@settings(deadline=None)
def test_whole_and_streamed_answers_are_the_same_message(data: st.DataObject) -> None:
    answer = data.draw(completions())
    chunks = data.draw(st.composite(lambda draw: list(chunks_of(draw, answer)))())
    assert streamed(*chunks) == whole(answer)


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["function", "name", "arguments", "content", "text"]), inner, max_size=2
        )
    ),
    max_leaves=5,
)
FULL_MESSAGE = {
    "content": [{"type": "text", "text": "a"}],
    "refusal": "b",
    "tool_calls": [call("a", "f", '{"x":1}', index=0), call("b", "g", {"y": 2}, index=1)],
    "function_call": {"name": "f", "arguments": "{}"},
}


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, child in inner for path in paths(child, (*at, name)))]


def with_nonsense(value: Any, path: tuple[Any, ...], nonsense: object) -> Any:
    if not path:
        return nonsense
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_nonsense(value[path[0]], path[1:], nonsense)
    return copy


@given(path=st.sampled_from(paths(completion(FULL_MESSAGE))[1:]), nonsense=NONSENSE)
def test_nonsense_anywhere_is_a_message_or_the_providers_error(
    path: tuple[Any, ...], nonsense: object
) -> None:
    with suppress(UpstreamError):
        whole(with_nonsense(completion(FULL_MESSAGE), path, nonsense))


@given(path=st.sampled_from(paths(chunk(FULL_MESSAGE, "stop"))[1:]), nonsense=NONSENSE)
def test_nonsense_in_a_chunk_is_passed_over_or_the_providers_error(
    path: tuple[Any, ...], nonsense: object
) -> None:
    with suppress(UpstreamError):
        events_of(
            stream_bytes([with_nonsense(chunk(FULL_MESSAGE, "stop"), path, nonsense), chunk(FULL_MESSAGE)])
        )


STATUSES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_errors_have_anthropics_shape_and_type(status: int, kind: str) -> None:
    error = GatewayError("No.")
    error.status = status
    assert error_body(error) == {"type": "error", "error": {"type": kind, "message": "No."}}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("'x' is wrong.", param="x"), "invalid_request_error"),
        (UpstreamTimeout("Late."), "timeout_error"),
        (LedgerUnavailable("Gone."), "overloaded_error"),
    ],
)
def test_the_gateways_own_errors_keep_their_message(error: GatewayError, kind: str) -> None:
    assert error_body(error)["error"] == {"type": kind, "message": error.message}


def test_a_broken_stream_ends_with_an_error_that_the_client_raises() -> None:
    translator = MessagesTranslator(ESTIMATE)
    stream = translator.events(chunk({"content": "half an"})) + translator.error(
        UpstreamError("It broke — off.")
    )
    body = '{"type":"error","error":{"type":"api_error","message":"It broke — off."}}'
    assert stream.endswith(f"event: error\ndata: {body}\n\n".encode())
    with (
        client_for(stream) as client,
        client.messages.stream(
            model="x", max_tokens=1, messages=[{"role": "user", "content": "x"}]
        ) as incoming,
        pytest.raises(anthropic.APIStatusError, match="It broke — off"),
    ):
        incoming.get_final_message()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"Too long.","type":"x","param":null,"code":"y"}}', "Too long."),
        (b'{"error":{"message":7}}', "The provider refused the request with status 400."),
        (b'{"error":{}}', "The provider refused the request with status 400."),
        (b'{"error":{"message":"\\ud800"}}', "\ufffd"),
    ],
)
def test_a_providers_refusal_keeps_its_message(body: bytes, message: str) -> None:
    assert json.loads(translated_refusal(400, body)) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": message},
    }


def test_a_providers_refusal_has_the_type_of_its_status() -> None:
    refused = translated_refusal(429, b'{"error":{"message":"Slower."}}')
    assert json.loads(refused)["error"]["type"] == "rate_limit_error"
