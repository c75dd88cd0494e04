"""An answer of the gateway as its client sees it: whole or in pieces, with the time of each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

ERROR_FIELDS = {"message", "type", "param", "code"}


@dataclass(frozen=True)
class Attempt:
    """One call of a provider, by `X-Gateway-Attempts`; `status` is text, since some have none."""

    model: str
    status: str
    cost_usd: Decimal


@dataclass
class Answer:
    """`pieces` are what came, each with the seconds since the request; `broken` says that the connection
    ended before the answer did. `seconds` is all the time that it took."""

    status: int
    headers: Mapping[str, str]
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    broken: bool = False
    seconds: float = 0.0

    @property
    def body(self) -> bytes:
        """All that came."""
        return b"".join(piece for _, piece in self.pieces)

    @property
    def model(self) -> str:
        """Who answered, by the gateway's word."""
        return self.headers.get("X-Gateway-Model", "")

    @property
    def attempts(self) -> list[Attempt]:
        """The calls that were made for it; empty where they are not listed."""
        return attempts_of(self.headers.get("X-Gateway-Attempts", ""))

    @property
    def is_stream(self) -> bool:
        """Whether it came as server-sent events."""
        return self.headers.get("Content-Type", "").startswith("text/event-stream")

    @property
    def events(self) -> list[Any]:
        """The data of each event: JSON where it is JSON, else text."""
        datas = re.findall(r"^data: ?(.*)$", self.body.decode(errors="replace"), flags=re.MULTILINE)
        return [_json(data, otherwise=data) for data in datas]

    @property
    def values(self) -> Any:
        """A plain answer's JSON, None where it is none."""
        return _json(self.body.decode(errors="replace"), otherwise=None)

    @property
    def text(self) -> str:
        """What the model has said."""
        if not self.is_stream:
            return "".join(choice["message"].get("content") or "" for choice in self._choices(self.values))
        deltas = [choice.get("delta") or {} for event in self.events for choice in self._choices(event)]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def looks_whole(self) -> bool:
        """Whether a client takes it for a whole answer."""
        if self.broken or self.status != 200:
            return False
        if not self.is_stream:
            return bool(self._choices(self.values))
        events = self.events
        finished = any(choice.get("finish_reason") for event in events for choice in self._choices(event))
        return (finished or "[DONE]" in events) and self.error_event is None

    @property
    def error_event(self) -> dict[str, Any] | None:
        """The error in a stream, where there is one in OpenAI's shape."""
        for event in self.events:
            if is_error(event):
                error: dict[str, Any] = event["error"]
                return error
        return None

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that a plain answer is, where it is JSON in OpenAI's shape."""
        is_json = self.headers.get("Content-Type", "").startswith("application/json")
        return self.values["error"] if is_json and is_error(self.values) else None

    @property
    def code(self) -> str:
        """The status, and the error's code where there is one: as a report says it."""
        error = self.error or self.error_event
        return f"{self.status} {error['code']}" if error and error["code"] else str(self.status)

    @staticmethod
    def _choices(value: Any) -> list[Any]:
        choices = value.get("choices") if isinstance(value, dict) else None
        return choices if isinstance(choices, list) else []


def is_error(value: Any) -> bool:
    """Whether it is an error object in OpenAI's shape."""
    if not isinstance(value, dict) or not isinstance(error := value.get("error"), dict):
        return False
    return error.keys() >= ERROR_FIELDS and bool(error["message"]) and isinstance(error["type"], str)


def attempts_of(header: str) -> list[Attempt]:
    """The list in `X-Gateway-Attempts`: `NAME;status=200;duration_ms=2;cost_usd=0.1, NAME;…`."""
    attempts = []
    for item in header.split(","):
        model, *parts = (part.strip() for part in item.split(";"))
        values = dict(part.split("=", 1) for part in parts if "=" in part)
        if model and "status" in values:
            attempts.append(Attempt(model, values["status"], _usd(values.get("cost_usd", "0"))))
    return attempts


def _usd(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(0)


def _json(text: str, *, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return otherwise
