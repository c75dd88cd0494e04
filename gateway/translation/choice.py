"""Reads a chat completion or a chunk of one, sloppy as providers may be; only its first choice counts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.errors import UpstreamError

STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}


@dataclass
class Ending:
    """Why an answer ended, as far as it has been told."""

    finish_reason: str = ""
    matched: str = ""
    refused: bool = False
    called: bool = False

    def note(self, choice: dict[str, Any]) -> None:
        self.finish_reason = string_of(choice.get("finish_reason")) or self.finish_reason
        # The stop sequence that was met, as vLLM and as SGLang call it; a number is a token of the model's.
        for name in ("stop_reason", "matched_stop"):
            if isinstance(choice.get(name), str):
                self.matched = choice[name]

    def fields(self) -> dict[str, Any]:
        """`stop_reason` and `stop_sequence`. A forced tool call ends with `stop` at OpenAI; what calls no
        tool must not claim to wait for one."""
        if self.refused:
            reason = "refusal"
        elif self.finish_reason in STOP_REASONS:
            reason = STOP_REASONS[self.finish_reason]
        elif self.called:
            reason = "tool_use"
        elif self.finish_reason == "stop" and self.matched:
            return {"stop_reason": "stop_sequence", "stop_sequence": self.matched}
        else:
            reason = "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}


def first_choice(answer: dict[str, Any]) -> dict[str, Any] | None:
    """The choice that counts, or None where there is none, as in a chunk with the usage alone."""
    for choice in _objects(answer.get("choices")):
        if choice.get("index") in (None, 0):
            return choice
    return None


def calls_of(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The tool calls of a message or delta, or its legacy function call as one where it has no others."""
    calls = _objects(message.get("tool_calls"))
    yield from calls
    legacy = message.get("function_call")
    if legacy and not calls:
        yield {"function": legacy}


def function_of(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if function is None:
        return {}
    if not isinstance(function, dict):
        raise unreadable()
    return function


def arguments_text(arguments: object) -> str:
    """The arguments of a call as the JSON that they should be; some providers give the object itself."""
    if isinstance(arguments, dict):
        try:
            return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
        except RecursionError:
            raise unreadable() from None
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    raise unreadable()


def text_of(content: object) -> str:
    """The text of a content, which Mistral gives in parts where a model thinks."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise unreadable()
    texts = [part for part in content if isinstance(part, dict) and part.get("type", "text") == "text"]
    return "".join(string_of(part.get("text")) for part in texts)


def string_of(value: object) -> str:
    return value if isinstance(value, str) else ""


def unreadable() -> UpstreamError:
    return UpstreamError("The provider's answer cannot be read as a completion.")


def arguments_of(text: str) -> dict[str, Any] | None:
    """The JSON object that a call's arguments are, or None where they are none."""
    try:
        # Models put raw line breaks into strings.
        values = json.loads(text, strict=False, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list, none where it is null."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise unreadable()
    return value


def _refuse(name: str) -> float:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number
