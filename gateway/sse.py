"""Server-sent events of a streamed completion: cut out of the byte stream, read, and written.

`Event.raw` holds the bytes of an event as they came, with their blank line.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import orjson

from gateway.errors import UpstreamError
from gateway.usual_chunk import UsualChunk, usual_chunk_like

MAX_EVENT_BYTES = 32 * 2**20
DONE = b"data: [DONE]\n\n"
LOOKS_FOR_USUAL = 8  # in a stream; if each chunk is unlike the one before, comparing them is of no use
CR, LF = b"\r\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
ERROR_LINE = re.compile(rb"event: ?error")
BLANK_LINES = (b"\n\n", b"\n\r\n", b"\r\r")
_BLANK_LINE = re.compile(rb"\n\r?\n|\r\r")
_UNREAD: Any = object()  # stands for the values of a JSON object that nobody has asked for yet


class Event:
    """One event: its bytes, and its `data` as a JSON object if it is one. `text` is that of a chunk of a chat
    that says nothing else, where this is known without having it read; else None."""

    __slots__ = ("_chunk", "data", "raw", "text")

    def __init__(
        self, raw: bytes, data: bytes, chunk: dict[str, Any] | None, text: str | None = None
    ) -> None:
        self.raw = raw
        self.data = data
        self.text = text
        self._chunk = chunk

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and (self.raw, self.chunk) == (other.raw, other.chunk)

    __hash__ = None  # type: ignore[assignment]

    @property
    def chunk(self) -> dict[str, Any] | None:
        if self._chunk is _UNREAD:
            self._chunk = _object_of(self.data)
        return self._chunk

    @property
    def is_terminated(self) -> bool:
        """Whether its blank line stands behind it, as behind all but the last of a stream cut short."""
        return self.raw.endswith(BLANK_LINES)

    @property
    def is_done(self) -> bool:
        return self.text is None and self.data.strip() == b"[DONE]"

    @property
    def is_usage_only(self) -> bool:
        """Whether this is the extra chunk that a provider sends for `stream_options.include_usage`, be it
        that the usage in it is null. Azure's first chunk has no choices either, but says something else."""
        if self.text is not None:
            return False
        chunk = self.chunk or {}
        return "usage" in chunk and not chunk.get("choices") and "prompt_filter_results" not in chunk


class EventReader:
    """Cuts events out of pieces of bytes, however these were cut on the wire."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._searched = 0
        self._usual: UsualChunk | None = None
        self._looks_for_usual = LOOKS_FOR_USUAL

    def feed(self, piece: bytes = b"") -> list[Event]:
        """The events that `piece` completes. What is wrong behind good ones is told at the next call, which
        may be one without a piece, so that these are not lost.

        :raises UpstreamError: for an event that is no JSON or grows past `MAX_EVENT_BYTES`
        """
        if self._pending:
            self._pending += piece
            if not _BLANK_LINE.search(self._pending, max(0, self._searched - 3)):
                self._searched = len(self._pending)
                return self._within_limit([])
            piece = bytes(self._pending)
            self._pending.clear()
        elif not piece:
            return []
        elif self._usual is not None and (text := self._usual.text_in(piece)) is not None:
            return [Event(piece, piece[6:-2], _UNREAD, text)]  # one event, and nothing else
        whole, rest = _cut(piece)
        events: list[Event] = []
        try:
            for raw in whole:
                events.append(self._read(raw))
        except UpstreamError:
            self._pending += b"".join(whole[len(events) :]) + rest
            self._searched = 0
            if not events:
                raise
            return events
        if rest:
            self._pending += rest
            self._searched = len(rest)
            return self._within_limit(events)
        return events

    def _within_limit(self, events: list[Event]) -> list[Event]:
        if len(self._pending) > MAX_EVENT_BYTES and not events:
            raise UpstreamError("The provider sent an event that is too large.")
        return events

    def _read(self, raw: bytes) -> Event:
        if self._usual is not None and (text := self._usual.text_in(raw)) is not None:
            return Event(raw, raw[6:-2], _UNREAD, text)
        event = read_event(raw)
        if self._looks_for_usual and event.chunk and event.data == raw[6:-2]:
            self._looks_for_usual -= 1
            self._usual = usual_chunk_like(raw, event.chunk) or self._usual
        return event

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
    # One line of data, its end and a blank line, as nearly all are.
    if raw.startswith(b"data: ") and raw.find(LF) == len(raw) - 2 and CR not in raw:
        data, names_error = raw[6:-2], False
    else:
        lines = raw.removeprefix(BYTE_ORDER_MARK).splitlines()
        data = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
        names_error = any(ERROR_LINE.fullmatch(line) for line in lines)
    if not data.lstrip().startswith(b"{"):
        chunk, tells_error = None, False
    else:
        chunk = _object_of(data)
        tells_error = bool(chunk.get("error")) or chunk.get("type") == "error"
    if tells_error or names_error:
        raise UpstreamError("The provider reported an error instead of the rest of its answer.")
    return Event(raw, data, chunk)


def _cut(piece: bytes) -> tuple[list[bytes], bytes]:
    """The events that are whole in `piece`, and what stands behind the last."""
    if CR in piece:
        ends = [blank.end() for blank in _BLANK_LINE.finditer(piece)]
        whole = [piece[start:end] for start, end in pairwise([0, *ends])]
        return whole, piece[ends[-1] :] if ends else piece
    *whole, rest = piece.split(b"\n\n")
    if len(whole) == 1 and not rest:
        return [piece], rest
    return [raw + b"\n\n" for raw in whole], rest


def _object_of(data: bytes) -> dict[str, Any]:
    # orjson takes a third of the time, and refuses some that `json` reads, such as NaN or half of a
    # surrogate pair. It makes a float of an integer beyond 64 bits; nothing that is read here is so large.
    try:
        found: dict[str, Any] = orjson.loads(data)
    except ValueError:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            raise UpstreamError("The provider sent a chunk that is not JSON.") from None
    return found


def event_of(values: dict[str, Any]) -> bytes:
    """An event with these values as its data."""
    return b"data: " + json.dumps(values, separators=(",", ":")).encode() + b"\n\n"


def with_data(event: Event, data: bytes) -> bytes:
    """The bytes of an event with other data; its other lines stay."""
    lines = event.raw.removeprefix(BYTE_ORDER_MARK).splitlines()
    others = [line for line in lines if line and not line.startswith(b"data:")]
    return b"\n".join([*others, *(b"data: " + line for line in data.splitlines())]) + b"\n\n"
