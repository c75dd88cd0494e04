"""From the bytes of a request to a `ChatRequest`, or to `InvalidRequest` with the field at fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from gateway.apis import Api
from gateway.billing import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, TOKENS_PER_REPLY
from gateway.errors import InvalidRequest
from gateway.schema.base import (
    ModelRequest,
    check_integer,
    check_model_and_stream,
    objects_of,
    parse_body,
    require,
    tokens_of_json,
    tokens_of_text,
)

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PART_NEEDS = {"image_url": "images", "input_audio": "audio", "file": "files"}


@dataclass(frozen=True)
class ChatRequest(ModelRequest):
    """A chat completion that a client asked for, checked and ready to route."""

    api: ClassVar[Api] = Api.CHAT_COMPLETIONS
    limit_names: ClassVar[tuple[str, ...]] = ("max_completion_tokens", "max_tokens")

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body.values["messages"]
        return messages

    @cached_property
    def user_texts(self) -> list[str]:
        """The texts of all `user` messages."""
        return [
            text
            for message in self.messages
            if message["role"] == "user"
            for text in texts_of(message.get("content"))
        ]

    @cached_property
    def prompt_tokens(self) -> int:
        """The likely tokens of all messages, whatever their role, and of the tools."""
        values = self.body.values
        tokens = TOKENS_PER_REPLY + tokens_of_json(values.get("tools"))
        tokens += tokens_of_json(values.get("functions"))
        for message in self.messages:
            tokens += TOKENS_PER_MESSAGE + sum(map(_tokens_of, _parts_of(message.get("content"))))
            for call in objects_of(message.get("tool_calls")):
                called = call.get("function")
                if isinstance(called, dict):
                    tokens += tokens_of_text(called.get("name")) + tokens_of_text(called.get("arguments"))
        return tokens

    @property
    def choices(self) -> int:
        return self.body.values.get("n") or 1

    @property
    def generated_choices(self) -> int:
        # `best_of` is none of OpenAI's here, but some servers take it.
        return max(self.choices, self.body.values.get("best_of") or 1)

    @cached_property
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


def parse_chat_request(body: bytes) -> ChatRequest:
    """
    :raises InvalidRequest: with the field at fault in `param`
    """
    parsed = parse_body(body)
    require(parsed, "messages")
    _check_messages(parsed.values["messages"])
    check_model_and_stream(parsed.values)
    for name in ("n", "best_of", *ChatRequest.limit_names):
        check_integer(parsed.values, name, least=1)
    return ChatRequest(parsed)


def texts_of(content: object) -> Iterator[str]:
    """The texts of a message's content, be it a string or a list of parts."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if part.get("type") == "text":
                yield part["text"]


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


def _parts_of(content: object) -> list[dict[str, Any]]:
    """A message's content as its parts, a string as one part of text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return objects_of(content)


def _tokens_of(part: Mapping[str, Any]) -> int:
    if part["type"] == "text":
        return tokens_of_text(part["text"])
    return TOKENS_PER_IMAGE if part["type"] == "image_url" else tokens_of_text(part.get("text"))
