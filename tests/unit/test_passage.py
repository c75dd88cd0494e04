"""What passes through unchanged, and what little is changed on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gateway.admission import find_way
from gateway.answers import stream_reader
from gateway.apis import Api
from gateway.billing import Usage
from gateway.catalog import Catalog, Model
from gateway.errors import InvalidRequest, UpstreamError
from gateway.passage import Passage, PassThrough, Translated, passage
from gateway.prices import TokenPrice
from gateway.routing.policy import PromptLength
from gateway.schema.base import ModelRequest
from gateway.schema.chat import parse_chat_request
from gateway.schema.messages import parse_messages_request
from gateway.schema.prompts import parse_completion_request, parse_embedding_request
from gateway.schema.responses import parse_responses_request
from gateway.sse import read_event

PRICE = TokenPrice(Decimal(1), Decimal("0.1"), Decimal(5))
CHAT_ONLY = Model("Chat", "http://chat/v1", "chat-1", None, PRICE)
EVERYTHING = Model("All", "http://all/v1", "all-1", None, PRICE, apis=frozenset(Api))
MESSAGES = [{"role": "user", "content": "hi é"}]
# The bytes around what changes are odd on purpose: they must all stay.
REQUESTS: dict[Api, tuple[Any, str]] = {
    Api.CHAT_COMPLETIONS: (
        parse_chat_request,
        '{ "messages":[{"role":"user","content":"h\\u00e9"}],"model":"x", "zz":1e2 }',
    ),
    Api.COMPLETIONS: (parse_completion_request, '{ "prompt" : "h\\u00e9","model":"x", "zz":1e2 }'),
    Api.EMBEDDINGS: (parse_embedding_request, '{ "input" : ["h\\u00e9"],"model":"x", "zz":1e2 }'),
    Api.MESSAGES: (
        parse_messages_request,
        '{ "max_tokens":9,"messages":[{"role":"user","content":"h\\u00e9"}],"model":"x", "zz":1e2 }',
    ),
    Api.RESPONSES: (parse_responses_request, '{ "input" : "h\\u00e9","model":"x", "zz":1e2 }'),
}


def request(api: Api, **fields: Any) -> ModelRequest:
    parse, text = REQUESTS[api]
    found: ModelRequest = parse(json.dumps(json.loads(text) | fields).encode())
    return found


def asking_for_usage(api: Api) -> ModelRequest:
    return request(api, stream=True, stream_options={"include_usage": True})


@pytest.mark.parametrize("api", Api)
def test_where_both_sides_speak_the_same_only_the_model_s_name_changes(api: Api) -> None:
    parse, text = REQUESTS[api]
    way = passage(parse(text.encode()), EVERYTHING)
    assert isinstance(way, PassThrough)
    assert way.api is api
    assert way.body.decode() == text.replace('"x"', '"all-1"')
    assert way.whole(b" { } ", {}, Usage(1, 0, 1), Decimal(1)) == b" { } "
    assert way.end(Usage(1, 0, 1), Decimal(1)) == b""


@pytest.mark.parametrize("api", [Api.MESSAGES, Api.RESPONSES])
def test_where_the_provider_speaks_chat_completions_only_it_is_asked_for_one(api: Api) -> None:
    fields = json.loads(REQUESTS[api][1])
    del fields["zz"]  # which no translation knows
    parse = REQUESTS[api][0]
    way = passage(parse(json.dumps(fields).encode()), CHAT_ONLY)
    assert isinstance(way, Translated)
    assert way.api is Api.CHAT_COMPLETIONS
    body = json.loads(way.body)
    assert body["model"] == "chat-1"
    assert body["messages"] == [{"role": "user", "content": "hé"}]


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
UNTRANSLATABLE = parse_messages_request(
    json.dumps({"messages": MESSAGES, "max_tokens": 9, "tools": [SEARCH]}).encode()
)


def test_what_has_no_translation_goes_to_a_model_that_needs_none() -> None:
    dear = TokenPrice(Decimal(9), Decimal(9), Decimal(9))
    route, way = find_way(
        UNTRANSLATABLE, Catalog(CHAT_ONLY, replace(EVERYTHING, price=dear)), PromptLength(150)
    )
    assert (route.model.name, way.api) == ("All", Api.MESSAGES)
    assert route.baseline.name == "All"


@pytest.mark.parametrize(
    "catalog",
    [
        Catalog(CHAT_ONLY),
        Catalog(CHAT_ONLY, replace(EVERYTHING, auto=False)),
        Catalog(CHAT_ONLY, replace(EVERYTHING, name="ZZ", capabilities=frozenset({"streaming"}))),
    ],
)
def test_where_there_is_none_the_field_without_translation_is_named(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest) as refused:
        find_way(UNTRANSLATABLE, catalog, PromptLength(150))
    assert refused.value.param == "tools[0].type"
    assert "web_search_20250305" in refused.value.message


def test_a_model_that_the_client_named_is_not_exchanged_for_another() -> None:
    named = parse_messages_request(json.dumps({**UNTRANSLATABLE.body.values, "model": "Chat"}).encode())
    with pytest.raises(InvalidRequest):
        find_way(named, Catalog(CHAT_ONLY, EVERYTHING), PromptLength(150))


def streamed(way: Passage, event: bytes) -> bytes:
    """What a stream of one event becomes."""
    reader = stream_reader(way.api)
    read = read_event(event)
    reader.read(read)
    return way.pass_on(read, reader)


USAGE_EVENTS = {
    Api.CHAT_COMPLETIONS: (
        b'id: 1\r\ndata: {"choices": [], "id": "\xc3\xa9", "x": null, '
        b'"usage": {"prompt_tokens": 14, "completion_tokens": 9}}\r\n\r\n',
        ["usage"],
    ),
    Api.COMPLETIONS: (
        b'data: {"choices": [], "usage": {"prompt_tokens": 14, "completion_tokens": 9}}\n\n',
        ["usage"],
    ),
    Api.MESSAGES: (
        b"event: message_delta\n"
        b'data: {"type": "message_delta", "usage": {"input_tokens": 14, "output_tokens": 9}}\n\n',
        ["usage"],
    ),
    Api.RESPONSES: (
        b"event: response.completed\n"
        b'data: {"type": "response.completed", '
        b'"response": {"usage": {"input_tokens": 14, "output_tokens": 9}}}\n\n',
        ["response", "usage"],
    ),
}


@pytest.mark.parametrize("api", USAGE_EVENTS)
def test_the_cost_is_added_to_the_final_usage_and_nothing_else_changes(api: Api) -> None:
    event, place = USAGE_EVENTS[api]
    way = passage(asking_for_usage(api), EVERYTHING)

    changed = streamed(way, event)

    before, after = read_event(event), read_event(changed)
    usage: Any = after.chunk
    for name in place:
        usage = usage[name]
    assert usage.pop("cost") == 0.000059
    assert after.chunk == before.chunk
    others = [line for line in event.splitlines() if line and not line.startswith(b"data:")]
    assert [line for line in changed.splitlines() if line and not line.startswith(b"data:")] == others
    assert changed.endswith(b"\n\n")


def test_a_provider_s_own_cost_counts_and_is_what_the_client_sees() -> None:
    way = passage(asking_for_usage(Api.CHAT_COMPLETIONS), EVERYTHING)
    event = b'data: {"choices": [], "usage": {"prompt_tokens": 1, "cost": {"total_cost": 0.5}}}\n\n'
    assert json.loads(streamed(way, event)[6:])["usage"] == {"prompt_tokens": 1, "cost": 0.5}


def test_half_a_surrogate_pair_in_a_usage_chunk_does_no_harm() -> None:
    way = passage(asking_for_usage(Api.CHAT_COMPLETIONS), EVERYTHING)
    event = b'data: {"id": "\\ud800", "choices": [], "usage": {"prompt_tokens": 1}}\n\n'
    assert json.loads(streamed(way, event)[6:])["id"] == "\ud800"


@pytest.mark.parametrize("api", [Api.CHAT_COMPLETIONS, Api.COMPLETIONS])
def test_a_client_that_did_not_ask_for_usage_gets_none_though_the_provider_was_asked(api: Api) -> None:
    asked = request(api, stream=True)
    way = passage(asked, EVERYTHING)
    assert json.loads(way.body)["stream_options"] == {"include_usage": True}
    assert streamed(way, USAGE_EVENTS[api][0]) == b""


@pytest.mark.parametrize("api", [Api.MESSAGES, Api.RESPONSES])
def test_apis_that_state_their_usage_unasked_are_not_asked(api: Api) -> None:
    assert "stream_options" not in json.loads(passage(request(api, stream=True), EVERYTHING).body)


@pytest.mark.parametrize(
    ("api", "event"),
    [
        (
            Api.MESSAGES,
            b"event: message_start\n"
            b'data: {"type":"message_start","message":{"usage":{"input_tokens":1}}}\n\n',
        ),
        (Api.MESSAGES, b'event: ping\r\ndata: {"type": "ping"}\r\n\r\n'),
        (
            Api.RESPONSES,
            b'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}\n\n',
        ),
        (Api.CHAT_COMPLETIONS, b": a comment\n\n"),
        (
            Api.CHAT_COMPLETIONS,
            b'data: {"choices":[{"delta":{"content":"\xf0\x9f\x98\x80"}}],"usage":null}\n\n',
        ),
    ],
)
def test_any_other_event_keeps_its_bytes(api: Api, event: bytes) -> None:
    way = passage(asking_for_usage(api), EVERYTHING)
    assert streamed(way, event) == event


COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "hé",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": {"prompt_tokens": 14, "completion_tokens": 9},
}
USAGE = Usage(14, 0, 9)


def read_all(sent: bytes) -> list[Any]:
    return [read_event(each + b"\n\n").chunk or each for each in sent.split(b"\n\n")[:-1]]


def test_a_whole_answer_to_a_wish_for_a_stream_is_told_as_one() -> None:
    way = passage(request(Api.CHAT_COMPLETIONS, stream=True), EVERYTHING)
    chunk, done = read_all(way.streamed(COMPLETION, USAGE, Decimal(1)))
    delta = chunk["choices"][0]["delta"]
    assert (chunk["object"], delta["content"]) == ("chat.completion.chunk", "hé")
    assert [(call["index"], call["id"]) for call in delta["tool_calls"]] == [(0, "a"), (1, "b")]
    assert chunk["choices"][0]["finish_reason"] == "tool_calls"
    assert done == b"data: [DONE]"

    asking = passage(asking_for_usage(Api.CHAT_COMPLETIONS), EVERYTHING)
    _, usage, _ = read_all(asking.streamed(COMPLETION, USAGE, Decimal("0.5")))
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 14, "completion_tokens": 9, "cost": 0.5}


@pytest.mark.parametrize(
    ("api", "last"), [(Api.MESSAGES, "message_stop"), (Api.RESPONSES, "response.completed")]
)
def test_a_whole_answer_is_told_as_a_stream_of_the_client_s_api(api: Api, last: str) -> None:
    fields = json.loads(REQUESTS[api][1])
    del fields["zz"]
    way = passage(REQUESTS[api][0](json.dumps(fields | {"stream": True}).encode()), CHAT_ONLY)
    events = read_all(way.streamed(COMPLETION, USAGE, Decimal(1)))
    assert events[-1]["type"] == last
    assert "hé" in json.dumps(events, ensure_ascii=False)


@pytest.mark.parametrize("api", [Api.MESSAGES, Api.RESPONSES])
def test_what_is_no_whole_answer_cannot_be_told_as_a_stream(api: Api) -> None:
    way = passage(request(api, stream=True), EVERYTHING)
    with pytest.raises(UpstreamError):
        way.streamed({}, USAGE, Decimal(1))


def test_usage_that_comes_with_every_chunk_leaves_the_chunks_alone() -> None:
    way = passage(asking_for_usage(Api.CHAT_COMPLETIONS), EVERYTHING)
    chunk = b'data: {"choices": [{"delta": {"content": "\xc3\xa9"}}], "usage": {"prompt_tokens": 1}}\n\n'
    assert streamed(way, chunk) == chunk


def test_the_bytes_around_the_cost_stay() -> None:
    way = passage(asking_for_usage(Api.CHAT_COMPLETIONS), EVERYTHING)
    event = b'data: { "id":"\\u00e9",  "n": 1E2, "choices":[], "usage":{"prompt_tokens":0} }\n\n'
    expected = (
        b'data: { "id":"\\u00e9",  "n": 1E2, "choices":[], "usage":{"prompt_tokens":0,"cost":0.0} }\n\n'
    )
    assert streamed(way, event) == expected


def test_an_answer_that_failed_passes_as_its_provider_says_unless_that_holds_the_key() -> None:
    failed = b'data: {"type": "response.failed", "response": {"error": {"message": "%s"}}}\n\n'
    keyed = replace(EVERYTHING, api_key="sk-canary-0123456789")
    way = passage(request(Api.RESPONSES, stream=True), keyed)
    assert streamed(way, failed % b"quota") == failed % b"quota"
    with pytest.raises(UpstreamError):
        streamed(way, failed % b"bad key sk-canary-0123456789")


@pytest.mark.parametrize(
    "event",
    [
        b'id: 1\ndata: {"choices":[],\ndata: "usage":{"prompt_tokens":0}}\n\n',
        b'\xef\xbb\xbfdata: {"choices":[],"usage":{"prompt_tokens":0}}\n\n',
    ],
)
def test_the_cost_stands_in_data_of_several_lines_and_behind_a_byte_order_mark(event: bytes) -> None:
    changed = read_event(streamed(passage(asking_for_usage(Api.CHAT_COMPLETIONS), EVERYTHING), event)).chunk
    assert changed == {"choices": [], "usage": {"prompt_tokens": 0, "cost": 0.0}}


def test_a_last_event_without_usage_does_not_make_an_early_usage_new() -> None:
    reader = stream_reader(Api.MESSAGES)
    for chunk in (
        {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x" * 400}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ):
        reader.read(read_event(b"data: " + json.dumps(chunk).encode() + b"\n\n"))
    assert reader.usage_is_stale
    final = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 90}}
    reader.read(read_event(b"data: " + json.dumps(final).encode() + b"\n\n"))
    assert (reader.usage_is_stale, reader.usage) == (False, Usage(9, 0, 90))
