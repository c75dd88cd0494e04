"""Server-sent events as a client reads them."""

from __future__ import annotations

import json
from typing import Any

import requests


def events_of(answer: requests.Response) -> list[Any]:
    """The `data` of each event: JSON where it is JSON, else text."""
    events = []
    for block in answer.content.split(b"\n\n"):
        if block:
            data = block.removeprefix(b"data: ").decode()
            events.append(json.loads(data) if data.startswith("{") else data)
    return events


def text_of(events: list[Any]) -> str:
    """The answer's text, put together from the deltas."""
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        if isinstance(event, dict)
        for choice in event.get("choices", ())
    )
