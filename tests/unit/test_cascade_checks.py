"""What a cascade checks of an answer, with answers and schemas that were made to break it."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis import Api
from gateway.cascade.agreement import final_answer
from gateway.cascade.checks import fault_in_json, fault_in_probability, fault_in_structure
from gateway.cascade.expected import Expected, expected_of
from gateway.cascade.judge import accepts
from gateway.cascade.rules import CascadeRules
from gateway.cascade.said import Said, ToolCall, said_in
from gateway.cascade.schemas import fits

ANY = Expected()
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
QUICK_SECONDS = 1.0
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


def nested(levels: int, name: str = "x") -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {name: value}
    return value


def twice_each(levels: int) -> dict[str, Any]:
    """A schema in which each level refers to the next one twice."""
    definitions: dict[str, Any] = {
        f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(levels)
    }
    definitions[f"a{levels}"] = {"type": "string"}
    return {"$defs": definitions, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(
    ("schema", "value", "fit"),
    [
        (SCHEMA, {"n": 1}, True),
        (SCHEMA, {"n": "1"}, False),
        ({"type": "string", "pattern": "^(a+)+$"}, "a" * 10_000 + "!", False),
        ({"allOf": [{"pattern": f"(x+x+)+y{i}"} for i in range(90)]}, "x" * 10_000, False),
        # A tree, as clients have them.
        (
            {"$defs": {"t": {"properties": {"c": {"items": {"$ref": "#/$defs/t"}}}}}, "$ref": "#/$defs/t"},
            {"c": [{"c": []}, {"c": [{}]}]},
            True,
        ),
        ({"allOf": [{"$ref": "#"}]}, 1, True),
        ({"const": "🦆"}, "🦆", True),
        # Of what asks for too much, or is no schema, nothing is said.
        (twice_each(60), 1, None),
        ({"anyOf": [{"properties": {"x": {"$ref": "#"}}}] * 2}, nested(60), None),
        ({"pattern": "(?=a)a"}, "a", None),
        ({"pattern": "(a{1000}){1000}"}, "a", None),
        ({"allOf": [{"pattern": f"{i}"} for i in range(200)]}, "a", None),
        ({"enum": ["x" * 100] * 1000}, "y", None),
        ({"properties": nested(500, "properties")}, nested(100), None),
        ({"type": "nonsense"}, 1, None),
        ({"type": 5}, 1, None),
        ({"$ref": "http://example.com/schema"}, 1, None),
        ({"$ref": "file:///etc/passwd"}, 1, None),
        ({"$ref": "#/$defs/missing"}, 1, None),
        ({"$schema": "http://example.com/of-its-own"}, 1, None),
        ({"unevaluatedProperties": False}, {}, None),
        ({"type": "string"}, "\ud800", None),
        ({"const": 2**100}, 1, None),
    ],
)
def test_a_value_is_held_against_its_schema_within_bounds(schema: Any, value: Any, fit: bool | None) -> None:
    began = time.monotonic()
    assert fits(schema, value) is fit
    assert time.monotonic() - began < QUICK_SECONDS


@given(values, values)
def test_no_schema_and_no_value_can_break_it(schema: Any, value: Any) -> None:
    schema = schema if isinstance(schema, dict) else {"allOf": [schema]}
    assert fits(schema, value) in (True, False, None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"n": 1}', None),
        (' {"n": 1}\n', None),
        ('{"n": 1', "not valid JSON"),
        ('{"n": NaN}', "not valid JSON"),
        ('Here it is: {"n": 1}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"x":' * 5000 + "1" + "}" * 5000, "not valid JSON"),
        ('{"n": "\ud800"}', "not valid JSON"),
        ('{"n": 1.5}', "not valid against its JSON schema"),
        ("{}", "not valid against its JSON schema"),
        ("null", "not valid against its JSON schema"),
    ],
)
def test_json_that_was_asked_for_is_read_strictly(text: str, fault: str | None) -> None:
    assert fault_in_json(text, Expected(SCHEMA)) == fault


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I can’t assist with that request.",  # noqa: RUF001 - as models write it
        "Sorry, but I cannot provide that.",
        "I cannot assist with this.",
        "I can't help with that",
        "I am unable to answer this question.",
        "As an AI language model, I cannot provide medical advice.",
        "I'm sorry, but as an AI language model I cannot comply.",
        "Unfortunately, I am not able to help with it.",
        "I must decline to answer.",
        "I'm unable to assist.",
    ],
)
def test_a_refusal_is_known_by_how_it_begins(text: str) -> None:
    said = Said(text)
    assert fault_in_structure(said, ANY, is_cut_by_client=False) == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry for your loss. Here is a poem.",
        "I can't help but admire it.",
        "I cannot recommend it enough.",
        "Sorry! The answer is 4.",
        "You could say: I'm sorry, but I can't help with that.",
        "I can answer that: 4.",
        "No.",
        "0",
        "我不能。",
    ],
)
def test_other_answers_are_none(text: str) -> None:
    assert fault_in_structure(Said(text), ANY, is_cut_by_client=False) is None


@given(st.text(max_size=300), st.booleans())
def test_whatever_is_said_the_check_comes_to_an_end(text: str, is_cut: bool) -> None:
    said = Said(text, is_cut=is_cut)
    fault_in_structure(said, Expected({"pattern": "x"}), is_cut_by_client=False)
    final_answer(said)


def test_a_long_beginning_of_a_refusal_takes_no_time() -> None:
    began = time.monotonic()
    for text in ("i'm sorry, but " * 10_000, "sorry " * 50_000, "as an ai " * 50_000, " " * 10**6):
        fault_in_structure(Said(text), ANY, is_cut_by_client=False)
    assert time.monotonic() - began < QUICK_SECONDS


@pytest.mark.parametrize(
    ("said", "expected", "fault"),
    [
        (Said(""), ANY, "empty"),
        (Said(" \t\n"), ANY, "empty"),
        (Said("", has_more=True), ANY, None),
        (Said("half", is_cut=True), ANY, "cut"),
        (Said("fine", refuses=True), ANY, "refused"),
        (Said("a STOP"), Expected(stops=("STOP",)), None),  # some servers keep it
        (Said("a STOP b"), Expected(stops=("STOP",)), "not ended at its stop text"),
        (Said("x"), Expected(must_call=""), "no tool called"),
        (Said(calls=(ToolCall("f", "{}"),)), Expected(tools={"f": None}, must_call="f"), None),
        (
            Said(calls=(ToolCall("g", "{}"),)),
            Expected(tools={"f": None, "g": None}, must_call="f"),
            "another tool called than was asked for",
        ),
        (Said(calls=(ToolCall("f", ""),)), Expected(tools={"f": {"type": "object"}}), None),
        (Said(calls=(ToolCall("web_search", "{}"),)), Expected(tools=None), None),
        (
            Said(calls=(ToolCall("f", "[]"),)),
            Expected(tools={"f": None}),
            "a tool's arguments do not fit its parameters",
        ),
        (
            Said(calls=(ToolCall("f", "[" * 100_000),)),
            Expected(tools={"f": SCHEMA}),
            "a tool's arguments are not valid JSON",
        ),
    ],
)
def test_what_is_at_fault_is_named(said: Said, expected: Expected, fault: str | None) -> None:
    assert fault_in_structure(said, expected, is_cut_by_client=False) == fault


def test_an_answer_with_no_end_of_calls_takes_no_time() -> None:
    began = time.monotonic()
    calls = (ToolCall("f", '{"x": "' + "a" * 1000 + '"}'),) * 10_000
    expected = Expected(tools={"f": twice_each(15)}, stops=("b",) * 10**6)
    assert fault_in_structure(Said(calls=calls), expected, is_cut_by_client=False) is not None
    assert fault_in_structure(Said("a" * 10**6), expected, is_cut_by_client=False) is None
    assert time.monotonic() - began < QUICK_SECONDS


def test_an_answer_that_is_cut_where_the_client_wants_it_is_not_at_fault() -> None:
    cut = Said('{"n": ', is_cut=True)
    assert fault_in_structure(cut, Expected(SCHEMA), is_cut_by_client=True) is None


@pytest.mark.parametrize(
    ("logs", "fault"),
    [
        ((), None),
        ((math.log(0.9), math.log(0.8)), None),
        ((math.log(0.5), math.log(0.5)), "unsure on the whole"),
        ((0.0,) * 50 + (math.log(0.05),), "unsure of a token"),
        ((-9999.0,), "unsure on the whole"),
        ((5.0, 5.0), None),  # no probability is above one
        ((-math.inf,), "unsure on the whole"),
    ],
)
def test_probabilities_are_held_against_both_bounds(logs: tuple[float, ...], fault: str | None) -> None:
    rules = CascadeRules(min_mean_probability=0.7, min_token_probability=0.1)
    assert fault_in_probability(Said("x", log_probabilities=logs), rules) == fault


@pytest.mark.parametrize(
    "texts",
    [
        [
            "42",
            "42.0",
            "The answer is 42.",
            "So it is 42\n#### 42",
            "**42**",
            "\\boxed{42}",
            "$42.00",
            "42 km",
        ],
        ["1,000", "1000", "1e3", '{"answer": "1000"}', '{"answer": 1000, "why": "x"}'],
        ["(B)", "B", "B.", "B) Paris", "The answer is (B).", "the correct answer is: B"],
        ["Paris", "paris.", " PARIS ", "The answer is Paris."],
        ['{"b": 1, "a": [2]}', '{"a":[2],"b":1}'],
        ["４２", "42"],  # noqa: RUF001 - digits of full width
        ["-3", "The answer is -3"],
    ],
)
def test_the_same_final_answer_is_found_in_each_form(texts: list[str]) -> None:
    assert len({final_answer(Said(text)) for text in texts}) == 1
    assert final_answer(Said(texts[0])) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("42", "43"),
        ("42", "-42"),
        ("A", "B"),
        ("Paris", "London"),
        ('{"a": 1}', '{"a": 2}'),
        ("0.1", "0.10001"),
        ("1 or 2", "2 or 1"),
    ],
)
def test_different_final_answers_differ(one: str, other: str) -> None:
    assert final_answer(Said(one)) != final_answer(Said(other))


@pytest.mark.parametrize(
    "said",
    [
        Said(""),
        Said("word " * 2000),
        Said("A long answer in prose. " * 20),
        Said("42", is_cut=True),
        Said("42", refuses=True),
        Said('{"a": '),
        Said(calls=(ToolCall("f", "{"),)),
        Said("\ufdfa" * 4000),  # one character that stands for eighteen
    ],
)
def test_what_has_no_short_answer_agrees_with_nothing(said: Said) -> None:
    assert final_answer(said) is None


def test_calls_of_tools_agree_in_name_and_arguments() -> None:
    one = Said(calls=(ToolCall("f", '{"a": 1, "b": 2}'),))
    assert final_answer(one) == final_answer(Said(calls=(ToolCall("f", '{"b":2,"a":1}'),)))
    assert final_answer(one) != final_answer(Said(calls=(ToolCall("g", '{"a": 1, "b": 2}'),)))
    assert final_answer(one) != final_answer(Said(calls=(ToolCall("f", '{"a": 1}'),)))


def test_a_verdict_is_one_clean_word() -> None:
    passed = Said("PASS")
    assert accepts(passed)
    assert not accepts(replace(passed, is_cut=True))
    assert not accepts(replace(passed, calls=(ToolCall("f", "{}"),)))
    assert not any(accepts(Said(text)) for text in ("", "FAIL", "Pass", "PASS.", "PASS PASS", "PASS\n\nFAIL"))


@given(st.sampled_from(list(Api)), st.dictionaries(st.text(max_size=12), values, max_size=4))
def test_what_a_provider_or_a_client_sends_is_read_whatever_it_is(api: Api, sent: dict[str, Any]) -> None:
    for name in ("choices", "content", "output", "tools", "tool_choice", "response_format", "text", "stop"):
        if sent:
            sent[name] = next(iter(sent.values()))
    said_in(api, sent)
    expected_of(api, sent)


@pytest.mark.parametrize(
    ("api", "request_values"),
    [
        (
            Api.CHAT_COMPLETIONS,
            {
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
                "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
                "stop": ["a", "b"],
            },
        ),
        (
            Api.RESPONSES,
            {
                "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
                "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
                "tool_choice": {"type": "function", "name": "f"},
            },
        ),
        (
            Api.MESSAGES,
            {
                "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
                "tools": [{"name": "f", "input_schema": SCHEMA}],
                "tool_choice": {"type": "tool", "name": "f"},
                "stop_sequences": ["a", "b"],
            },
        ),
    ],
)
def test_each_dialect_asks_for_the_same(api: Api, request_values: dict[str, Any]) -> None:
    expected = expected_of(api, request_values)
    assert expected.schema == SCHEMA
    assert expected.tools == {"f": SCHEMA}
    assert expected.must_call == "f"
    assert expected.stops == (() if api is Api.RESPONSES else ("a", "b"))


@pytest.mark.parametrize(
    ("api", "answer"),
    [
        (
            Api.CHAT_COMPLETIONS,
            {
                "choices": [
                    {
                        "message": {
                            "content": "hi",
                            "tool_calls": [{"function": {"name": "f", "arguments": '{"n": 1}'}}],
                        },
                        "finish_reason": "length",
                    }
                ]
            },
        ),
        (
            Api.MESSAGES,
            {
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "hi"},
                    {"type": "tool_use", "name": "f", "input": {"n": 1}},
                ],
                "stop_reason": "max_tokens",
            },
        ),
        (
            Api.RESPONSES,
            {
                "output": [
                    {"type": "reasoning", "content": []},
                    {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
                    {"type": "function_call", "name": "f", "arguments": '{"n": 1}'},
                ],
                "incomplete_details": {"reason": "max_output_tokens"},
            },
        ),
    ],
)
def test_each_dialect_says_the_same(api: Api, answer: dict[str, Any]) -> None:
    (said,) = said_in(api, answer)
    assert (said.text, said.is_cut, said.refuses, said.has_more) == ("hi", True, False, False)
    (call,) = said.calls
    assert (call.name, json.loads(call.arguments or "")) == ("f", {"n": 1})
