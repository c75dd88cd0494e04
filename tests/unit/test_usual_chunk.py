"""What is known of a chunk by comparing it is what reading it would say."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import sse
from gateway.answers import CompletionReader, stream_reader
from gateway.apis import Api
from gateway.catalog import Model
from gateway.errors import UpstreamError
from gateway.passage import passage
from gateway.prices import TokenPrice
from gateway.schema.chat import parse_chat_request
from gateway.sse import Event, EventReader, read_event
from gateway.usual_chunk import MOST_BYTES, usual_chunk_like

MODEL = Model("M", "http://m/v1", "m-1", None, TokenPrice(Decimal(1), Decimal(0), Decimal(5)))


def chunk(text: Any, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **more}


def line(value: object, **options: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, **options).encode() + b"\n\n"


def text_in(first: bytes, second: bytes) -> str | None:
    """What is known of the second event by comparing it with what is usual since the first."""
    usual = usual_chunk_like(first, read_event(first).chunk or {})
    return None if usual is None else usual.text_in(second)


@pytest.mark.parametrize("text", [" Paris", "", "{", "é", "東京", "😀", "data: [DONE]", "content", ":", "~"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " : ")])
def test_another_text_is_found_without_reading(text: str, separators: tuple[str, str]) -> None:
    for before in ("The", "", "~", '{"content"'):
        first = line(chunk(before), separators=separators)
        expected = None if '"' in before else text
        assert text_in(first, line(chunk(text), separators=separators)) == expected


@pytest.mark.parametrize(
    "text", ['say "x"', "back\\slash", "line\nend", "\t", "\0", "\x7f", "\xa0", "\u2028", "\ud800"]
)
def test_a_text_that_json_may_spell_otherwise_is_read(text: str) -> None:
    raw = b"data: " + json.dumps(chunk(text), ensure_ascii=False).encode(errors="surrogatepass") + b"\n\n"
    assert text_in(line(chunk("The")), raw) is None


@pytest.mark.parametrize(
    "second",
    [
        line(chunk("x", usage={"prompt_tokens": 1})),
        line(chunk("x") | {"id": "chatcmpl-2"}),
        line({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}),
        line(chunk(None)),
        line(chunk(1)),
        line(chunk("x"))[:-1],
        line(chunk("x")).replace(b'"x"', b'"x'),
        line(chunk("x")).replace(b'"x"', b'"x""'),
        line(chunk("x")).replace(b'"x"', b'"x", "content": "y"'),
        line(chunk("x")).replace(b'"x"', b'"\xff"'),
        line(chunk("x")).replace(b'"x"', b'"\xed\xa0\x80"'),
        line(chunk("x")).replace(b'"x"', b'"\n"'),
        b"data: [DONE]\n\n",
        b"",
        line(chunk("")).partition(b'""')[0],
    ],
)
def test_what_differs_in_anything_but_its_text_is_read(second: bytes) -> None:
    assert text_in(line(chunk("The")), second) is None


OVERLAP = line(chunk("aa")).partition(b"aa")


def test_a_beginning_and_an_end_that_share_bytes_are_no_text() -> None:
    before, _, behind = OVERLAP
    assert text_in(line(chunk("aa")), before + behind[1:]) is None


@pytest.mark.parametrize(
    "first",
    [
        {"choices": []},
        {"choices": None, "content": "x"},
        {"choices": [1]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": None}}]},
        {"choices": [{"delta": {"content": "x", "refusal": None}}]},
        {"choices": [{"delta": {"content": "x", "tool_calls": []}}]},
        {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]},
        {"choices": [{"delta": {"content": "x"}, "usage": {"prompt_tokens": 1}}]},
        {"choices": [{"delta": {"content": "x"}}, {"delta": {"content": "x"}}]},
        {"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 1}},
        {"choices": [{"delta": {"content": "x"}}], "x_groq": {"usage": {"prompt_tokens": 1}}},
        {"content": "x", "choices": [{"delta": {"content": "x"}}]},
        {"content": "y", "choices": [{"delta": {"content": "x"}}]},
        {"id": "y" * MOST_BYTES, "choices": [{"delta": {"content": "x"}}]},
    ],
)
def test_a_chunk_that_says_more_than_a_text_sets_no_example(first: dict[str, Any]) -> None:
    assert usual_chunk_like(line(first), first) is None


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"choices":[{"delta":{"content":"x","content":"x"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"~","content":"~"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"","content":""}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"x"}}],"choices":[{"delta":{"content":"x"}}]}\n\n',
        b'data: {"\\"content":"x","choices":[{"delta":{"\\u0063ontent":"x"}}]}\n\n',
        b'data: {"a":"\\"content\\":\\"x","choices":[{"delta":{"\\u0063ontent":"x"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"x"}}],"n":NaN}\n\n',
    ],
)
def test_where_the_text_cannot_be_made_out_for_certain_there_is_no_example(raw: bytes) -> None:
    assert usual_chunk_like(raw, read_event(raw).chunk or {}) is None


TEXTS = st.sampled_from(["", "a", " b", "é", "\n", '"', "\\", "😀", "\u2028", '"content"', "~", "stop"])
DELTAS = st.fixed_dictionaries(
    {}, optional={"content": TEXTS | st.none(), "role": st.just("assistant"), "reasoning_content": TEXTS}
)
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["1", "2"]),
        "content": TEXTS,
        "usage": st.none() | st.just({"prompt_tokens": 3, "completion_tokens": 1}),
        "choices": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "index": st.integers(0, 1),
                    "delta": DELTAS,
                    "text": TEXTS,
                    "finish_reason": st.sampled_from([None, None, None, "stop", "error"]),
                },
            ),
            max_size=2,
        ),
    },
)
EVENTS = st.builds(
    lambda value, ascii, spaced: (
        line(value)
        if not spaced
        else b"data: " + json.dumps(value, ensure_ascii=ascii, separators=(",", ":")).encode() + b"\n\n"
    ),
    CHUNKS | TEXTS.map(chunk),
    st.booleans(),
    st.booleans(),
) | st.sampled_from([b"data: [DONE]\n\n", b": ping\n\n", b"event: x\n" + line(chunk("y")), b"data: {\n\n"])


def followed(body: bytes, include_usage: bool) -> tuple[Any, ...]:
    """All that comes of a stream: its events, what is known of them, what the client gets."""
    asked = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    asked |= {"stream_options": {"include_usage": include_usage}}
    way = passage(parse_chat_request(json.dumps(asked).encode()), MODEL)
    reader = stream_reader(Api.CHAT_COMPLETIONS)
    assert isinstance(reader, CompletionReader)
    events: list[Event] = []
    known: list[Any] = []
    try:
        for event in EventReader().feed(body):
            reader.read(event)
            known.append((reader.characters, reader.begun, reader.failed, reader.finished, reader.usage))
            known.append((reader.usage_is_stale, reader.is_end(event), way.pass_on(event, reader)))
            events.append(event)
    except UpstreamError:
        known.append("error")
    parts = [(event.raw, event.data, event.chunk, event.is_done, event.is_usage_only) for event in events]
    return parts, known, way._events  # type: ignore[attr-defined]


@given(st.lists(EVENTS, max_size=12).map(b"".join), st.booleans())
def test_a_stream_comes_to_the_same_whether_its_chunks_are_compared_or_read(
    body: bytes, include_usage: bool
) -> None:
    compared = followed(body, include_usage)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sse, "LOOKS_FOR_USUAL", 0)
        assert compared == followed(body, include_usage)


def test_of_a_usual_stream_nearly_nothing_is_read() -> None:
    role = chunk("")
    role["choices"][0]["delta"] = {"role": "assistant", "content": ""}
    said = [chunk(text) for text in ("The", " sky", "\n", " is", " blue")]
    events = EventReader().feed(b"".join(map(line, [role, *said])))
    assert [event.text for event in events] == [None, None, " sky", None, " is", " blue"]
    assert [event.chunk for event in events] == [role, *said]


def test_a_stream_whose_chunks_are_all_different_is_compared_no_further() -> None:
    said = [chunk(f"{number}", salt="x" * number) for number in range(20)]
    assert [event.chunk for event in EventReader().feed(b"".join(map(line, said)))] == said
