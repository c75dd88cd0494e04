"""Answer -> the bytes of OpenAI's response objects, whole or as server-sent events."""

import hashlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from model_server.completion import Answer, Choice, ToolCall, Usage
from model_server.tokens import count_text, split_text

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Chunk:
    """One event of a stream: its JSON, and the output tokens that it carries."""

    data: str
    tokens: int

    @property
    def event(self) -> bytes:
        """The chunk as a server-sent event."""
        return f"data: {self.data}\n\n".encode()


def to_json(value: object) -> str:
    """A value as JSON text, characters left as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def render(answer: Answer) -> bytes:
    """The answer as one `chat.completion` object."""
    head = _head(answer, "chat.completion")
    choices = [_choice(index, choice) for index, choice in enumerate(answer.choices)]
    return to_json({**head, "choices": choices, "usage": _usage(answer.usage)}).encode()


def render_chunks(answer: Answer, include_usage: bool) -> list[Chunk]:
    """The answer as `chat.completion.chunk` objects, one token each, choice after choice.

    With `include_usage` the last chunk carries the usage and no choice, and every other a null usage.
    """
    head = _head(answer, "chat.completion.chunk")
    tail: dict[str, object] = {"usage": None} if include_usage else {}
    chunks = [
        Chunk(to_json({**head, "choices": [_delta(index, delta, reason)], **tail}), tokens)
        for index, choice in enumerate(answer.choices)
        for delta, reason, tokens in _deltas(choice)
    ]
    if include_usage:
        chunks.append(Chunk(to_json({**head, "choices": [], "usage": _usage(answer.usage)}), 0))
    return chunks


def _head(answer: Answer, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": f"fp_{hashlib.sha256(answer.model.encode()).hexdigest()[:10]}",
    }


def _choice(index: int, choice: Choice) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.tool_call is not None:
        message["content"] = None
        message["tool_calls"] = [_call(choice.tool_call, choice.tool_call.arguments)]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}


def _call(call: ToolCall, arguments: str) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _delta(index: int, delta: dict[str, Any], finish_reason: str | None) -> dict[str, object]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _deltas(choice: Choice) -> Iterator[tuple[dict[str, Any], str | None, int]]:
    call = choice.tool_call
    if call is None:
        yield {"role": "assistant", "content": ""}, None, 0
        for piece in split_text(choice.text):
            yield {"content": piece}, None, count_text(piece)
    else:
        yield {"role": "assistant", "content": None}, None, 0
        yield {"tool_calls": [{"index": 0, **_call(call, "")}]}, None, count_text(call.name)
        for piece in split_text(call.arguments):
            yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None, count_text(piece)
    yield {}, choice.finish_reason, 0


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
