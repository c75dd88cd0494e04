"""From the bytes of a request to a `ChatRequest`, or to `InvalidRequest` with the field at fault.

Only what the gateway itself uses is checked; every other parameter is the provider's to judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gateway.errors import InvalidRequest
from gateway.jsontext import JsonObject, NotJson, parse_object

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
AUTO = "auto"


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion that a client asked for, checked and ready to route."""

    body: JsonObject

    @property
    def model(self) -> str:
        """The model that the client named, or `AUTO`."""
        model: str | None = self.body.values.get("model")
        return AUTO if model is None else model

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
    def prompt_texts(self) -> list[str]:
        """The text of each message, whatever its role."""
        return ["".join(texts_of(message.get("content"))) for message in self.messages]

    def body_for(self, upstream_name: str) -> bytes:
        """The body to send to a provider: byte for byte the client's but for the model's name and,
        on a stream, the wish for usage, without which no bill could be written."""
        changes: dict[str, Any] = {"model": upstream_name}
        if self.stream and not self.include_usage:
            options = self.body.values.get("stream_options") or {}
            changes["stream_options"] = options | {"include_usage": True}
        return self.body.with_values(changes)


def parse_chat_request(body: bytes) -> ChatRequest:
    """
    :raises InvalidRequest: with the field at fault in `param`
    """
    try:
        parsed = parse_object(body)
    except NotJson as error:
        raise InvalidRequest(str(error), param=error.param) from error
    values = parsed.values
    if "messages" not in values:
        raise InvalidRequest("Missing required parameter: 'messages'.", param="messages")
    _check_messages(values["messages"])
    _check_optional(values, "model", str, "a string")
    _check_optional(values, "stream", bool, "a boolean")
    _check_optional(values, "stream_options", dict, "an object")
    options = values.get("stream_options") or {}
    _check_optional(options, "include_usage", bool, "a boolean", "stream_options.include_usage")
    return ChatRequest(parsed)


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
