"""From the bytes of a request for an OpenAI response to a `ResponsesRequest`, or to `InvalidRequest` with
the field at fault.

Only what the gateway itself uses is checked; every other parameter is the provider's to judge, or the
translation's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from gateway.apis import Api
from gateway.billing import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, TOKENS_PER_REPLY, estimated_tokens
from gateway.errors import InvalidRequest
from gateway.schema.base import (
    ModelRequest,
    check_integer,
    check_model_and_stream,
    check_optional,
    parse_body,
    tokens_of_json,
)

TEXT_PARTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
# The texts of an item beside `content`, each of which may also be a list of parts.
ITEM_TEXTS = {
    "function_call": ("name", "arguments"),
    "function_call_output": ("output",),
    "custom_tool_call": ("name", "input"),
    "custom_tool_call_output": ("output",),
}
PART_CAPABILITIES = {"input_image": "images", "input_audio": "audio", "input_file": "files"}


@dataclass(frozen=True)
class ResponsesRequest(ModelRequest):
    """A response that a client asked for, checked and ready to route."""

    api: ClassVar[Api] = Api.RESPONSES
    limit_names: ClassVar[tuple[str, ...]] = ("max_output_tokens",)

    @property
    def include_usage(self) -> bool:
        """True, since every response states its usage."""
        return True

    @cached_property
    def user_texts(self) -> list[str]:
        """The texts of all items of the role `user`."""
        return [text for item in self._items if item.get("role") == "user" for text in _texts_of(item)]

    @cached_property
    def prompt_tokens(self) -> int:
        """The likely tokens of the prompt, counted from its characters."""
        lengths = [sum(map(len, _texts_of(item))) for item in self._items]
        if instructions := self.body.values.get("instructions"):
            lengths.append(len(instructions))
        tokens = sum(TOKENS_PER_MESSAGE + estimated_tokens(length) for length in lengths)
        images = len([part for part in self._parts if part["type"] == "input_image"])
        tools = tokens_of_json(self.body.values.get("tools") or None)
        return tokens + TOKENS_PER_IMAGE * images + tools + TOKENS_PER_REPLY

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """What a model must be able to do: some of "images", "audio", "files", "tools", "json_schema"
        and "streaming"."""
        needed = {
            PART_CAPABILITIES[part["type"]] for part in self._parts if part["type"] in PART_CAPABILITIES
        }
        if self.body.values.get("tools") or any(item.get("type") in ITEM_TEXTS for item in self._items):
            needed.add("tools")
        if _format_type(self.body.values.get("text")) == "json_schema":
            needed.add("json_schema")
        if self.stream:
            needed.add("streaming")
        return frozenset(needed)

    @cached_property
    def stored(self) -> bool:
        """Whether it refers to what a provider keeps, so that only one that serves responses itself can
        answer."""
        values = self.body.values
        named = ("previous_response_id", "conversation", "prompt")
        return any(values.get(name) is not None for name in named) or any(
            _is_reference(item) for item in self._items
        )

    @property
    def _items(self) -> list[dict[str, Any]]:
        given: str | list[dict[str, Any]] | None = self.body.values.get("input")
        if isinstance(given, str):
            return [{"role": "user", "content": given}]
        return given or []

    @property
    def _parts(self) -> Iterator[dict[str, Any]]:
        for item in self._items:
            for name in _text_names(item):
                if isinstance(item.get(name), list):
                    yield from item[name]


def parse_responses_request(body: bytes) -> ResponsesRequest:
    """
    :raises InvalidRequest: with the field at fault in `param`
    """
    parsed = parse_body(body)
    values = parsed.values
    _check_input(values)
    check_model_and_stream(values)
    check_optional(values, "instructions", str, "a string")
    check_integer(values, "max_output_tokens")
    check_optional(values, "tools", list, "a list")
    if values.get("background") is True:
        raise InvalidRequest(
            "'background' is not supported: an answer that nobody waits for cannot be billed.",
            param="background",
        )
    for index, tool in enumerate(values.get("tools") or ()):
        if not isinstance(tool, dict):
            raise InvalidRequest(f"'tools[{index}]' must be an object.", param=f"tools[{index}]")
    return ResponsesRequest(parsed)


def _check_input(values: Mapping[str, Any]) -> None:
    given = values.get("input")
    if given is None:
        if values.get("prompt") is None and values.get("previous_response_id") is None:
            raise InvalidRequest("Missing required parameter: 'input'.", param="input")
    elif isinstance(given, list):
        for index, item in enumerate(given):
            _check_item(f"input[{index}]", item)
    elif not isinstance(given, str):
        raise InvalidRequest("'input' must be a string or a list of items.", param="input")


def _check_item(at: str, item: object) -> None:
    if not isinstance(item, dict):
        raise InvalidRequest(f"'{at}' must be an object.", param=at)
    check_optional(item, "type", str, "a string", f"{at}.type")
    check_optional(item, "role", str, "a string", f"{at}.role")
    for name in _text_names(item):
        value = item.get(name)
        if isinstance(value, list):
            for index, part in enumerate(value):
                _check_part(f"{at}.{name}[{index}]", part)
        elif value is not None and not isinstance(value, str):
            raise InvalidRequest(f"'{at}.{name}' must be a string or a list of parts.", param=f"{at}.{name}")


def _check_part(at: str, part: object) -> None:
    if not isinstance(part, dict):
        raise InvalidRequest(f"'{at}' must be an object.", param=at)
    kind = part.get("type")
    if not isinstance(kind, str):
        raise InvalidRequest(f"'{at}.type' must be a string.", param=f"{at}.type")
    name = TEXT_PARTS.get(kind)
    if name is not None and not isinstance(part.get(name), str):
        raise InvalidRequest(f"'{at}.{name}' must be a string.", param=f"{at}.{name}")


def _text_names(item: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of an item that hold text or parts; of types unknown here none is looked into."""
    kind = item.get("type")
    if kind is None or kind == "message":
        return ("content",)
    return ITEM_TEXTS.get(kind, ())


def _texts_of(item: Mapping[str, Any]) -> Iterator[str]:
    for name in _text_names(item):
        value = item.get(name)
        if isinstance(value, str):
            yield value
        for part in value if isinstance(value, list) else ():
            if part["type"] in TEXT_PARTS:
                yield part[TEXT_PARTS[part["type"]]]


def _format_type(text: object) -> object:
    form = text.get("format") if isinstance(text, dict) else None
    return form.get("type") if isinstance(form, dict) else None


def _is_reference(item: Mapping[str, Any]) -> bool:
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "role" not in item and "id" in item)
