"""Reads what providers answer, in the API that they were asked by: the usage that is stated, the characters
that were generated, and whether a stream has come to its end."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from gateway.apis import Api
from gateway.billing import Usage, usage_stated
from gateway.sse import Event

# The one field that every answer of an API has.
LISTED_IN = {
    Api.CHAT_COMPLETIONS: "choices",
    Api.COMPLETIONS: "choices",
    Api.EMBEDDINGS: "data",
    Api.MESSAGES: "content",
    Api.RESPONSES: "output",
}
GENERATED = frozenset({"content", "text", "refusal", "thinking", "partial_json"})
# A field of generated text in JSON of which the end may be missing, and what stands for one character in it.
GENERATED_TEXT = re.compile(
    r'"(?:content|text|refusal|thinking|reasoning_content|name|arguments)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)',
    re.DOTALL,
)
ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|.)", re.DOTALL)
# What a choice of a chunk has besides its content; nothing in it is generated.
SHELL = frozenset({"role", "index", "finish_reason", "native_finish_reason", "logprobs", "delta"})
RESPONSE_FAILED = "response.failed"
RESPONSE_ENDS = ("response.completed", "response.incomplete", RESPONSE_FAILED)


def is_answer(api: Api, values: Mapping[str, Any]) -> bool:
    """Whether these values are a whole answer of `api`."""
    return isinstance(values.get(LISTED_IN[api]), list)


def output_characters(api: Api, answer: Mapping[str, Any]) -> int:
    """Characters that were generated for a whole answer."""
    match api:
        case Api.CHAT_COMPLETIONS | Api.COMPLETIONS:
            return _characters_of_choices(answer.get("choices"))
        case Api.MESSAGES:
            return sum(map(_characters_of, _objects(answer.get("content"))))
        case Api.RESPONSES:
            return _length(text for item in _objects(answer.get("output")) for text in _texts_of_item(item))
        case Api.EMBEDDINGS:
            return 0


def characters_so_far(beginning: bytes) -> int:
    """Characters that were generated, as far as can be told, of a whole answer of which only the beginning
    came."""
    texts = GENERATED_TEXT.findall(beginning.decode(errors="replace"))
    return _length(ESCAPE.sub("_", text) for text in texts)


def message_of(refusal: object) -> str | None:
    """What a refusal says in none of the usual shapes, such as those of older servers and of frameworks."""
    if isinstance(refusal, list):
        said = [message_of(item) for item in refusal]
        return "; ".join(filter(None, said)) or None
    if isinstance(refusal, str):
        return refusal or None
    if isinstance(refusal, dict):
        for name in ("error", "message", "detail", "msg"):
            if (message := message_of(refusal.get(name))) is not None:
                return message
    return None


class StreamReader(ABC):
    """Follows one stream. `usage` is what has been stated so far, `characters` what has been generated;
    `begun` tells that something of the answer's content has come, characters or not, and `failed` that the
    provider has ended it as failed, by an event of the API's own."""

    usage: Usage | None = None
    characters = 0
    begun = False
    failed = False
    _characters_when_stated = 0

    @property
    def usage_is_stale(self) -> bool:
        """Whether more has been generated since the usage was stated."""
        return self.characters > self._characters_when_stated

    def _state(self, usage: Usage | None) -> None:
        if usage is not None:
            self.usage = usage
            # Some state no output with every chunk but the last.
            if usage.output_tokens or not self.characters:
                self._characters_when_stated = self.characters

    @abstractmethod
    def read(self, event: Event) -> None:
        """Take note of the next event.

        :raises UpstreamError: where the provider says that it failed
        """

    @abstractmethod
    def is_end(self, event: Event) -> bool:
        """Whether this event makes the answer whole, whatever follows."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether the answer is whole although no such event came."""


def stream_reader(api: Api, choices: int = 1) -> StreamReader:
    """A reader for a new stream of `api`, in which so many choices were asked for."""
    match api:
        case Api.MESSAGES:
            return MessageReader()
        case Api.RESPONSES:
            return ResponseReader()
        case _:
            return CompletionReader(choices)


class CompletionReader(StreamReader):
    """Of chat completions and of legacy ones: chunks, and `[DONE]`."""

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._begun: set[object] = set()
        self._finished: set[object] = set()

    def read(self, event: Event) -> None:
        if event.text is not None:  # to a choice that has begun before, by a chunk like this one
            self.characters += len(event.text)
            self.begun = self.begun or bool(event.text)
            return
        chunk = event.chunk
        if chunk is None:
            return
        for choice in _objects(chunk.get("choices")):
            self._read_choice(choice)
        if (usage := usage_stated(Api.CHAT_COMPLETIONS, chunk)) is not None:
            self._state(usage)

    def _read_choice(self, choice: dict[str, Any]) -> None:
        self.characters += _characters_of_choice(choice)
        index = choice.get("index", 0)
        index = index if isinstance(index, int) else 0
        self._begun.add(index)
        if not self.begun:
            content = _object(choice.get("delta")) or choice
            self.begun = any(value for name, value in content.items() if name not in SHELL)
        if reason := choice.get("finish_reason"):
            self._finished.add(index)
            # OpenRouter's word for an answer that its provider broke off.
            self.failed = self.failed or reason == "error"

    def is_end(self, event: Event) -> bool:
        return event.is_done and event.chunk is None

    @property
    def finished(self) -> bool:
        return len(self._finished) >= self._choices and not self._begun - self._finished


class MessageReader(StreamReader):
    """Of Anthropic's Messages: the usage comes in parts, those of the prompt first."""

    def __init__(self) -> None:
        self._stated: dict[str, Any] = {}
        self._stop_reason: object = None

    def read(self, event: Event) -> None:
        chunk = event.chunk or {}
        match chunk.get("type"):
            case "message_start":
                self._note_usage(_object(chunk.get("message")).get("usage"))
            case "message_delta":
                self._stop_reason = _object(chunk.get("delta")).get("stop_reason") or self._stop_reason
                self._note_usage(chunk.get("usage"))
            case "content_block_start":
                block = _object(chunk.get("content_block"))
                self.begun = self.begun or block.get("type") not in ("text", "thinking")
                self.characters += _characters_of(block)
            case "content_block_delta":
                self.begun = True
                self.characters += _characters_of(_object(chunk.get("delta")))

    def _note_usage(self, stated: object) -> None:
        for name, value in _object(stated).items():
            # Some repeat the prompt's figures as zeros at the end.
            if value is not None and (value or not self._stated.get(name)):
                self._stated[name] = value
        usage = usage_stated(Api.MESSAGES, {"usage": self._stated})
        if "output_tokens" in _object(stated):
            self._state(usage)
        else:
            self.usage = usage or self.usage

    def is_end(self, event: Event) -> bool:
        return event.chunk is not None and event.chunk.get("type") == "message_stop"

    @property
    def finished(self) -> bool:
        return self._stop_reason is not None


class ResponseReader(StreamReader):
    """Of OpenAI's Responses: the last event holds the whole answer with its usage."""

    def read(self, event: Event) -> None:
        chunk = event.chunk or {}
        kind = chunk.get("type")
        if "delta" in chunk:
            self.begun = True
        if isinstance(chunk.get("delta"), str):
            self.characters += len(chunk["delta"])
        elif kind == "response.output_item.added":
            self.begun = self.begun or _object(chunk.get("item")).get("type") not in ("message", "reasoning")
            self.characters += _length(_texts_of_item(_object(chunk.get("item"))))
        if kind in RESPONSE_ENDS:
            self._state(usage_stated(Api.RESPONSES, _object(chunk.get("response"))))
            self.failed = kind == RESPONSE_FAILED

    def is_end(self, event: Event) -> bool:
        return event.chunk is not None and event.chunk.get("type") in RESPONSE_ENDS

    @property
    def finished(self) -> bool:
        return False


def _characters_of_choices(choices: object) -> int:
    return sum(map(_characters_of_choice, _objects(choices)))


def _characters_of_choice(choice: Mapping[str, Any]) -> int:
    content = choice.get("delta") or choice.get("message") or choice
    return _characters_of(content) if isinstance(content, dict) else 0


def _characters_of(content: Mapping[str, Any]) -> int:
    """Those generated in a chat's message or delta, in a legacy choice, or in one of Anthropic's blocks."""
    total = 0
    for name, value in content.items():
        if name in GENERATED:
            total += len(value) if isinstance(value, str) else 0
        elif value and name not in SHELL and (name != "type" or value == "tool_use"):
            # Seldom, and in many a form.
            return _length(_texts_of(content))
    return total


def _texts_of(content: Mapping[str, Any]) -> Iterator[object]:
    """The generated texts of the same."""
    yield from (content.get(name) for name in GENERATED)
    yield content.get("reasoning_content") or content.get("reasoning")  # vLLM sends both
    for call in _objects(content.get("tool_calls")):
        for kind in ("function", "custom"):
            called = _object(call.get(kind))
            yield from (called.get("name"), called.get("arguments"), called.get("input"))
    if content.get("type") == "tool_use":
        yield content.get("name")
        if content.get("input"):
            with suppress(RecursionError):
                yield json.dumps(content["input"], ensure_ascii=False, separators=(",", ":"))


def _texts_of_item(item: Mapping[str, Any]) -> Iterator[object]:
    """The generated texts of an item of a Response."""
    yield from (item.get(name) for name in ("name", "arguments", "input"))
    for part in _objects(item.get("content")):
        yield from (part.get("text"), part.get("refusal"))


def _length(texts: Iterable[object]) -> int:
    return sum(len(text) for text in texts if isinstance(text, str))


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
