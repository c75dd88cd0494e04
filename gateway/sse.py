"""Server-sent events of a streamed completion: cut out of the byte stream, read, and written.

`Event.raw` holds the bytes of an event as they came, with their blank line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from gateway.errors import UpstreamError

MAX_EVENT_BYTES = 32 * 2**20
DONE = b"data: [DONE]\n\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ERROR_LINE = re.compile(rb"event: ?error")
BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")
_BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")


@dataclass(frozen=True)
class Event:
    """One event: its bytes, and its `data` as a JSON object if it is one."""

    raw: bytes
    data: bytes
    chunk: dict[str, Any] | None

    @property
    def is_terminated(self) -> bool:
        """Whether its blank line stands behind it, as behind all but the last of a stream cut short."""
        return self.raw.endswith(BLANK_LINES)

    @property
    def is_done(self) -> bool:
        return self.data.strip() == b"[DONE]"

    @property
    def is_usage_only(self) -> bool:
        """Whether this is the extra chunk that a provider sends for `stream_options.include_usage`, be it
        that the usage in it is null. Azure's first chunk has no choices either, but says something else."""
        chunk = self.chunk or {}
        return "usage" in chunk and not chunk.get("choices") and "prompt_filter_results" not in chunk


class EventReader:
    """Cuts events out of pieces of bytes, however these were cut on the wire."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._searched = 0

    def feed(self, piece: bytes = b"") -> list[Event]:
        """The events that `piece` completes. What is wrong behind good ones is told at the next call, which
        may be one without a piece, so that these are not lost.

        :raises UpstreamError: for an event that is no JSON or grows past `MAX_EVENT_BYTES`
        """
        self._pending += piece
        events: list[Event] = []
        start = 0
        try:
            while blank := _BLANK_LINE.search(self._pending, max(start, self._searched - 3)):
                events.append(read_event(bytes(self._pending[start : blank.end()])))
                start = self._searched = blank.end()
            if len(self._pending) - start > MAX_EVENT_BYTES:
                raise UpstreamError("The provider sent an event that is too large.")
        except UpstreamError:
            if not events:
                raise
            del self._pending[:start]
            self._searched = 0
        else:
            del self._pending[:start]
            self._searched = len(self._pending)
        return events

    def rest(self) -> Event | None:
        """What stands after the last blank line once the stream has ended.

        :raises UpstreamError: as `feed` does
        """
        self.feed()
        return read_event(bytes(self._pending)) if self._pending.strip() else None


def read_event(raw: bytes) -> Event:
    """
    :raises UpstreamError: for data that begin a JSON object and are none, or that say an error; the words
        of a provider's error stay here, since they may hold a key
    """
    lines = raw.removeprefix(BYTE_ORDER_MARK).splitlines()
    data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
    try:
        chunk = json.loads(data) if data.lstrip().startswith(b"{") else None
    except (ValueError, RecursionError):
        raise UpstreamError("The provider sent a chunk that is not JSON.") from None
    told = chunk is not None and (chunk.get("error") or chunk.get("type") == "error")
    if told or (b"event:" in raw and any(ERROR_LINE.fullmatch(line) for line in lines)):
        raise UpstreamError("The provider reported an error instead of the rest of its answer.")
    return Event(raw, data, chunk)


def event_of(values: dict[str, Any]) -> bytes:
    """An event with these values as its data."""
    return b"data: " + json.dumps(values, separators=(",", ":")).encode() + b"\n\n"


def with_data(event: Event, data: bytes) -> bytes:
    """The bytes of an event with other data; its other lines stay."""
    lines = event.raw.removeprefix(BYTE_ORDER_MARK).splitlines()
    others = [line for line in lines if line and not line.startswith(b"data:")]
    return b"\n".join([*others, *(b"data: " + line for line in data.splitlines())]) + b"\n\n"
