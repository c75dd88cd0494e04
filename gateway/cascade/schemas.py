"""Whether a JSON value fits a client's schema, within bounds: schemas come from clients, values from models
that clients can steer, and a worker that is busy with them serves nobody else.

`jsonschema-rs` matches patterns in linear time, but schemas that refer to each other can ask for
exponentially many visits, so these are counted before. Where a schema asks for too much, or is none, nothing
is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs
import orjson

MOST_SCHEMA_BYTES = 2**16
MOST_VISITS = 2 * 10**6  # of a schema to a value; less than a tenth of a second
MOST_STEPS = 20_000  # to count them
MOST_PATTERNS = 100
PATTERN_BYTES = 2**18
# Where keywords have further schemas: for the same value, and for those within it.
HERE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
WITHIN = (
    "properties",
    "patternProperties",
    "additionalProperties",
    "items",
    "prefixItems",
    "additionalItems",
    "contains",
    "propertyNames",
)
# Whose visits cannot be counted by looking at the schema alone.
UNCOUNTED = ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef")


class TooMuch(Exception):
    """The schema asks for more than is worth doing, or for what cannot be foreseen."""


def fits(schema: Mapping[str, Any], value: object) -> bool | None:
    """Whether `value` fits, None where nothing can be said about it."""
    try:
        raw = orjson.dumps(schema)
        if len(raw) > MOST_SCHEMA_BYTES or not _is_affordable(raw, value):
            return None
        validator = _validator(raw)
        return None if validator is None else bool(validator.is_valid(value))
    except (TypeError, ValueError):  # no JSON after all, such as half a surrogate pair
        return None


@lru_cache(maxsize=256)
def _validator(raw: bytes) -> Any:
    """The schema ready for use, None for one that is wrong."""
    try:
        return jsonschema_rs.validator_for(
            orjson.loads(raw),
            validate_formats=False,  # providers differ in which ones they heed
            retriever=_refuse,
            pattern_options=jsonschema_rs.RegexOptions(
                size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES
            ),
        )
    except (jsonschema_rs.ValidationError, ValueError):
        return None


def _refuse(uri: str) -> NoReturn:
    raise ValueError("Nothing is fetched for a schema.")


def _is_affordable(raw: bytes, value: object) -> bool:
    values, characters, depth = _extent(value)
    found = _visits_to_each(raw, depth)
    if found is None:
        return False
    visits, has_patterns = found
    return visits * (values + (characters if has_patterns else 0)) <= MOST_VISITS


@lru_cache(maxsize=1024)
def _visits_to_each(raw: bytes, depth: int) -> tuple[int, bool] | None:
    """The most visits of a schema to any one value with so many levels below it, and whether it has patterns;
    None where they are too many."""
    schema = orjson.loads(raw)
    visits = _Visits(schema)
    try:
        return visits.to(schema, depth), bool(visits.patterns)
    except (TooMuch, RecursionError):
        return None


def _extent(value: object) -> tuple[int, int, int]:
    """How many values there are in one, how many characters, and how deeply they are nested."""
    count, characters, depth, layer = 0, 0, -1, [value]
    while layer:
        count, depth = count + len(layer), depth + 1
        characters += sum(len(each) for each in layer if isinstance(each, str))
        within: list[object] = []
        for each in layer:
            if isinstance(each, dict):
                characters += sum(map(len, each))
                within += each.values()
            elif isinstance(each, list):
                within += each
        layer = within
    return count, characters, depth


class _Visits:
    """Counts the visits that a schema and those below it pay to any one value, at most. `patterns` are the
    schemas that have some."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[tuple[int, int], int] = {}
        self.patterns: set[int] = set()

    def to(self, schema: object, depth: int) -> int:
        """Those of `schema` to a value that has `depth` levels below it, in so many units of work.

        :raises TooMuch: where they cannot be counted, or there are too many
        """
        if not isinstance(schema, dict):
            return 1
        place = id(schema), depth
        if (known := self._known.get(place)) is not None:
            return known
        self._known[place] = 1  # for a schema that refers to itself, which is looked at once
        if len(self._known) > MOST_STEPS or any(name in schema for name in UNCOUNTED):
            raise TooMuch
        if "$id" in schema and schema is not self._root:
            raise TooMuch  # it moves what references refer to
        if "pattern" in schema or "patternProperties" in schema:
            self.patterns.add(id(schema))
            if len(self.patterns) > MOST_PATTERNS:
                raise TooMuch
        visits = 1 + sum(len(value) for value in schema.values() if isinstance(value, list | dict))
        for name in HERE:
            visits += sum(self.to(each, depth) for each in _schemas_in(schema.get(name)))
        if "$ref" in schema:
            visits += self.to(self._referred(schema["$ref"]), depth)
        if depth > 0:
            for name in WITHIN:
                visits += sum(self.to(each, depth - 1) for each in _schemas_in(schema.get(name)))
        if visits > MOST_VISITS:
            raise TooMuch
        self._known[place] = visits
        return visits

    def _referred(self, reference: object) -> object:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise TooMuch
        found: object = self._root
        for part in reference[2:].split("/") if reference != "#" else ():
            name = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found or "%" in name:
                raise TooMuch
            found = found[name]
        return found


def _schemas_in(value: object) -> Iterator[object]:
    """The schemas that a keyword has: one, a list of them, or one for each of some names. What is one itself
    is also taken for the latter, which counts too much and never too little."""
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield value
        yield from (each for each in value.values() if isinstance(each, dict))
