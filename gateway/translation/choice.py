"""Reads a chat completion or a chunk of one, sloppy as providers may be; only its first choice counts."""

from __future__ import annotations

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

    @property
    def is_cut(self) -> bool:
        """Whether the answer stopped before its end, by the limit or by a filter."""
        return self.finish_reason in STOP_REASONS

    def fields(self) -> dict[str, Any]:
        """`stop_reason` and `stop_sequence`. A forced tool call ends with `stop` at OpenAI; what calls no
        tool must not claim to wait for one."""
        if self.refused:
            reason = "refusal"
        elif self.is_cut:
            reason = STOP_REASONS[self.finish_reason]
        elif self.called:
            reason = "tool_use"
        elif self.finish_reason == "stop" and self.matched:
            return {"stop_reason": "stop_sequence", "stop_sequence": self.matched}
        else:
            reason = "end_turn"
        return {"stop_reason": reason, "stop_sequence": None}


def first_choice(answer: dict[str, Any]) -> dict[str, Any] | None:
    """The choice that counts, or None where there is none, as in a chunk with the usage alone.

    :raises UpstreamError: for what holds no choices, and where the choice tells that it broke off
    """
    for choice in objects_of(answer.get("choices")):
        if choice.get("index") in (None, 0):
            if _is_broken(choice):
                raise UpstreamError("The provider broke off its answer.")
            return choice
    return None


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


def objects_of(value: object) -> list[dict[str, Any]]:
    """The objects of a list, none where it is null."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise unreadable()
    return value


def _is_broken(choice: dict[str, Any]) -> bool:
    """Whether the provider says, in one of OpenRouter's ways, that it could not go on."""
    error = choice.get("error")
    return choice.get("finish_reason") == "error" or (isinstance(error, dict) and bool(error))
