"""JSON as clients send it: what is read, what is refused, and what a change leaves alone."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jsontext import MAX_NESTING, JsonObject, NotJson, parse_object

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(CHARACTERS)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=10)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=6)
SPACES = st.text(" \t\r\n", max_size=3)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


def spelt(value: Any, draw: st.DrawFn) -> str:
    """One of the ways to write `value` as JSON: with any white space and with or without escapes."""
    before, after = draw(SPACES), draw(SPACES)
    if isinstance(value, dict):
        members = [f"{spelt(name, draw)}:{spelt(child, draw)}" for name, child in value.items()]
        text = "{" + (",".join(members) or draw(SPACES)) + "}"
    elif isinstance(value, list):
        text = "[" + (",".join(spelt(child, draw) for child in value) or draw(SPACES)) + "]"
    else:
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
    return before + text + after


@st.composite
def spelt_objects(draw: st.DrawFn) -> str:
    return spelt(draw(OBJECTS), draw)


@st.composite
def members(draw: st.DrawFn) -> tuple[str, str, str]:
    """A name, the text of a value, and the white space around it."""
    value = draw(NUMBERS | VALUES.map(json.dumps) | TEXTS.map(json.dumps))
    return draw(TEXTS), value, draw(SPACES)


def refusal(body: bytes | str) -> NotJson:
    with pytest.raises(NotJson) as refused:
        parse_object(body.encode() if isinstance(body, str) else body)
    return refused.value


@given(spelt_objects())
def test_an_object_reads_as_json_reads_it(text: str) -> None:
    parsed = parse_object(text.encode())
    assert parsed.values == json.loads(text)
    assert list(parsed.values) == list(json.loads(text))
    assert parsed.raw == text.encode()


@given(spelt_objects())
def test_each_value_stands_where_its_span_says(text: str) -> None:
    parsed = parse_object(text.encode())
    assert parsed.spans.keys() == parsed.values.keys()
    for name, (start, end) in parsed.spans.items():
        value = text.encode()[start:end].decode()
        assert json.loads(value) == parsed.values[name]
        assert value.strip(" \t\r\n") == value


@given(spelt_objects(), OBJECTS, st.data())
def test_a_change_changes_the_values_and_no_other(
    text: str, changes: dict[str, Any], data: st.DataObject
) -> None:
    parsed = parse_object(text.encode())
    if parsed.values:
        changes[data.draw(st.sampled_from(sorted(parsed.values)))] = data.draw(VALUES)
    assert json.loads(parsed.with_values(changes)) == parsed.values | changes


@given(st.lists(members(), min_size=1, unique_by=lambda member: member[0]), SPACES, VALUES, st.data())
def test_every_byte_around_a_replaced_value_is_kept(
    drawn: list[tuple[str, str, str]], edge: str, value: Any, data: st.DataObject
) -> None:
    chosen = data.draw(st.integers(0, len(drawn) - 1))
    texts = [f"{space}{json.dumps(name)}{space}:{space}{text}{space}" for name, text, space in drawn]
    name, _, space = drawn[chosen]
    compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    expected = [*texts]
    expected[chosen] = f"{space}{json.dumps(name)}{space}:{space}{compact}{space}"

    changed = parse_object(f"{edge}{{{','.join(texts)}}}{edge}".encode()).with_values({name: value})

    assert changed.decode() == f"{edge}{{{','.join(expected)}}}{edge}"


@given(spelt_objects(), st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3))
def test_an_added_value_leaves_every_byte_in_place(text: str, changes: dict[str, Any]) -> None:
    parsed = parse_object(text.encode())
    added = {f"+{name}": value for name, value in changes.items() if f"+{name}" not in parsed.values}
    opening, rest = text.split("{", 1)

    changed = parsed.with_values(added).decode()

    assert changed.startswith(opening + "{")
    assert changed.endswith(rest)


@pytest.mark.parametrize(("filling", "times"), [("a", 3.5), ("a" * 9 + "é", 3.5), ("a" * 9 + "😀", 9.5)])
def test_reading_and_changing_a_long_text_takes_a_bounded_multiple_of_its_size(
    filling: str, times: float
) -> None:
    # What is not in Latin 1 takes four bytes a character: once in the text, once in the value.
    body = (
        f'{{"a": "é", "content": "{filling * (2**20 // len(filling.encode()))}", "model": "auto"}}'.encode()
    )
    tracemalloc.start()
    changed = parse_object(body).with_values({"model": "m", "n": 1})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert changed == body.replace(b'"auto"', b'"m"').replace(b"{", b'{"n":1,', 1)
    assert most < times * len(body)


def test_no_change_keeps_the_text() -> None:
    text = ' {"a" : 1.0e2 } \n'
    assert parse_object(text.encode()).with_values({}) == text.encode()


def test_a_change_keeps_order_white_space_and_the_spelling_of_numbers_and_strings() -> None:
    text = '\n{ "top_p":1.0e2,\t"x": 0.10 , "model" :\r\n"auto" ,"n":-0,"s":"\\u00e9\\/\\ud83d\\ude00é",' + (
        ' "big":123456789012345678901234567890.10, "l":[ 1 ,{ } ] }  '
    )
    changed = parse_object(text.encode()).with_values({"model": "größer", "extra": {"a": [1, True, None]}})
    expected = text.replace('"auto"', '"größer"').replace("{", '{"extra":{"a":[1,true,null]},', 1)
    assert changed == expected.encode()


def test_a_value_is_added_to_an_empty_object() -> None:
    assert parse_object(b" { \n} ").with_values({"a": 1, "b": "c"}) == b' {"a":1,"b":"c" \n} '


def test_a_name_given_with_escapes_is_the_same_name() -> None:
    body = rb'{"mod\u0065l": "auto"}'
    assert parse_object(body).with_values({"model": "m"}) == rb'{"mod\u0065l": "m"}'


@pytest.mark.parametrize(
    "body",
    [
        r'{"metadata": {"model": "inner"}, "model": "auto"}',
        r'{"model": "auto", "metadata": {"model": "inner"}}',
        r'{"mod\u0065l": "auto", "metadata": {"model": "inner"}}',
        r'{"metadata": {"mod\u0065l": "inner"}, "model": "auto"}',
        r'{"user": "model", "model": "auto"}',
        r'{"user": "model", "mod\u0065l": "auto"}',
        r'{"user": "the \"model", "model": "auto"}',
        r'{"user": "\\", "model" : "auto"}',
        r'{"user": "\"model\":\"inner\"", "model":"auto"}',
        r'{"é": "model", "model":"auto"}',
        r'{"model": null}',
        r'{"model": "a\"b"}',
        r'{"model": ["auto"], "n": 1}',
    ],
)
def test_a_value_is_found_whatever_else_looks_like_its_name(body: str) -> None:
    changed = parse_object(body.encode()).with_values({"model": "m"})
    assert json.loads(changed) == json.loads(body) | {"model": "m"}


@pytest.mark.parametrize(
    "members",
    [
        r'"a": ":", "b": 1, "b": 2',
        r'"a": "\":", "b": {"c": 1, "c": 2}',
        r'"a": "\\", "b": "\\\":\\", "b": ":"',
        r'"a": "x\\\\\":", "a": 1',
        r'"a" : 1, "a" : {"b" : "\"" }',
        r'"a": [{"b": 1}, {"c": 1, "\u0063": 1}]',
    ],
)
def test_a_key_given_twice_is_found_among_colons_and_quotes(members: str) -> None:
    assert "twice" in str(refusal(f"{{{members}}}"))


@given(spelt_objects())
def test_a_key_given_twice_is_found_in_whatever_stands_beside_it(text: str) -> None:
    assert "twice" in str(refusal(f'{{"twice": {text}, "more": [{{"a": 1, "a": {text}}}]}}'))
    assert parse_object(f'{{"once": {text}, "more": [{{"a": 1, "b": {text}}}]}}'.encode())


@pytest.mark.parametrize("number", ["1" * 19, "9" * 20, "-" + "9" * 30, "1" * 18 + "." + "1" * 30, "-0"])
def test_a_long_number_is_read_exactly(number: str) -> None:
    read = parse_object(f'{{"n": [{number}]}}'.encode()).values["n"][0]
    assert (type(read), read) == (type(json.loads(number)), json.loads(number))


@pytest.mark.parametrize("nested", ["{}", '{{"in": {}}}', '{{"in": [1, {}]}}', '{{"in": [{{"deep": {}}}]}}'])
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("1e400", "out of range"),
        ("-1e400", "out of range"),
        ("1" * 400 + ".0", "out of range"),
        (r'"\u0000"', "NUL"),
        (r'"a\u0000b"', "NUL"),
        (r'{"\u0000": 1}', "NUL"),
        (r'"\ud83d"', "surrogate"),
        (r'"\uDBFF x"', "surrogate"),
        (r'"\udc00"', "surrogate"),
        (r'"\uDE00"', "surrogate"),
        (r'"\udfff"', "surrogate"),
        (r'"\ude00\ud83d"', "surrogate"),
        (r'"\ud83d\ud83d\ude00"', "surrogate"),
        (r'"\ud83dx\ude00"', "surrogate"),
        (r'{"\udead": 1}', "surrogate"),
        ('{"a": 1, "a": 1}', "twice"),
        (r'{"a": 1, "\u0061": 2}', "twice"),
        ("9" * 5000, "not valid JSON"),
        ("-" + "9" * 5000, "not valid JSON"),
        ("[" * 129 + "]" * 129, "deeper"),
        ('{"a":' * 129 + "1" + "}" * 129, "deeper"),
        ("[" * 100_000 + "]" * 100_000, "deeper"),
        ("[" * 100_000, "deeper"),
        ('{"a":' * 100_000, "deeper"),
        ('"\0"', "not valid JSON"),
        ('"\n"', "not valid JSON"),
        (r'"\x41"', "not valid JSON"),
        ("'a'", "not valid JSON"),
        ("01", "not valid JSON"),
        ("1.", "not valid JSON"),
        (".5", "not valid JSON"),
        ("+1", "not valid JSON"),
        ("tru", "not valid JSON"),
        ("[1,]", "not valid JSON"),
        ("[1 2]", "not valid JSON"),
        ("{1: 2}", "not valid JSON"),
        ('{"a": 1,}', "not valid JSON"),
        ("", "not valid JSON"),
    ],
    ids=lambda value: value[:24],
)
def test_what_programs_read_differently_is_refused_wherever_it_stands(
    value: str, complaint: str, nested: str
) -> None:
    at_top = '{"field": ' + nested.format(value) + "}"
    assert complaint in str(refusal(at_top))


@pytest.mark.parametrize("value", [r'"\u0000"', r'"\ud800"', r'["\udc00"]', r'{"x": {"\udfff": 1}}'])
def test_a_bad_character_is_reported_with_its_top_level_field(value: str) -> None:
    assert refusal('{"fine": "\\u00e9", "bad": ' + value + "}").param == "bad"


def test_a_key_given_twice_is_reported_by_its_name() -> None:
    assert refusal('{"a": 1, "model": "x", "model": "x"}').param == "model"
    assert refusal(f'{{"{"x" * 100}": 1, "{"x" * 100}": 1}}').param == "x" * 64
    assert refusal(r'{"a": 1, "\u0061": 2}').param == "a"


@pytest.mark.parametrize("body", [r'{"a": "\ud83d\ude00"}', r'{"a": "\\u0000 \\ud800"}', '{"a": "😀"}'])
def test_a_surrogate_pair_and_an_escaped_backslash_are_no_bad_characters(body: str) -> None:
    assert parse_object(body.encode()).values == json.loads(body)


@pytest.mark.parametrize("body", ["[]", "[{}]", "1", "1.5", '"{}"', "null", "true", " [1, 2] "])
def test_json_that_is_no_object_is_refused_as_such(body: str) -> None:
    assert str(refusal(body)) == "The body must be a JSON object."


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "nonsense",
        "{",
        "}",
        "{}}",
        "{} {}",
        "{},",
        '{"a"}',
        '{"a":}',
        '{"a":1',
        '{"a":1,',
        '{"a":1,}',
        '{,"a":1}',
        '{"a":1 "b":2}',
        '{"a" 1}',
        "{a:1}",
        "{1:1}",
        '{"a":1}x',
        "{}\0",
        "\ufeff{}",
        "{}\u00a0",
        '{"a":1}//',
        "/**/{}",
        "[",
        '"',
        "[1] x",
        "{null:1}",
        '{"a":1;}',
    ],
)
def test_what_is_no_json_is_refused(body: str) -> None:
    assert str(refusal(body)) == "The body is not valid JSON."


@pytest.mark.parametrize("body", [b"\xff", b'{"a": "\xe9"}', b'{"a": "\xed\xa0\x80"}', "{}".encode("utf-16")])
def test_what_is_no_utf_8_is_refused(body: bytes) -> None:
    assert str(refusal(body)) == "The body is not valid UTF-8."


@pytest.mark.parametrize("opening", ["[" * 100_000, '[{"a":' * 50_000])
def test_a_deep_body_that_is_no_object_is_refused_too(opening: str) -> None:
    assert "deeper" in str(refusal(opening))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("breadth", ["", '"x": [[], {}, [{}]], '])
def test_nesting_is_accepted_up_to_the_limit_and_no_further(opening: str, closing: str, breadth: str) -> None:
    def nested(levels: int) -> bytes:
        inner = levels - 1  # the body itself is the first level
        return ("{" + breadth + '"in":' + opening * inner + "1" + closing * inner + "}").encode()

    assert MAX_NESTING == 128
    assert "in" in parse_object(nested(MAX_NESTING)).values
    assert str(refusal(nested(MAX_NESTING + 1))) == "The body is nested deeper than 128 levels."


@pytest.mark.parametrize("closing", ["[]", "{}"])
def test_an_empty_container_is_a_level_like_any_other(closing: str) -> None:
    def nested(levels: int) -> bytes:
        return ('{"a":' + "[" * (levels - 2) + closing + "]" * (levels - 2) + "}").encode()

    parse_object(nested(MAX_NESTING))
    refusal(nested(MAX_NESTING + 1))


def test_many_shallow_containers_and_brackets_in_strings_are_no_nesting() -> None:
    body = json.dumps({"a": [[] for _ in range(1000)], "b": "[" * 1000}).encode()
    assert len(parse_object(body).values["a"]) == 1000


def test_an_integer_of_four_thousand_digits_is_read() -> None:
    digits = "7" * 4000
    parsed = parse_object(f'{{"seed": {digits}}}'.encode())
    assert parsed.values == {"seed": int(digits)}
    assert digits.encode() in parsed.with_values({"model": "m"})


@given(st.binary() | st.text('{}[]",:\\u0d8a1e.-+ \n').map(str.encode))
def test_whatever_the_bytes_they_are_an_object_or_refused(body: bytes) -> None:
    try:
        parsed = parse_object(body)
    except NotJson:
        return
    assert isinstance(parsed, JsonObject)
    assert parsed.values == json.loads(body)
    assert parsed.with_values({}) == body


@given(spelt_objects(), st.data())
def test_an_object_with_bytes_cut_or_added_is_an_object_or_refused(text: str, data: st.DataObject) -> None:
    body = text.encode()
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    changed = body[:start] + data.draw(st.binary(max_size=4)) + body[end:]
    try:
        parsed = parse_object(changed)
    except NotJson:
        return
    assert parsed.values == json.loads(changed)
