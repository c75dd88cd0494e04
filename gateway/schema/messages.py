"""From the bytes of a request for an Anthropic message to a `MessagesRequest`, or to `InvalidRequest` with
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
from gateway.billing import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, TOKENS_PER_REPLY
from gateway.errors import InvalidRequest
from gateway.schema.base import (
    ModelRequest,
    check_integer,
    check_model_and_stream,
    parse_body,
    require,
    tokens_of_json,
    tokens_of_text,
)

TOOL_BLOCKS = ("tool_use", "tool_result")
TEXT_SOURCES = ("text", "content")


@dataclass(frozen=True)
class MessagesRequest(ModelRequest):
    """A message that a client asked for, or the count of its tokens, checked and ready to route."""

    api: ClassVar[Api] = Api.MESSAGES
    limit_names: ClassVar[tuple[str, ...]] = ("max_tokens",)

    @property
    def include_usage(self) -> bool:
        """True, since every message states its usage."""
        return True

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body.values["messages"]
        return messages

    @cached_property
    def user_texts(self) -> list[str]:
        """The texts of all `user` messages. What tools gave back is not the user's, although it comes in such
        messages."""
        return [
            block["text"]
            for message in self.messages
            if message["role"] == "user"
            for block in _blocks_of(message["content"])
            if block["type"] == "text"
        ]

    @cached_property
    def prompt_tokens(self) -> int:
        """The likely tokens of the whole prompt: all messages, the system prompt and the tools."""
        tokens = TOKENS_PER_REPLY + tokens_of_json(self.body.values.get("tools") or None)
        contents = [message["content"] for message in self.messages]
        if system := self.body.values.get("system"):
            contents.append(system)
        for content in contents:
            tokens += TOKENS_PER_MESSAGE + sum(map(_tokens_of, _all_blocks(content)))
        return tokens

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """What a model must be able to do: some of "images", "files", "tools", "json_schema" and
        "streaming"."""
        needed = {
            need
            for message in self.messages
            for block in _all_blocks(message["content"])
            if (need := _need_of(block)) is not None
        }
        values = self.body.values
        if values.get("tools"):
            needed.add("tools")
        if values.get("output_format") or _object(values.get("output_config")).get("format"):
            needed.add("json_schema")
        if self.stream:
            needed.add("streaming")
        return frozenset(needed)


def parse_messages_request(body: bytes) -> MessagesRequest:
    """
    :raises InvalidRequest: with the field at fault in `param`
    """
    parsed = parse_body(body)
    values = parsed.values
    require(parsed, "messages")
    _check_messages(values["messages"])
    check_model_and_stream(values)
    if values.get("system") is not None:
        _check_content("system", values["system"])
    _check_tools(values.get("tools"))
    check_integer(values, "max_tokens")
    return MessagesRequest(parsed)


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list):
        raise InvalidRequest("'messages' must be a list.", param="messages")
    if not messages:
        raise InvalidRequest("'messages' must hold at least one message.", param="messages")
    for index, message in enumerate(messages):
        at = f"messages[{index}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"'{at}' must be an object.", param=at)
        if not isinstance(message.get("role"), str):
            raise InvalidRequest(f"'{at}.role' must be a string.", param=f"{at}.role")
        if message.get("content") is None:
            raise InvalidRequest(f"'{at}.content' is missing.", param=f"{at}.content")
        _check_content(f"{at}.content", message["content"])


def _check_content(at: str, content: object) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"'{at}' must be a string or a list of blocks.", param=at)
    for index, block in enumerate(content):
        _check_block(f"{at}[{index}]", block)


def _check_block(at: str, block: object) -> None:
    if not isinstance(block, dict):
        raise InvalidRequest(f"'{at}' must be an object.", param=at)
    if not isinstance(block.get("type"), str):
        raise InvalidRequest(f"'{at}.type' must be a string.", param=f"{at}.type")
    if block["type"] == "text" and not isinstance(block.get("text"), str):
        raise InvalidRequest(f"'{at}.text' must be a string.", param=f"{at}.text")


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise InvalidRequest("'tools' must be a list.", param="tools")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise InvalidRequest(f"'tools[{index}]' must be an object.", param=f"tools[{index}]")


def _blocks_of(content: object) -> list[dict[str, Any]]:
    """A content as its blocks, a string as one block of text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _all_blocks(content: object) -> Iterator[dict[str, Any]]:
    """The blocks of a content and those within them, of which nothing has been checked."""
    for block in _blocks_of(content):
        yield block
        yield from _all_blocks(block.get("content"))
        yield from _all_blocks(_object(block.get("source")).get("content"))


def _tokens_of(block: Mapping[str, Any]) -> int:
    match block.get("type"):
        case "text":
            return tokens_of_text(block.get("text"))
        case "image":
            return TOKENS_PER_IMAGE
        case "tool_use":
            return tokens_of_text(block.get("name")) + tokens_of_json(block.get("input"))
        case "document":
            source = _object(block.get("source"))
            data = source.get("data") if source.get("type") == "text" else None
            return sum(map(tokens_of_text, (block.get("title"), block.get("context"), data)))
        case _:
            return 0


def _need_of(block: Mapping[str, Any]) -> str | None:
    kind = block.get("type")
    if kind == "image":
        return "images"
    if kind == "document" and _object(block.get("source")).get("type") not in TEXT_SOURCES:
        return "files"
    return "tools" if kind in TOOL_BLOCKS else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
