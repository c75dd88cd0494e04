"""JSON text that is read strictly, and changed without touching the bytes around the change."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from gateway.providers_json import has_long_integer

MAX_NESTING = 128
MAX_VALUES = (
    500_000  # commas and brackets; a prompt of so many fills the largest contexts, more stall a worker
)
USUAL_BYTES = 2**16  # of a larger body there would be one more copy than has to be
SPACES = frozenset(" \t\n\r")
_WHITESPACE = re.compile(r"[ \t\n\r]*")
_CONTAINERS = (dict, list)
# The value of a member that is a plain text, with what stands before it.
_TEXT_VALUE = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*("[^"\\]*")')
_ESCAPED_LETTER = re.compile(rb"\\u00[3-7]")  # by which a name can be written in other ways
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:[dD][89a-fA-F][0-9a-fA-F]{2}|0000)")


class NotJson(ValueError):
    """The text is not the JSON that it should be; `param` names the top-level field at fault, where that
    has a name that can be repeated."""

    def __init__(self, problem: str, param: str | None = None) -> None:
        super().__init__(problem)
        self.param = param[:64] if param and param.isprintable() else None


@dataclass
class JsonObject:
    """A JSON object: its bytes, and its values."""

    raw: bytes
    values: dict[str, Any]

    @cached_property
    def spans(self) -> dict[str, tuple[int, int]]:
        """Where in the bytes each top-level value stands."""
        text = self.raw.decode()
        _, spans = _read_members(text)
        return spans if self.raw.isascii() else _in_bytes(spans, text, len(self.raw))

    def with_values(self, changes: dict[str, Any]) -> bytes:
        """The same text with some top-level values set; all else keeps its bytes."""
        added = [(name, value) for name, value in changes.items() if name not in self.values]
        replaced = [(*self._span_of(name), value) for name, value in changes.items() if name in self.values]
        pieces: list[bytes | memoryview] = []
        rest, position = memoryview(self.raw), 0
        if added:
            position = self.raw.index(b"{") + 1
            members = ",".join(f"{_dump(name)}:{_dump(value)}" for name, value in added)
            pieces += rest[:position], members.encode(), b"," if self.values else b""
        for start, end, value in sorted(replaced, key=_start_of):
            pieces += rest[position:start], _dump(value).encode()
            position = end
        return b"".join([*pieces, rest[position:]])

    def _span_of(self, name: str) -> tuple[int, int]:
        """The span of a value, found without those of the others where its name stands in the text once."""
        quoted = f'"{name}"'.encode()
        if name.isidentifier() and self.raw.count(quoted) == 1 and not _ESCAPED_LETTER.search(self.raw):
            text = _TEXT_VALUE.match(self.raw, self.raw.index(quoted) + len(quoted))
            if text is not None:
                return text.span(1)
        return self.spans[name]


def parse_object(body: bytes) -> JsonObject:
    """Read a JSON object more strictly than `json` does.

    :raises NotJson: for text that is no UTF-8 or no JSON object, and for what programs read differently
        or not at all: a key given twice, NaN, an infinite number, a lone surrogate, a NUL character,
        nesting deeper than `MAX_NESTING`, more commas and brackets than `MAX_VALUES`
    """
    brackets = body.count(b"[") + body.count(b"{")
    values = _read_usual(body) if len(body) <= USUAL_BYTES else None
    if values is None:
        values = _read_any(body, brackets)
    if brackets > MAX_NESTING and _deeper_than(values, MAX_NESTING - 1):
        raise NotJson(f"The body is nested deeper than {MAX_NESTING} levels.")
    if _SUSPECT_ESCAPE.search(body):
        _refuse_bad_characters(values)
    return JsonObject(body, values)


def _read_usual(body: bytes) -> dict[str, Any] | None:
    """The object as `orjson` reads it, in a fifth of the time, where that is as it should be read; None for
    all else, be it wrong or not."""
    if has_long_integer(body):
        return None
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return values if isinstance(values, dict) and _members_in(body) == _members_of(values) else None


def _members_in(body: bytes) -> int:
    """How many members all objects in a JSON text have, those with a key that is given twice among them: the
    colons outside of its strings."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(body.split(b'"')[::2]).count(b":")


def _members_of(values: dict[str, Any]) -> int:
    """How many are left of them once they have been read."""
    count = 0
    containers: list[Any] = [values]
    for container in containers:
        if type(container) is dict:
            count += len(container)
            container = container.values()
        for child in container:
            if type(child) in _CONTAINERS:
                containers.append(child)
    return count


def _read_any(body: bytes, brackets: int) -> dict[str, Any]:
    """The object as `json` reads it, or what is wrong with it.

    :raises NotJson:
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotJson("The body is not valid UTF-8.") from None
    if body.count(b",") + brackets > MAX_VALUES:
        raise NotJson("The body holds too many values.")
    try:
        values, _ = _read_members(text)
    except RecursionError:
        raise NotJson(f"The body is nested deeper than {MAX_NESTING} levels.") from None
    except NotJson:
        raise
    except ValueError:  # also an integer with more digits than Python reads
        raise NotJson("The body is not valid JSON.") from None
    return values


def _read_members(text: str) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    values: dict[str, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    position = _after_space(text, 0)
    if text[position : position + 1] != "{":
        _DECODER.decode(text)
        raise NotJson("The body must be a JSON object.")
    position = _after_space(text, position + 1)
    if text[position : position + 1] == "}":
        closing = position
    else:
        while True:
            name, position = _DECODER.raw_decode(text, position)
            if not isinstance(name, str):
                raise ValueError(name)
            position = _after_space(text, position)
            if text[position : position + 1] != ":":
                raise ValueError(position)
            start = _after_space(text, position + 1)
            value, end = _DECODER.raw_decode(text, start)
            if name in values:
                raise NotJson("The body gives a key twice.", name)
            values[name], spans[name] = value, (start, end)
            position = _after_space(text, end)
            separator = text[position : position + 1]
            if separator == "}":
                closing = position
                break
            if separator != ",":
                raise ValueError(position)
            position = _after_space(text, position + 1)
    if _after_space(text, closing + 1) != len(text):
        raise ValueError(closing)
    return values, spans


def _in_bytes(spans: dict[str, tuple[int, int]], text: str, size: int) -> dict[str, tuple[int, int]]:
    """Spans of characters as spans of bytes. The longest stretch between two of their ends, which may be
    nearly all of the text, is not copied: its bytes are those that the others leave of `size`."""
    ends = [0, *(end for span in spans.values() for end in span), len(text)]
    longest = max(range(1, len(ends)), key=lambda index: ends[index] - ends[index - 1])
    lengths = [
        0 if index == longest else len(text[ends[index - 1] : ends[index]].encode())
        for index in range(1, len(ends))
    ]
    lengths[longest - 1] = size - sum(lengths)
    in_bytes = list(itertools.accumulate(lengths))
    return dict(zip(spans, zip(in_bytes[0:-1:2], in_bytes[1::2], strict=True), strict=True))


def _after_space(text: str, position: int) -> int:
    if text[position : position + 1] not in SPACES:
        return position
    match = _WHITESPACE.match(text, position)
    return match.end() if match else position


def _object_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise NotJson("The body gives a key twice.")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise NotJson("The body holds a number that is out of range.")
    return number


def _refuse_constant(name: str) -> float:
    raise NotJson(f"The body holds {name}, which is not JSON.")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_once, parse_float=_finite, parse_constant=_refuse_constant
)


_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _start_of(change: tuple[int, int, Any]) -> int:
    return change[0]


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            child
            for container in layer
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return False
    return True


def _refuse_bad_characters(values: dict[str, Any]) -> None:
    for name, value in values.items():
        for text in _strings({name: value}):
            if "\0" in text:
                raise NotJson("The body holds a NUL character.", name)
            try:
                text.encode()
            except UnicodeEncodeError:
                raise NotJson("The body holds half of a surrogate pair.", name) from None


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, child in value.items():
            yield name
            yield from _strings(child)
    elif isinstance(value, list):
        for child in value:
            yield from _strings(child)
