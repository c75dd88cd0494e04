"""Which schemas of an answer OpenAI is asked to follow strictly."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from anthropic import transform_schema
from hypothesis import given
from hypothesis import strategies as st
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Field

from gateway.translation.strict_schema import is_strict


def closed(**properties: object) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT = {"type": "string"}
OPEN = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
OPTIONAL = {**closed(a=TEXT), "required": []}
ADDRESS = {"$ref": "#/$defs/address"}


@pytest.mark.parametrize(
    "schema",
    [
        closed(),
        closed(a=TEXT, b={"type": ["integer", "null"], "description": "How many."}),
        closed(a=closed(b=closed(c={"type": "boolean"}))),
        closed(a={"type": "array", "items": closed(b=TEXT), "minItems": 1}),
        closed(a={"anyOf": [closed(b=TEXT), {"type": "null"}]}),
        {**closed(a=ADDRESS), "$defs": {"address": closed(street=TEXT)}},
        closed(a={"type": "string", "enum": ["x", "y"]}, b={"type": "string", "format": "date"}),
        closed(required=TEXT, properties=TEXT, allOf=TEXT),
        {**closed(a=TEXT), "$schema": "http://json-schema.org/draft-07/schema#", "title": "Answer"},
    ],
)
def test_a_schema_that_openai_takes_is_strict(schema: dict[str, Any]) -> None:
    assert is_strict(schema)


@pytest.mark.parametrize(
    "part",
    [
        OPEN,
        OPTIONAL,
        {**closed(a=TEXT), "additionalProperties": True},
        {**closed(a=TEXT), "additionalProperties": TEXT},
        {**closed(a=TEXT), "required": ["a", "b"]},
        {**closed(a=TEXT), "required": "a"},
        {**closed(a=TEXT), "required": [["a"]]},
        {**closed(a=TEXT), "patternProperties": {}},
        {"type": "object", "additionalProperties": False},
        {"type": "object", "properties": [], "required": [], "additionalProperties": False},
        {**closed(a=TEXT), "type": ["object", "null"], "required": []},
        {"type": "array"},
        {"enum": ["x"]},
        {"allOf": [closed(a=TEXT)]},
        {"oneOf": [TEXT]},
        {"anyOf": {}, "type": 7, "format": []},
        {"type": "string", "format": "uri"},
        {"type": "string", "default": "x"},
        {"$ref": "#/$defs/a", "description": "With more beside it."},
        {},
        True,
        None,
        [],
    ],
)
@pytest.mark.parametrize(
    "around",
    [
        lambda part: closed(a=TEXT, b=part),
        lambda part: closed(a={"type": "array", "items": part}),
        lambda part: closed(a={"anyOf": [TEXT, part]}),
        lambda part: {**closed(a=TEXT), "$defs": {"b": part}},
        lambda part: {**closed(a=TEXT), "definitions": {"b": part}},
        lambda part: closed(a=closed(b={"type": "array", "items": {"anyOf": [part]}})),
    ],
)
def test_one_part_that_openai_refuses_makes_a_schema_not_strict(part: object, around: Any) -> None:
    assert is_strict(around(TEXT))
    assert not is_strict(around(part))


@pytest.mark.parametrize(
    "schema",
    [
        OPEN,
        OPTIONAL,
        {},
        {"type": "array", "items": TEXT},
        {**closed(a=TEXT), "anyOf": [closed(a=TEXT)]},
        TEXT,
    ],
)
def test_the_schema_itself_must_be_a_closed_object(schema: dict[str, Any]) -> None:
    assert not is_strict(schema)


class Address(BaseModel):
    street: str
    number: int | None


class Person(BaseModel):
    """Whom it is about."""

    name: str = Field(description="In full.")
    homes: list[Address]
    kind: Literal["a", "b"]


class Hint(BaseModel):
    name: str
    remark: str = "none"


class Named(BaseModel):
    name: str
    home: Address | None


def test_what_openais_own_client_makes_strict_is_strict() -> None:
    assert is_strict(to_strict_json_schema(Person))


def test_what_anthropics_client_makes_is_strict_where_nothing_is_optional() -> None:
    assert is_strict(transform_schema(Named))
    assert not is_strict(transform_schema(Hint))


def test_a_schema_is_looked_through_however_deep_it_is() -> None:
    deep: dict[str, Any] = OPEN
    shut: dict[str, Any] = TEXT
    for _ in range(5000):
        deep, shut = closed(a=deep), closed(a=shut)
    assert not is_strict(deep)
    assert is_strict(shut)


KEYS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "anyOf",
        "$ref",
        "$defs",
        "format",
        "a",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.sampled_from(["object", "array", "string", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_any_object_is_strict_or_not(schema: dict[str, Any]) -> None:
    assert is_strict({**schema, "type": "object"}) in (True, False)
