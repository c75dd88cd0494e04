"""From the bytes of a request to a `ChatRequest`, or to `InvalidRequest` with the field at fault.

Only what the gateway itself uses is checked; every other parameter is the provider's to judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

from gateway.apis import Api
from gateway.billing import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, TOKENS_PER_REPLY, estimated_tokens
from gateway.catalog import AUTO
from gateway.errors import InvalidRequest
from gateway.jsontext import JsonObject, NotJson, parse_object

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PART_NEEDS = {"image_url": "images", "input_audio": "audio", "file": "files"}


class ModelRequest(Protocol):
    """What the gateway has to know of a request in any API to route it, to pass it on and to bill it."""

    api: ClassVar[Api]

    @property
    def body(self) -> JsonObject: ...

    @property
    def model(self) -> str:
        """The model that the client named, or `AUTO`."""
        ...

    @property
    def stream(self) -> bool: ...

    @property
    def include_usage(self) -> bool:
        """Whether the client expects the usage in a stream."""
        ...

    @property
    def stored(self) -> bool:
        """Whether it refers to what only a provider that serves this API itself has kept."""
        ...

    @property
    def user_characters(self) -> int:
        """Unicode code points of the text that the user wrote."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """The likely tokens of the whole prompt."""
        ...

    @property
    def max_output_tokens(self) -> int | None:
        """The most tokens that the client wants, where it says so."""
        ...

    @property
    def capabilities(self) -> frozenset[str]:
        """What a model must be capable of to answer; the names are those of `models.toml`."""
        ...

    def body_for(self, upstream_name: str) -> bytes:
        """The body for a provider that serves this API: byte for byte the client's but for the model's name
        and what the bill needs."""
        ...


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion that a client asked for, checked and ready to route."""

    api: ClassVar[Api] = Api.CHAT_COMPLETIONS
    stored: ClassVar[bool] = False

    body: JsonObject

    @property
    def model(self) -> str:
        """The model that the client named, or `AUTO`."""
        return model_of(self.body)

    @property
    def stream(self) -> bool:
        return self.body.values.get("stream") is True

    @property
    def include_usage(self) -> bool:
        """Whether the client wants the usage chunk of a stream."""
        return (self.body.values.get("stream_options") or {}).get("include_usage") is True

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body.values["messages"]
        return messages

    @cached_property
    def user_characters(self) -> int:
        """Unicode code points of the text of all `user` messages."""
        return sum(
            len(text)
            for message in self.messages
            if message["role"] == "user"
            for text in texts_of(message.get("content"))
        )

    @property
    def prompt_tokens(self) -> int:
        """The likely tokens of all messages, whatever their role, and of the tools."""
        tokens = TOKENS_PER_REPLY + tokens_of_json(self.body.values.get("tools"))
        for message in self.messages:
            tokens += TOKENS_PER_MESSAGE + sum(map(_tokens_of, _parts_of(message.get("content"))))
            for call in _objects(message.get("tool_calls")):
                called = call.get("function")
                if isinstance(called, dict):
                    tokens += tokens_of_text(called.get("name")) + tokens_of_text(called.get("arguments"))
        return tokens

    @property
    def max_output_tokens(self) -> int | None:
        values = self.body.values
        return positive_integer(values.get("max_completion_tokens")) or positive_integer(
            values.get("max_tokens")
        )

    @property
    def capabilities(self) -> frozenset[str]:
        values = self.body.values
        needed = {
            PART_NEEDS[part["type"]]
            for message in self.messages
            for part in _parts_of(message.get("content"))
            if part["type"] in PART_NEEDS
        }
        if values.get("tools") or values.get("functions"):
            needed.add("tools")
        if isinstance(values.get("modalities"), list) and "audio" in values["modalities"]:
            needed.add("audio")
        format = values.get("response_format")
        if isinstance(format, dict) and format.get("type") == "json_schema":
            needed.add("json_schema")
        if self.stream:
            needed.add("streaming")
        return frozenset(needed)

    def body_for(self, upstream_name: str) -> bytes:
        """The body to send to a provider: byte for byte the client's but for the model's name and,
        on a stream, the wish for usage, without which no bill could be written."""
        return self.body.with_values({"model": upstream_name} | wish_for_usage(self))


def parse_chat_request(body: bytes) -> ChatRequest:
    """
    :raises InvalidRequest: with the field at fault in `param`
    """
    parsed = parse_body(body)
    require(parsed, "messages")
    _check_messages(parsed.values["messages"])
    check_model_and_stream(parsed.values)
    return ChatRequest(parsed)


def parse_body(body: bytes) -> JsonObject:
    """
    :raises InvalidRequest: for what is no JSON object, or one that programs read differently
    """
    try:
        return parse_object(body)
    except NotJson as error:
        raise InvalidRequest(str(error), param=error.param) from error


def require(body: JsonObject, name: str) -> None:
    """
    :raises InvalidRequest: where the body does not have the field
    """
    if name not in body.values:
        raise InvalidRequest(f"Missing required parameter: '{name}'.", param=name)


def check_model_and_stream(values: Mapping[str, Any]) -> None:
    """
    :raises InvalidRequest: where the fields that choose a model and a stream are ill-typed
    """
    _check_optional(values, "model", str, "a string")
    _check_optional(values, "stream", bool, "a boolean")
    _check_optional(values, "stream_options", dict, "an object")
    options = values.get("stream_options") or {}
    _check_optional(options, "include_usage", bool, "a boolean", "stream_options.include_usage")


def model_of(body: JsonObject) -> str:
    """The model that the client named, or `AUTO`."""
    model: str | None = body.values.get("model")
    return AUTO if model is None else model


def wish_for_usage(request: ModelRequest) -> dict[str, Any]:
    """What must change in the body of a stream so that its provider states the usage at its end."""
    if not request.stream or request.include_usage:
        return {}
    return {"stream_options": (request.body.values.get("stream_options") or {}) | {"include_usage": True}}


def tokens_of_json(value: object) -> int:
    """The likely tokens of a JSON value, written compactly; none where there is no value."""
    if value is None:
        return 0
    return estimated_tokens(len(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))


def tokens_of_text(text: object) -> int:
    """The likely tokens of a text; none where it is no text."""
    return estimated_tokens(len(text)) if isinstance(text, str) else 0


def positive_integer(value: object) -> int | None:
    """A positive integer as it is, and None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return None


def _parts_of(content: object) -> list[dict[str, Any]]:
    """A message's content as its parts, a string as one part of text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return _objects(content)


def _tokens_of(part: Mapping[str, Any]) -> int:
    if part["type"] == "text":
        return tokens_of_text(part["text"])
    return TOKENS_PER_IMAGE if part["type"] == "image_url" else tokens_of_text(part.get("text"))


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts_of(content: object) -> Iterator[str]:
    """The texts of a message's content, be it a string or a list of parts."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if part.get("type") == "text":
                yield part["text"]


def _check_optional(
    values: Mapping[str, Any], name: str, wanted: type, called: str, param: str | None = None
) -> None:
    value = values.get(name)
    if value is not None and not isinstance(value, wanted):
        raise InvalidRequest(f"'{param or name}' must be {called}.", param=param or name)


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list):
        raise InvalidRequest("'messages' must be a list.", param="messages")
    if not messages:
        raise InvalidRequest("'messages' must hold at least one message.", param="messages")
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message)


def _check_message(at: str, message: object) -> None:
    if not isinstance(message, dict):
        raise InvalidRequest(f"'{at}' must be an object.", param=at)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(f"'{at}.role' must be one of: {', '.join(ROLES)}.", param=f"{at}.role")
    content = message.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            _check_part(f"{at}.content[{index}]", part)
    elif content is None:
        # What an assistant did may lie in its tool calls alone.
        if role != "assistant":
            raise InvalidRequest(f"'{at}.content' is missing.", param=f"{at}.content")
    elif not isinstance(content, str):
        raise InvalidRequest(f"'{at}.content' must be a string or a list of parts.", param=f"{at}.content")


def _check_part(at: str, part: object) -> None:
    if not isinstance(part, dict):
        raise InvalidRequest(f"'{at}' must be an object.", param=at)
    if not isinstance(part.get("type"), str):
        raise InvalidRequest(f"'{at}.type' must be a string.", param=f"{at}.type")
    if part["type"] == "text" and not isinstance(part.get("text"), str):
        raise InvalidRequest(f"'{at}.text' must be a string.", param=f"{at}.text")
