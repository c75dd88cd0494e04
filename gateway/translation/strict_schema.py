"""Which JSON schemas OpenAI takes as strict. It refuses a request with any other, where it is asked to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

KEYWORDS = {
    *("$schema", "type", "title", "description", "enum", "const", "pattern", "format", "minItems"),
    *("properties", "required", "additionalProperties", "items", "anyOf", "$ref", "$defs", "definitions"),
}
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")


def is_strict(schema: dict[str, Any]) -> bool:
    """Whether every object in it has a fixed set of properties, all of them required, and it says nothing
    that OpenAI does not know. Its size is not looked at."""
    if schema.get("type") != "object" or "anyOf" in schema:
        return False
    left: list[Any] = [schema]
    while left:
        one = left.pop()
        if not isinstance(one, dict) or not _is_strict_alone(one):
            return False
        left.extend(_schemas_in(one))
    return True


def _is_strict_alone(schema: dict[str, Any]) -> bool:
    """Whether it would be strict if those in it were."""
    if "$ref" in schema:
        return schema.keys() <= {"$ref"}
    if not schema.keys() <= KEYWORDS or not ("type" in schema or "anyOf" in schema):
        return False
    types = schema.get("type")
    types = types if isinstance(types, list) else [types]
    if "array" in types and "items" not in schema:
        return False
    if "format" in schema and schema["format"] not in FORMATS:
        return False
    return _is_closed(schema) if "object" in types or "properties" in schema else True


def _is_closed(schema: dict[str, Any]) -> bool:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list):
        return False
    names = {name for name in required if isinstance(name, str)}
    return schema.get("additionalProperties") is False and names == properties.keys()


def _schemas_in(schema: dict[str, Any]) -> Iterator[Any]:
    for name in ("properties", "$defs", "definitions"):
        named = schema.get(name, {})
        yield from named.values() if isinstance(named, dict) else [named]
    if "items" in schema:
        yield schema["items"]
    alternatives = schema.get("anyOf", [])
    yield from alternatives if isinstance(alternatives, list) else [alternatives]
