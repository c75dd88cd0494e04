"""What a provider's chat completion or chunk says, whichever way it says it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.translation.calls import CallPiece, call_pieces
from gateway.translation.choice import first_choice, string_of, text_of, unreadable


@dataclass(frozen=True)
class Said:
    """What a message or a delta adds to the answer."""

    text: str = ""
    refusal: str = ""
    calls: tuple[CallPiece, ...] = ()
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str = ""


def said_in_completion(completion: dict[str, Any]) -> Said:
    """
    :raises UpstreamError: where there is no message, or a call of nothing
    """
    choice = first_choice(completion)
    message = None if choice is None else choice.get("message")
    if choice is None or not isinstance(message, dict):
        raise unreadable()
    # Each call stands for itself, whatever their numbers and ids are.
    calls = tuple(replace(call, index=index) for index, call in enumerate(call_pieces(message)))
    if not all(call.name for call in calls):
        raise unreadable()
    return _said(choice, message, calls)


def said_in_chunk(chunk: dict[str, Any]) -> Said:
    """
    :raises UpstreamError: for what is no chunk
    """
    choice = first_choice(chunk)
    if choice is None:
        return Said()
    delta = _object(choice.get("delta"))
    return _said(choice, delta, call_pieces(delta))


def _said(choice: dict[str, Any], message: dict[str, Any], calls: tuple[CallPiece, ...]) -> Said:
    text, refusal = text_of(message.get("content")), text_of(message.get("refusal"))
    logprobs, finish_reason = list(_logprobs(choice.get("logprobs"))), string_of(choice.get("finish_reason"))
    return Said(text, refusal, calls, logprobs, finish_reason)


def _logprobs(logprobs: object) -> Iterator[dict[str, Any]]:
    """The tokens of the text; those that say nothing a client could use are left out."""
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if (token := _token(entry)) is not None:
            others = entry.get("top_logprobs")
            tokens = map(_token, others if isinstance(others, list) else ())
            yield {**token, "top_logprobs": [other for other in tokens if other is not None]}


def _token(entry: object) -> dict[str, Any] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        return None
    logprob, encoded = entry.get("logprob"), entry.get("bytes")
    if isinstance(logprob, bool) or not isinstance(logprob, int | float) or not math.isfinite(logprob):
        return None
    # A list must be there; null says that the token has no bytes of its own.
    return {"token": entry["token"], "bytes": encoded if _is_bytes(encoded) else [], "logprob": logprob}


def _is_bytes(value: object) -> bool:
    return isinstance(value, list) and all(type(byte) is int and 0 <= byte <= 255 for byte in value)


def _object(value: object) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise unreadable()
    return value or {}
