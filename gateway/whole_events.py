"""A whole Message or Response, as its provider gave it, told as the stream that would have said the same.
What is in it stays as it is: each block or item comes in one piece."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from gateway.errors import UpstreamError
from gateway.translation.messages_answer import json_bytes

Event = dict[str, Any]
# What a client adds up from the deltas of a block, so that its beginning has none of it.
TOLD_BY_DELTAS: Event = {"text": "", "thinking": "", "signature": "", "input": {}, "citations": None}


def events_of_message(message: Mapping[str, Any], cost: Decimal) -> bytes:
    """The events of a whole Message; `cost`, USD, stands in the usage of its end.

    :raises UpstreamError: for what is none
    """
    return b"".join(map(_encoded, _of_message(message, cost)))


def events_of_response(response: Mapping[str, Any], cost: Decimal) -> bytes:
    """The same of a whole Response."""
    return b"".join(
        _encoded({"type": event["type"], "sequence_number": number, **event})
        for number, event in enumerate(_of_response(response, cost))
    )


def _of_message(message: Mapping[str, Any], cost: Decimal) -> Iterator[Event]:
    usage = _usage(message)
    yield {
        "type": "message_start",
        "message": {
            **message,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 0},
        },
    }
    for index, block in enumerate(_objects(message, "content")):
        empty = {name: value for name, value in TOLD_BY_DELTAS.items() if name in block}
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        for delta in _deltas_of(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    yield {"type": "message_delta", "delta": ending, "usage": {**usage, "cost": float(cost)}}
    yield {"type": "message_stop"}


def _deltas_of(block: Mapping[str, Any]) -> Iterator[Event]:
    if block.get("text"):
        yield {"type": "text_delta", "text": block["text"]}
    if block.get("thinking"):
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
    if block.get("signature"):
        yield {"type": "signature_delta", "signature": block["signature"]}
    for citation in block.get("citations") or ():
        yield {"type": "citations_delta", "citation": citation}
    if block.get("input"):
        yield {"type": "input_json_delta", "partial_json": json_bytes(block["input"]).decode()}


def _of_response(response: Mapping[str, Any], cost: Decimal) -> Iterator[Event]:
    begun = {
        **response,
        "status": "in_progress",
        "output": [],
        "usage": None,
        "completed_at": None,
        "incomplete_details": None,
    }
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for position, item in enumerate(_objects(response, "output")):
        yield from _of_item(item, position)
    status = response.get("status")
    status = status if status in ("completed", "incomplete", "failed") else "completed"
    usage = {"usage": {**_usage(response), "cost": float(cost)}} if _usage(response) else {}
    yield {"type": f"response.{status}", "response": {**response, **usage}}


def _of_item(item: Mapping[str, Any], position: int) -> Iterator[Event]:
    place = {"item_id": item.get("id", ""), "output_index": position}
    content = item.get("content") if item.get("type") == "message" else None
    empty: Event = {"status": "in_progress"} if "status" in item else {}
    if isinstance(content, list):
        empty["content"] = []
    told = next((name for name in ("arguments", "input") if isinstance(item.get(name), str)), None)
    if told is not None:
        empty[told] = ""
    yield {"type": "response.output_item.added", "output_index": position, "item": {**item, **empty}}
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict):
            yield from _of_part(part, {**place, "content_index": index})
    if told is not None:
        kind = f"response.{item.get('type')}_{told}"
        yield {"type": f"{kind}.delta", **place, "delta": item[told]}
        yield {"type": f"{kind}.done", **place, told: item[told]}
    yield {"type": "response.output_item.done", "output_index": position, "item": item}


def _of_part(part: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[Event]:
    name = "refusal" if part.get("type") == "refusal" else "text"
    logprobs = {} if name == "refusal" else {"logprobs": part.get("logprobs") or []}
    empty: Event = {name: ""} | ({"annotations": []} if "annotations" in part else {})
    yield {"type": "response.content_part.added", **place, "part": {**part, **empty}}
    kind = "response.refusal" if name == "refusal" else "response.output_text"
    yield {"type": f"{kind}.delta", **place, "delta": part.get(name, ""), **logprobs}
    yield {"type": f"{kind}.done", **place, name: part.get(name, ""), **logprobs}
    yield {"type": "response.content_part.done", **place, "part": part}


def _objects(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = answer.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UpstreamError("The provider gave no stream, and no whole answer that can be told as one.")
    return found


def _usage(answer: Mapping[str, Any]) -> dict[str, Any]:
    usage = answer.get("usage")
    return usage if isinstance(usage, dict) else {}


def _encoded(event: Event) -> bytes:
    return b"event: " + str(event["type"]).encode() + b"\ndata: " + json_bytes(event) + b"\n\n"
