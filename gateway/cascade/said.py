"""What a whole answer says, whichever API it is in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gateway.apis import Api
from gateway.schema.base import objects_of

CUT = {"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"}
FILTERED = {"content_filter", "refusal"}
REASONING = {"reasoning", "thinking", "redacted_thinking"}


@dataclass(frozen=True)
class ToolCall:
    """`arguments` are the text of a JSON value; None for a tool that takes no JSON."""

    name: str
    arguments: str | None


@dataclass(frozen=True)
class Said:
    """One answer. `is_cut` means at a limit of tokens, `refuses` that the provider says so itself; `has_more`
    that there is content besides text and calls, such as audio. `log_probabilities` are those of its tokens,
    none where the provider gave none."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    is_cut: bool = False
    refuses: bool = False
    has_more: bool = False
    log_probabilities: tuple[float, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.text.strip() or self.calls or self.has_more)


def said_in(api: Api, values: Mapping[str, Any]) -> list[Said]:
    """What each choice of a whole answer of `api` says. Reasoning is no part of it."""
    match api:
        case Api.CHAT_COMPLETIONS:
            return [_said_in_chat(choice) for choice in objects_of(values.get("choices"))]
        case Api.COMPLETIONS:
            return [
                Said(_text(choice.get("text")), is_cut=choice.get("finish_reason") in CUT)
                for choice in objects_of(values.get("choices"))
            ]
        case Api.MESSAGES:
            return [_said_in_message(values)]
        case Api.RESPONSES:
            return [_said_in_response(values)]
        case Api.EMBEDDINGS:
            return []


def _said_in_chat(choice: Mapping[str, Any]) -> Said:
    message = _object(choice.get("message"))
    finish = choice.get("finish_reason")
    content = message.get("content")
    parts = objects_of(content)
    text = content if isinstance(content, str) else "".join(_text(part.get("text")) for part in parts)
    calls = []
    for call in objects_of(message.get("tool_calls")):
        custom = call.get("custom")
        if isinstance(custom, dict):
            calls.append(ToolCall(_text(custom.get("name")), None))
        else:
            calls.append(_function_called(_object(call.get("function"))))
    if isinstance(legacy := message.get("function_call"), dict):
        calls.append(_function_called(legacy))
    return Said(
        text=text,
        calls=tuple(calls),
        is_cut=finish in CUT,
        refuses=bool(message.get("refusal")) or finish in FILTERED,
        has_more=bool(message.get("audio")) or any(part.get("type") != "text" for part in parts),
        log_probabilities=tuple(_log_probabilities(_object(choice.get("logprobs")).get("content"))),
    )


def _said_in_message(values: Mapping[str, Any]) -> Said:
    texts, calls, has_more = [], [], False
    for block in objects_of(values.get("content")):
        kind = block.get("type")
        if kind == "text":
            texts.append(_text(block.get("text")))
        elif kind == "tool_use":
            calls.append(ToolCall(_text(block.get("name")), _written(block.get("input"))))
        elif kind not in REASONING:
            has_more = True
    reason = values.get("stop_reason")
    return Said("".join(texts), tuple(calls), reason in CUT, reason in FILTERED, has_more)


def _said_in_response(values: Mapping[str, Any]) -> Said:
    texts, calls, log_probabilities, refuses, has_more = [], [], list[float](), False, False
    for item in objects_of(values.get("output")):
        kind = item.get("type")
        if kind == "message":
            for part in objects_of(item.get("content")):
                refuses = refuses or bool(part.get("refusal"))
                texts.append(_text(part.get("text")))
                log_probabilities += _log_probabilities(part.get("logprobs"))
        elif kind == "function_call":
            calls.append(_function_called(item))
        elif kind == "custom_tool_call":
            calls.append(ToolCall(_text(item.get("name")), None))
        elif kind not in REASONING:
            has_more = True
    reason = _object(values.get("incomplete_details")).get("reason")
    return Said(
        "".join(texts),
        tuple(calls),
        reason in CUT,
        refuses or reason in FILTERED,
        has_more,
        tuple(log_probabilities),
    )


def _function_called(function: Mapping[str, Any]) -> ToolCall:
    return ToolCall(_text(function.get("name")), _text(function.get("arguments")))


def _written(value: object) -> str:
    """A value that was read as JSON, as its text again; none where it is nested too deeply."""
    with suppress(RecursionError):
        return json.dumps(value)
    return ""


def _log_probabilities(tokens: object) -> Iterator[float]:
    for token in objects_of(tokens):
        value = token.get("logprob")
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield float(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
