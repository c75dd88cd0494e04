"""Answer -> the bytes of OpenAI's response, whole or as server-sent events."""

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from model_server.completion import Answer, ToolCall, Usage
from model_server.delivery import Chunk, to_json
from model_server.fields import Json
from model_server.tokens import count_text, split_text

Item = dict[str, Any]


class ResponseWriter:
    """Writes one answer under the id `id`; `echoed` are the fields of the request that it repeats."""

    def __init__(self, id: str, echoed: Mapping[str, Json], answer: Answer, states_usage: bool) -> None:
        self.id = id
        self._echoed = echoed
        self._answer = answer
        self._states_usage = states_usage
        [self._choice] = answer.choices
        self._created = int(time.time())
        self._items = self._output()

    @property
    def _status(self) -> str:
        return "incomplete" if self._choice.finish_reason == "length" else "completed"

    def render(self) -> bytes:
        """The answer as one `response`."""
        return to_json(self._finished()).encode()

    def render_events(self) -> list[Chunk]:
        """The answer as events, piece by piece; the last one makes it whole."""
        return [
            Chunk(to_json({"type": kind, "sequence_number": number, **fields}), tokens, kind)
            for number, (kind, fields, tokens) in enumerate(self._events())
        ]

    def _events(self) -> Iterator[tuple[str, dict[str, Any], int]]:
        begun = self._response("in_progress", [])
        yield "response.created", {"response": begun}, 0
        yield "response.in_progress", {"response": begun}, 0
        if not self._choice.tool_calls:
            yield from self._message_events()
        for index, call in enumerate(self._choice.tool_calls):
            yield from self._call_events(index, call)
        yield f"response.{self._status}", {"response": self._finished()}, 0

    def _message_events(self) -> Iterator[tuple[str, dict[str, Any], int]]:
        text, [whole] = self._choice.text, self._items
        at = {"item_id": whole["id"], "output_index": 0, "content_index": 0}
        yield _added(0, {**whole, "status": "in_progress", "content": []})
        yield "response.content_part.added", {**at, "part": _part("")}, 0
        for piece in split_text(text):
            yield "response.output_text.delta", {**at, "delta": piece, "logprobs": []}, count_text(piece)
        yield "response.output_text.done", {**at, "text": text, "logprobs": []}, 0
        yield "response.content_part.done", {**at, "part": _part(text)}, 0
        yield _done(0, whole)

    def _call_events(self, index: int, call: ToolCall) -> Iterator[tuple[str, dict[str, Any], int]]:
        whole = self._items[index]
        at = {"item_id": whole["id"], "output_index": index}
        yield _added(index, {**whole, "status": "in_progress", "arguments": ""}, count_text(call.name))
        for piece in split_text(call.arguments):
            yield "response.function_call_arguments.delta", {**at, "delta": piece}, count_text(piece)
        yield "response.function_call_arguments.done", {**at, "arguments": call.arguments}, 0
        yield _done(index, whole)

    def _finished(self) -> dict[str, Any]:
        return self._response(self._status, self._items)

    def _response(self, status: str, output: list[Item]) -> dict[str, Any]:
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        response = {
            "id": self.id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": None,
            "incomplete_details": incomplete,
            "max_tool_calls": None,
            "model": self._answer.model,
            "output": output,
            "service_tier": "default",
            "top_logprobs": 0,
            **self._echoed,
        }
        if self._states_usage:
            response["usage"] = None if status == "in_progress" else _usage(self._answer.usage)
        return response

    def _output(self) -> list[Item]:
        calls = self._choice.tool_calls
        if not calls:
            return [self._message()]
        return [
            _call(call, self._status if index == len(calls) - 1 else "completed")
            for index, call in enumerate(calls)
        ]

    def _message(self) -> Item:
        return {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "status": self._status,
            "role": "assistant",
            "content": [_part(self._choice.text)],
        }


def _call(call: ToolCall, status: str) -> Item:
    return {
        "id": f"fc_{call.digest}",
        "type": "function_call",
        "status": status,
        "arguments": call.arguments,
        "call_id": call.id,
        "name": call.name,
    }


def _part(text: str) -> dict[str, object]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


def _added(index: int, item: Item, tokens: int = 0) -> tuple[str, dict[str, Any], int]:
    return "response.output_item.added", {"output_index": index, "item": item}, tokens


def _done(index: int, item: Item) -> tuple[str, dict[str, Any], int]:
    return "response.output_item.done", {"output_index": index, "item": item}, 0


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_input_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
