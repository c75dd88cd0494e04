"""The shortest good answers of each API, whole and streamed, as a provider would send them."""

from __future__ import annotations

import json
from typing import Any

CHAT_USAGE = {"prompt_tokens": 14, "completion_tokens": 2, "total_tokens": 16}
NATIVE_USAGE = {"input_tokens": 14, "output_tokens": 2}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "echo"}
RESPONSE = {"id": "resp_1", "object": "response", "created_at": 1, "model": "echo", "error": None}
OUTPUT = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Paris.", "annotations": []}],
}
WHOLE: dict[str, dict[str, Any]] = {
    "chat/completions": {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris."},
                "finish_reason": "stop",
            }
        ],
        "usage": CHAT_USAGE,
    },
    "completions": {
        "choices": [{"index": 0, "text": "Paris.", "finish_reason": "stop"}],
        "usage": CHAT_USAGE,
    },
    "embeddings": {
        "object": "list",
        "data": [{"index": 0, "embedding": [1.0]}],
        "usage": {"prompt_tokens": 14, "total_tokens": 14},
    },
    "messages": {
        **MESSAGE,
        "content": [{"type": "text", "text": "Paris."}],
        "stop_reason": "end_turn",
        "usage": NATIVE_USAGE,
    },
    "messages/count_tokens": {"input_tokens": 14},
    "responses": {**RESPONSE, "status": "completed", "output": [OUTPUT], "usage": NATIVE_USAGE},
}
STREAMED: dict[str, list[dict[str, Any]]] = {
    "chat/completions": [
        {"choices": [{"index": 0, "delta": {"content": "Paris."}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": CHAT_USAGE},
    ],
    "completions": [
        {"choices": [{"index": 0, "text": "Paris.", "finish_reason": "stop"}]},
        {"choices": [], "usage": CHAT_USAGE},
    ],
    "messages": [
        {"type": "message_start", "message": {**MESSAGE, "content": [], "usage": NATIVE_USAGE}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Paris."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ],
    "responses": [
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "output": []}},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "Paris."},
        {
            "type": "response.completed",
            "sequence_number": 2,
            "response": WHOLE["responses"],
        },
    ],
}


def whole_answer(api: str) -> bytes:
    """The body of an answer; `api` is its path behind `/v1/`."""
    return json.dumps(WHOLE[api]).encode()


def stream_of(api: str) -> bytes:
    """All events of an answer."""
    events = STREAMED[api]
    end = b"" if "type" in events[0] else b"data: [DONE]\n\n"
    return b"".join(map(_event, events)) + end


def _event(values: dict[str, Any]) -> bytes:
    head = f"event: {values['type']}\n" if "type" in values else ""
    return f"{head}data: {json.dumps(values)}\n\n".encode()
