"""Events out of bytes, however the bytes are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import sse
from gateway.errors import UpstreamError
from gateway.sse import Event, EventReader, read_event

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
LINE_ENDS = st.sampled_from(["\n", "\r\n"])
CHUNKS = st.dictionaries(
    st.sampled_from(["id", "choices", "usage", "é"]), TEXTS | st.none() | st.lists(TEXTS)
)


def read(pieces: list[bytes]) -> list[Event]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    rest = reader.rest()
    return events if rest is None else [*events, rest]


def read_until_bad(pieces: list[bytes]) -> tuple[list[Event], str]:
    """The events before the first bad one, and what is wrong with it."""
    reader, found = EventReader(), list[Event]()
    try:
        for piece in pieces:
            found += reader.feed(piece)
        rest = reader.rest()
    except UpstreamError as error:
        return found, error.message
    return found + ([rest] if rest else []), ""


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """An event of a provider, with its line ends, comments and other fields as it likes them."""
    chunk = json.dumps(draw(CHUNKS), ensure_ascii=draw(st.booleans()))
    one_line = draw(TEXTS).replace("\r", "").replace("\n", "")
    lines = draw(
        st.sampled_from(
            [
                [f"data: {chunk}"],
                [f"data:{chunk}"],
                ["event: message", "id: 7", f"data: {chunk}"],
                [f": {one_line}"],
                [f": {one_line}", f"data: {chunk}"],
                ["data: {", f'data: "a": {json.dumps(one_line)}', "data: }"],
                ["data: [DONE]"],
                ["data"],
                [],
            ]
        )
    )
    return "".join(line + draw(LINE_ENDS) for line in [*lines, ""]).encode()


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    return b"".join(draw(st.lists(events()))) + draw(
        st.sampled_from([b"", b"\n", b"data: ", b"data: [DONE]", b": x\r"])
    )


@given(streams(), st.lists(st.integers(0, 10**6)))
def test_however_the_bytes_are_cut_the_events_are_the_same(body: bytes, places: list[int]) -> None:
    assert read(cut(body, places)) == read([body])


@given(streams())
def test_bytes_that_come_one_by_one_give_the_same_events(body: bytes) -> None:
    assert read([body[at : at + 1] for at in range(len(body))]) == read([body])


@given(st.lists(streams() | st.just(b"data: {\n\n")).map(b"".join), st.lists(st.integers(0, 10**6)))
def test_however_the_bytes_are_cut_a_bad_event_is_found_at_the_same_place(
    body: bytes, places: list[int]
) -> None:
    assert read_until_bad(cut(body, places)) == read_until_bad([body])


# Drawn bytes are at times what the code itself holds, such as the name of an event that is an error.
BYTES = st.binary().filter(lambda body: b"event:" not in body)


@given(streams() | BYTES | st.text("\r\n: dat").map(str.encode), st.lists(st.integers(0, 10**6)))
def test_no_byte_is_lost_or_changed(body: bytes, places: list[int]) -> None:
    reader, passed = EventReader(), b""
    for piece in cut(body, places):
        passed += b"".join(event.raw for event in reader.feed(piece))
    rest = reader.rest()
    if rest is not None:
        passed += rest.raw
    assert body.startswith(passed)
    assert not body[len(passed) :].strip()


@given(st.text("\r\nx").map(str.encode), st.lists(st.integers(0, 10**6)))
def test_any_mixture_of_line_ends_is_cut_the_same_way(body: bytes, places: list[int]) -> None:
    assert read(cut(body, places)) == read([body])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_of_the_standard_is_known(end: str) -> None:
    body = f'data: {{"a":{end}data: "é"}}{end}{end}: ping{end}{end}data: [DONE]{end}{end}'.encode()
    chunk, comment, done = read([body])
    assert (chunk.data, chunk.chunk) == ('{"a":\n"é"}'.encode(), {"a": "é"})
    assert (comment.data, comment.chunk, comment.is_done) == (b"", None, False)
    assert done.is_done
    assert b"".join(event.raw for event in (chunk, comment, done)) == body
    assert all(event.is_terminated for event in (chunk, comment, done))


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    reader = EventReader()
    assert reader.feed(b'data: {"a": 1}\n') == []
    (event,) = reader.feed(b"\ndata: {")
    assert event.chunk == {"a": 1}
    assert reader.feed(b'"b": 2}\n\n')[0].chunk == {"b": 2}
    assert reader.rest() is None


@pytest.mark.parametrize(
    ("rest", "data", "chunk"),
    [
        (b'data: {"a": 1}', b'{"a": 1}', {"a": 1}),
        (b"data: [DONE]\r\n", b"[DONE]", None),
        (b": pi", b"", None),
    ],
)
def test_what_stands_behind_the_last_blank_line_is_an_event_too(
    rest: bytes, data: bytes, chunk: dict[str, Any] | None
) -> None:
    last = read([b"data: x\n\n", rest])[-1]
    assert (last.raw, last.data, last.chunk, last.is_terminated) == (rest, data, chunk, False)


@pytest.mark.parametrize("body", [b"", b"\n", b" \r\n", b"data: x\n\n\n"])
def test_blank_bytes_behind_the_last_event_are_no_event(body: bytes) -> None:
    assert len(read([body])) == body.count(b"x")


@pytest.mark.parametrize("size", [1000, 65536, 10**7])
def test_an_event_of_a_megabyte_is_one_event(size: int) -> None:
    chunk = {"choices": [{"delta": {"content": "é" * 2**19}}]}
    raw = b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\r\n\r\n"
    assert len(raw) > 2**20
    # By single bytes only about the two ends, where it matters.
    middle = raw[100:-100]
    pieces = [middle[at : at + size] for at in range(0, len(middle), size)]
    edge = (
        [raw[at : at + 1] for at in range(100)],
        [raw[at : at + 1] for at in range(len(raw) - 100, len(raw))],
    )

    (event,) = read([*edge[0], *pieces, *edge[1]])

    assert event.raw == raw
    assert event.chunk == chunk


def test_an_event_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    reader = EventReader()
    for _ in range(20):
        reader.feed(b"data: " + b"x" * 80 + b"\n\n")
    with pytest.raises(UpstreamError, match="too large"):
        reader.feed(b"x" * 101)


@pytest.mark.parametrize("bad", [b"x" * 101, b"data: {\n\n", b'data: {\n\ndata: "a": 1}\n\n'])
def test_good_events_before_a_bad_one_are_not_lost(monkeypatch: pytest.MonkeyPatch, bad: bytes) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    for at_the_end in (True, False):
        reader = EventReader()
        first, second = reader.feed(b"data: 1\n\ndata: 2\n\n" + bad)
        assert (first.data, second.data) == (b"1", b"2")
        with pytest.raises(UpstreamError):
            reader.rest() if at_the_end else reader.feed(b"x")


def test_an_event_that_grows_too_large_piece_by_piece_is_refused() -> None:
    reader = EventReader()
    for _ in range(32):
        assert reader.feed(b"x" * 2**20) == []
    with pytest.raises(UpstreamError, match="too large"):
        reader.feed(b"x")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"{}}",
        b'{"a": 1',
        b'{"a": \xff}',
        b"{'a': 1}",
        b"{" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "\n"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b' {"a"',
        b"{\0\0\0",
        b'{"a": [}',
    ],
    ids=lambda data: repr(data[:20]),
)
def test_data_that_begin_an_object_and_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(UpstreamError, match="not JSON") as refused:
        EventReader().feed(b"data: " + data + b"\n\n")
    assert refused.value.usage is None


@pytest.mark.parametrize("data", [b"", b"[DON", b"[1]", b"null", b'"x"', b"text", b"\xff\xfe", b"NaN"])
def test_data_of_any_other_kind_are_passed_on_unread(data: bytes) -> None:
    event = read_event(b"data: " + data + b"\n\n")
    assert (event.data, event.chunk, event.is_done, event.is_usage_only) == (data, None, False, False)


@pytest.mark.parametrize("data", [b"data: [DONE]", b"data:[DONE]", b"data:  [DONE]", b"data: [DONE] "])
def test_the_end_is_known_with_and_without_spaces(data: bytes) -> None:
    assert read_event(data + b"\n\n").is_done


def test_a_chunk_is_read_behind_any_spaces() -> None:
    assert read_event(b'data:   {"a": 1}\n\n').chunk == {"a": 1}


@pytest.mark.parametrize(
    ("chunk", "only"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 1}}, True),
        ({"choices": [], "usage": None}, True),
        ({"choices": [], "usage": {}}, True),
        ({"choices": None, "usage": {"prompt_tokens": 1}}, True),
        ({"choices": [], "usage": None, "prompt_filter_results": []}, False),
        ({"choices": []}, False),
        ({"usage": {"prompt_tokens": 1}}, True),
        ({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1}}, False),
        ({}, False),
    ],
)
def test_the_usage_chunk_is_the_one_with_usage_and_without_choices(chunk: dict[str, Any], only: bool) -> None:
    assert read_event(b"data: " + json.dumps(chunk).encode() + b"\n\n").is_usage_only is only


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON_VALUES), st.booleans())
def test_a_chunk_means_what_any_reader_of_json_makes_of_it(chunk: dict[str, Any], ascii: bool) -> None:
    data = json.dumps({"id": 1} | chunk, ensure_ascii=ascii).encode(errors="surrogatepass")
    if (told := json.loads(data)).get("error") or told.get("type") == "error":
        return
    assert repr(read_event(b"data: " + data + b"\n\n").chunk) == repr(told)  # NaN is not equal to itself


@pytest.mark.parametrize(
    "data", [b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b'{"a": "\xed\xa0\x80"}', b'{"a":' * 1100]
)
def test_what_the_fast_reader_refuses_the_usual_one_reads(data: bytes) -> None:
    closed = data + b"1" + b"}" * 1100 if data.endswith(b":") else data
    try:
        expected = json.loads(closed)
    except RecursionError:
        with pytest.raises(UpstreamError):
            read_event(b"data: " + closed + b"\n\n")
        return
    assert repr(read_event(b"data: " + closed + b"\n\n").chunk) == repr(expected)


def test_an_integer_beyond_64_bits_is_no_error() -> None:
    chunk = read_event(b'data: {"a": 123456789012345678901234567890}\n\n').chunk
    assert chunk == {"a": pytest.approx(123456789012345678901234567890)}
