"""Streams of the dialects that pass through a relay, and their events as their clients read them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gateway.apis import Api
from gateway.schema.base import ModelRequest
from gateway.schema.chat import parse_chat_request
from gateway.schema.messages import parse_messages_request
from gateway.schema.responses import parse_responses_request
from tests.support.fakes import PROMPT, RelaySetting

MESSAGES = [{"role": "user", "content": PROMPT}]
# What makes an answer whole.
LAST_EVENTS = ("message_stop", "response.completed", "response.incomplete")


def short_request(api: Api, *, stream: bool) -> ModelRequest:
    """A client's request of `api` with the one prompt of the relay's tests."""
    match api:
        case Api.CHAT_COMPLETIONS:
            return parse_chat_request(_json({"messages": MESSAGES, "stream": stream}))
        case Api.MESSAGES:
            body = {"messages": MESSAGES, "max_tokens": 1000, "stream": stream}
            return parse_messages_request(_json(body))
        case Api.RESPONSES:
            return parse_responses_request(_json({"input": PROMPT, "stream": stream}))
        case _:
            raise ValueError(api)


@dataclass
class NativeRelaySetting(RelaySetting):
    """A relay between fakes whose model serves the client's own API."""

    api: Api = Api.MESSAGES

    def __post_init__(self) -> None:
        self.set_up(short_request(self.api, stream=True))


def events_of(sent: bytes) -> list[dict[str, Any]]:
    """The JSON of each event that has its name on an `event:` line, which must be that of its `type`."""
    events = []
    for block in sent.replace(b"\r\n", b"\n").split(b"\n\n"):
        if not block.strip():
            continue
        fields = dict(line.split(b": ", 1) for line in block.strip().split(b"\n"))
        event = json.loads(fields[b"data"])
        assert event["type"] == fields[b"event"].decode(), block
        events.append(event)
    return events


def final_usage(event: dict[str, Any]) -> dict[str, Any] | None:
    """The usage that an event states for a whole answer, if it is the event that does."""
    usage: dict[str, Any] | None = None
    if event["type"] == "message_delta":
        usage = event.get("usage")
    elif event["type"] in (*LAST_EVENTS, "response.failed"):
        usage = event.get("response", {}).get("usage")
    return usage


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
