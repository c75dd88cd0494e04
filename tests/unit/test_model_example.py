"""The smallest value that fits a JSON schema."""

import time
from typing import Any

import pytest

from model_server.errors import InvalidRequest
from model_server.example import example_of

NODE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "words"),
        ({"type": "string", "minLength": 7}, "words.."),
        ({"type": "string", "maxLength": 2}, "wo"),
        ({"type": "integer"}, 1),
        ({"type": "integer", "minimum": 2.5}, 3),
        ({"type": "integer", "exclusiveMinimum": 4}, 5),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "number", "minimum": 0.25, "maximum": 0.5}, 0.25),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "string"]}, None),
        ({"type": "array", "items": {"type": "integer"}}, []),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"enum": ["b", "a"], "type": "string"}, "b"),
        ({"const": {"k": 1}}, {"k": 1}),
        ({"type": "integer", "default": 9}, 9),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 1),
        ({"oneOf": [{"type": "boolean"}]}, True),
        ({"allOf": [{"properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]}, {"a": 1}),
        ({"properties": {"a": {"type": "integer"}, "b": {"type": "null"}}}, {"a": 1, "b": None}),
        ({"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}, {"a": 1}),
        ({"properties": {"a": {"properties": {"b": {"const": 0}}}}}, {"a": {"b": 0}}),
        ({"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"const": 5}}}, 5),
        (NODE, {"value": 1, "next": None, "children": []}),
        ({"$ref": "#"}, None),
        ({"$ref": "https://example.com/schema"}, "words"),
        ({"type": 7, "properties": [], "required": "x", "enum": []}, "words"),
        ({"type": "object", "properties": 3, "required": [1, "a"]}, {"a": "words"}),
    ],
)
def test_a_schema_gets_its_smallest_instance(schema: Any, value: Any) -> None:
    result = example_of(schema, "words")
    assert result == value
    assert type(result) is type(value)


def arrays_of(items: Any, depth: int) -> Any:
    for _ in range(depth):
        items = {"type": "array", "items": items, "minItems": 10**12}
    return items


@pytest.mark.parametrize(
    "schema",
    [
        arrays_of({"type": "string"}, 20),
        arrays_of({"const": "x" * 10_000}, 1),
        arrays_of({"type": "string", "minLength": 10**12}, 1),
    ],
    ids=["nested", "literals", "strings"],
)
def test_a_schema_of_a_huge_value_is_refused_at_once(schema: Any) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidRequest):
        example_of(schema, "words")
    assert time.monotonic() - started < 1


def test_a_reference_that_is_no_string_is_looked_past() -> None:
    assert example_of({"anyOf": [{"$ref": ["#"]}, {"const": 1}]}, "words") == "words"
