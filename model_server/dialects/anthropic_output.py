"""Answer -> the bytes of Anthropic's message, whole or as server-sent events."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

from model_server.completion import Answer, Choice, ToolCall, Usage
from model_server.delivery import Chunk, to_json
from model_server.tokens import count_text, split_text


def render_message(answer: Answer, states_usage: bool) -> bytes:
    """The answer as one `message`."""
    [choice] = answer.choices
    content: list[dict[str, object]] = [_text(choice.text)] if choice.text else []
    content += [_tool_use(call, _input_of(call)) for call in choice.tool_calls]
    usage = _whole_usage(answer.usage, answer.usage.output_tokens)
    return to_json(_message(answer, content, _stop_of(choice), usage if states_usage else None)).encode()


def render_events(answer: Answer, states_usage: bool) -> list[Chunk]:
    """The answer as events, piece by piece, up to the one that ends it."""
    return [
        Chunk(to_json({"type": kind, **fields}), tokens, kind)
        for kind, fields, tokens in _events(answer, states_usage)
    ]


def render_end() -> bytes:
    """The event that makes the answer whole."""
    return Chunk(to_json({"type": "message_stop"}), 0, "message_stop").event


def _events(answer: Answer, states_usage: bool) -> Iterator[tuple[str, dict[str, Any], int]]:
    [choice] = answer.choices
    start = _whole_usage(answer.usage, 0) if states_usage else None
    yield "message_start", {"message": _message(answer, [], _UNKNOWN_STOP, start)}, 0
    blocks = [_text("")] if choice.text else [_tool_use(call, {}) for call in choice.tool_calls]
    for index, block in enumerate(blocks):
        call = None if choice.text else choice.tool_calls[index]
        begun = {"index": index, "content_block": block}
        yield "content_block_start", begun, 0 if call is None else count_text(call.name)
        if not index:
            yield "ping", {}, 0
        for delta, tokens in _text_deltas(choice.text) if call is None else _input_deltas(call.arguments):
            yield "content_block_delta", {"index": index, "delta": delta}, tokens
        yield "content_block_stop", {"index": index}, 0
    tail = {"usage": _usage(answer.usage, answer.usage.output_tokens)} if states_usage else {}
    yield "message_delta", {"delta": _stop_of(choice), **tail}, 0


def _text_deltas(text: str) -> Iterator[tuple[dict[str, str], int]]:
    for piece in split_text(text):
        yield {"type": "text_delta", "text": piece}, count_text(piece)


def _input_deltas(arguments: str) -> Iterator[tuple[dict[str, str], int]]:
    # The first one is empty at Anthropic too.
    for piece in ["", *split_text(arguments)]:
        yield {"type": "input_json_delta", "partial_json": piece}, count_text(piece)


def _message(
    answer: Answer,
    content: list[dict[str, object]],
    stop: dict[str, str | None],
    usage: dict[str, object] | None,
) -> dict[str, object]:
    head: dict[str, object] = {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        **stop,
        "stop_details": None,
        "container": None,
    }
    return head if usage is None else {**head, "usage": usage}


_UNKNOWN_STOP: dict[str, str | None] = {"stop_reason": None, "stop_sequence": None}


def _stop_of(choice: Choice) -> dict[str, str | None]:
    if choice.finish_reason == "length":
        reason = "max_tokens"
    elif choice.finish_reason == "tool_calls":
        reason = "tool_use"
    else:
        reason = "end_turn" if choice.stop is None else "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": choice.stop}


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _tool_use(call: ToolCall, given: dict[str, object]) -> dict[str, object]:
    return {
        "type": "tool_use",
        "id": f"toolu_{call.digest}",
        "name": call.name,
        "input": given,
        "caller": {"type": "direct"},
    }


def _input_of(call: ToolCall) -> dict[str, object]:
    """The arguments as an object; an empty one where they were cut or are none."""
    try:
        value = json.loads(call.arguments)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _whole_usage(usage: Usage, output_tokens: int) -> dict[str, object]:
    return {
        **_usage(usage, output_tokens),
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }


def _usage(usage: Usage, output_tokens: int) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens - usage.cached_input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": output_tokens,
    }
