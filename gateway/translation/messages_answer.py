"""From chat completions to the answers of Anthropic's Messages API, whole or streamed, and from errors to
its errors."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from gateway.billing import Usage
from gateway.errors import GatewayError
from gateway.translation.calls import CallFinder, CallPiece, HeardCall, arguments_of, call_pieces
from gateway.translation.choice import Ending, first_choice, string_of, text_of, unreadable
from gateway.translation.messages_blocks import Block, BlockQueue, Kind, ToolIds

ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
LONGEST_ID = 64
_NOT_OF_AN_ID = re.compile(r"[^A-Za-z0-9_-]")


class MessagesTranslator:
    """Turns the answer to one request, whole or streamed, into a message."""

    def __init__(self, estimated_input_tokens: int) -> None:
        self._estimate = estimated_input_tokens
        self._started = False
        self._blocks = BlockQueue()
        self._calls = CallFinder()
        self._by_call: dict[HeardCall, Block] = {}
        self._ending = Ending()

    def whole(self, completion: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        """The JSON of a message.

        :raises UpstreamError: for what cannot be read as a completion
        """
        choice = first_choice(completion)
        message = choice.get("message") if choice is not None else None
        if choice is None or not isinstance(message, dict):
            raise unreadable()
        ending = Ending()
        ending.note(choice)
        content: list[dict[str, Any]] = []
        if text := text_of(message.get("content")):
            content.append({"type": "text", "text": text})
        if refusal := string_of(message.get("refusal")):
            content.append({"type": "text", "text": refusal})
            ending.refused = True
        ids = ToolIds()
        for call in call_pieces(message):
            ending.called = True
            block = _tool_use(call, ids)
            if block is not None:
                content.append(block)
            elif not ending.is_cut:
                raise unreadable()
        return json_bytes(
            _message(completion) | {"content": content, **ending.fields(), "usage": _usage(usage, cost)}
        )

    def events(self, chunk: dict[str, Any]) -> bytes:
        """The events for one chunk. The message starts with the first that says anything of it.

        :raises UpstreamError: for what cannot be read as a chunk
        """
        choice = first_choice(chunk)
        found: list[dict[str, Any]] = []
        if not self._started and (choice is not None or chunk.get("model")):
            found.append(self._start(chunk))
        if choice is not None:
            self._take(choice)
            found += self._blocks.events()
        return _sse(found)

    def end(self, usage: Usage, cost: Decimal) -> bytes:
        """The rest of a whole answer: what waits, and why and with what usage it ended.

        :raises UpstreamError: where it calls a tool with what is no object, and no chunk told that it ended
        """
        self._check_inputs()
        found = [] if self._started else [self._start({})]
        found += self._blocks.end()
        found.append({"type": "message_delta", "delta": self._ending.fields(), "usage": _usage(usage, cost)})
        found.append({"type": "message_stop"})
        return _sse(found)

    def error(self, error: GatewayError) -> bytes:
        """The event that ends a broken answer."""
        return _sse([error_body(error)])

    def _start(self, chunk: dict[str, Any]) -> dict[str, Any]:
        self._started = True
        usage = _usage(Usage(self._estimate, 0, 0))
        message = _message(chunk) | {"content": [], "stop_reason": None, "stop_sequence": None}
        return {"type": "message_start", "message": message | {"usage": usage}}

    def _take(self, choice: dict[str, Any]) -> None:
        self._ending.note(choice)
        delta = choice.get("delta")
        if delta is None:
            return
        if not isinstance(delta, dict):
            raise unreadable()
        self._take_text("text", text_of(delta.get("content")))
        self._take_text("refusal", string_of(delta.get("refusal")))
        for piece in call_pieces(delta):
            self._take_call(piece)
        if self._ending.finish_reason and self._calls.has_nameless:
            raise unreadable()
        if choice.get("finish_reason"):
            self._check_inputs()

    def _take_text(self, kind: Kind, text: str) -> None:
        if not text:
            return
        self._ending.refused = self._ending.refused or kind == "refusal"
        block = self._blocks.last
        if block is None or block.kind != kind:
            block = Block(kind)
            self._blocks.put(block)
        block.add(text)

    def _take_call(self, piece: CallPiece) -> None:
        if piece.is_custom:
            raise unreadable()
        call = self._calls.take(piece)
        block = self._by_call.get(call)
        if block is None:
            block = self._by_call[call] = Block("tool_use", call)
            self._blocks.put(block)
        self._ending.called = self._ending.called or not block.nameless
        block.add(piece.text)

    def _check_inputs(self) -> None:
        """Refuse an answer that counts as whole though the arguments of a call are none: Anthropic's client
        would call the tool without them."""
        if not self._ending.is_cut and any(
            call.name and _input_of(call.text) is None for call in self._calls.calls
        ):
            raise unreadable()


def error_body(error: GatewayError) -> dict[str, Any]:
    """An error in Anthropic's shape."""
    return _error(error.status, error.message)


def translated_refusal(status: int, body: bytes) -> bytes:
    """A provider's 4xx, whose `body` has the shape of OpenAI's errors, in Anthropic's."""
    message = string_of(json.loads(body)["error"].get("message"))
    return json_bytes(_error(status, message or f"The provider refused the request with status {status}."))


def json_bytes(value: Any) -> bytes:
    """Compact JSON in UTF-8, halves of surrogate pairs joined or, where alone, replaced.

    :raises UpstreamError: for what is nested too deep
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise unreadable() from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _error(status: int, message: str) -> dict[str, Any]:
    kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def _sse(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + json_bytes(event) + b"\n\n" for event in events
    )


def _message(answer: dict[str, Any]) -> dict[str, Any]:
    stated = _NOT_OF_AN_ID.sub("", string_of(answer.get("id")).removeprefix("chatcmpl-"))
    return {
        "id": f"msg_{stated[:LONGEST_ID] or uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": string_of(answer.get("model")),
    }


def _usage(usage: Usage, cost: Decimal | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "input_tokens": usage.uncached_input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        found["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    if cost is not None:
        found["cost"] = float(cost)
    return found


def _tool_use(call: CallPiece, ids: ToolIds) -> dict[str, Any] | None:
    """The block of a whole call, or None where its arguments are no JSON object."""
    if call.is_custom or not call.name:
        raise unreadable()
    arguments = _input_of(call.text)
    if arguments is None:
        return None
    return {"type": "tool_use", "id": ids.give(call.id), "name": call.name, "input": arguments}


def _input_of(text: str) -> dict[str, Any] | None:
    """What a call's arguments are, which some providers leave out or call null where there are none."""
    return {} if text.strip() in ("", "null") else arguments_of(text)
