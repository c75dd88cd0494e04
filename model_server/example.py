"""JSON schema -> the smallest value that fits it, as a model would fill in a form."""

import math
from collections.abc import Mapping
from typing import Any

from model_server.errors import InvalidRequest
from model_server.tokens import count_json, count_text

# A schema may describe values larger than any memory; no honest one comes near this size.
MAX_TOKENS = 16_384
MAX_STRING_CHARS = 4096
COMBINERS = ("anyOf", "oneOf")


def example_of(schema: Any, text: str) -> Any:
    """A minimal instance of `schema`, its strings made of `text`; raise `InvalidRequest` if it is huge."""
    return _Examples(schema, text).value(schema, frozenset())


class _Examples:
    def __init__(self, root: Any, text: str) -> None:
        self._root = root
        self._text = text or "text"
        self._tokens = 0

    def value(self, schema: Any, seen: frozenset[str]) -> Any:
        """An instance of `schema`; `seen` are the references being followed, which would recur for ever."""
        self._spend(1)
        if not isinstance(schema, Mapping):
            return None
        if "const" in schema:
            return self._literal(schema["const"])
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._literal(schema["enum"][0])
        if "default" in schema:
            return self._literal(schema["default"])
        if isinstance(schema.get("$ref"), str):
            reference = schema["$ref"]
            if reference in seen:
                return None
            return self.value(self._resolve(reference), seen | {reference})
        for combiner in COMBINERS:
            if isinstance(schema.get(combiner), list) and schema[combiner]:
                return self.value(_first_finite(schema[combiner], seen), seen)
        if isinstance(schema.get("allOf"), list) and schema["allOf"]:
            return self.value(self._merge(schema), seen)
        return self._typed(schema, seen)

    def _typed(self, schema: Mapping[str, Any], seen: frozenset[str]) -> Any:
        match _type_of(schema):
            case "object":
                return self._object(schema, seen)
            case "array":
                return [
                    self.value(schema.get("items"), seen)
                    for _ in range(_size(schema, "minItems", MAX_TOKENS))
                ]
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(schema)

    def _object(self, schema: Mapping[str, Any], seen: frozenset[str]) -> dict[str, Any]:
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        required = schema.get("required")
        names = (
            [n for n in required if isinstance(n, str)] if isinstance(required, list) else list(properties)
        )
        return {name: self.value(properties.get(name, {}), seen) for name in names}

    def _string(self, schema: Mapping[str, Any]) -> str:
        shortest = _size(schema, "minLength", MAX_STRING_CHARS)
        longest = _size(schema, "maxLength", MAX_STRING_CHARS, MAX_STRING_CHARS)
        text = self._text.ljust(shortest, ".")[:longest]
        self._spend(count_text(text))
        return text

    def _literal(self, value: Any) -> Any:
        self._spend(count_json(value))
        return value

    def _spend(self, tokens: int) -> None:
        self._tokens += tokens
        if self._tokens > MAX_TOKENS:
            raise InvalidRequest("The schema describes too large a value.")

    def _resolve(self, reference: str) -> Any:
        node = self._root
        if not reference.startswith("#"):
            return {}
        for step in reference.removeprefix("#").split("/")[1:]:
            node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
        return node

    def _merge(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            if isinstance(part, Mapping) and isinstance(part.get("$ref"), str):
                part = self._resolve(part["$ref"])
            for key, value in part.items() if isinstance(part, Mapping) else ():
                kept = merged.get(key)
                if isinstance(kept, dict) and isinstance(value, dict):
                    merged[key] = {**kept, **value}
                elif isinstance(kept, list) and isinstance(value, list):
                    merged[key] = kept + value
                else:
                    merged[key] = value
        return merged


def _first_finite(options: list[Any], seen: frozenset[str]) -> Any:
    for option in options:
        reference = option.get("$ref") if isinstance(option, Mapping) else None
        if not (isinstance(reference, str) and reference in seen):
            return option
    return options[0]


def _type_of(schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        kind = kind[0]
    if kind is None and "properties" in schema:
        return "object"
    if kind is None and "items" in schema:
        return "array"
    return kind


def _number(schema: Mapping[str, Any]) -> int | float:
    value: int | float = 1
    low, high = _bound(schema, "minimum"), _bound(schema, "maximum")
    above, below = _bound(schema, "exclusiveMinimum"), _bound(schema, "exclusiveMaximum")
    if low is not None and value < low:
        value = math.ceil(low)
    if above is not None and value <= above:
        value = math.floor(above) + 1
    if high is not None and value > high:
        value = math.floor(high)
    if below is not None and value >= below:
        value = math.ceil(below) - 1
    if schema.get("type") == "number" and low is not None and value < low:
        # No whole number lies between the bounds.
        value = low
    return value


def _bound(schema: Mapping[str, Any], name: str) -> int | float | None:
    value = schema.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _size(schema: Mapping[str, Any], name: str, most: int, default: int = 0) -> int:
    value = schema.get(name)
    return (
        min(value, most) if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
    )
