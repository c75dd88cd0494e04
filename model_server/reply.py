"""Answer -> the bytes of OpenAI's chat completion objects, whole or as server-sent events."""

import hashlib
import time
import uuid
from collections.abc import Iterator
from typing import Any

from model_server.completion import Answer, Choice, ToolCall, Usage
from model_server.delivery import Chunk, to_json
from model_server.tokens import count_text, split_text


def render(answer: Answer, states_usage: bool = True) -> bytes:
    """The answer as one `chat.completion` object."""
    head = _head(answer, "chat.completion")
    choices = [_choice(index, choice) for index, choice in enumerate(answer.choices)]
    tail = {"usage": openai_usage(answer.usage)} if states_usage else {}
    return to_json({**head, "choices": choices, **tail}).encode()


def render_chunks(answer: Answer, include_usage: bool) -> list[Chunk]:
    """The answer as `chat.completion.chunk` objects, piece by piece, choice after choice.

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
        chunks.append(Chunk(to_json({**head, "choices": [], "usage": openai_usage(answer.usage)}), 0))
    return chunks


def _head(answer: Answer, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": fingerprint(answer.model),
    }


def _choice(index: int, choice: Choice) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.tool_calls:
        message["content"] = None
        message["tool_calls"] = [_call(call, call.arguments) for call in choice.tool_calls]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}


def _call(call: ToolCall, arguments: str) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _delta(index: int, delta: dict[str, Any], finish_reason: str | None) -> dict[str, object]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _deltas(choice: Choice) -> Iterator[tuple[dict[str, Any], str | None, int]]:
    yield {"role": "assistant", "content": None if choice.tool_calls else ""}, None, 0
    for piece in split_text(choice.text):
        yield {"content": piece}, None, count_text(piece)
    for index, call in enumerate(choice.tool_calls):
        yield {"tool_calls": [{"index": index, **_call(call, "")}]}, None, count_text(call.name)
        for piece in split_text(call.arguments):
            delta = {"index": index, "function": {"arguments": piece}}
            yield {"tool_calls": [delta]}, None, count_text(piece)
    yield {}, choice.finish_reason, 0


def fingerprint(model: str) -> str:
    """What OpenAI calls the configuration that a model runs with."""
    return f"fp_{hashlib.sha256(model.encode()).hexdigest()[:10]}"


def openai_usage(usage: Usage) -> dict[str, object]:
    """The `usage` of a completion."""
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
