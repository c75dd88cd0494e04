"""The tool calls of a chat completion, from the pieces in which they come, numbered or not."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.translation.choice import objects_of, string_of, unreadable

QUOTES_AND_ESCAPES = re.compile(r'\\.?|"', re.DOTALL)


@dataclass(frozen=True)
class CallPiece:
    """A tool call or a part of one; a text that is not given is empty."""

    index: int | None
    id: str
    name: str
    is_custom: bool
    text: str  # of the arguments, or of a custom tool's input


class HeardCall:
    """A call as far as it has been told."""

    def __init__(self, id: str, name: str, *, is_custom: bool) -> None:
        self.id = id
        self.name = name
        self.is_custom = is_custom
        self._pieces: list[str] = []
        self._last = ""
        self._in_string = False
        self._escape = ""  # the backslash with which the last piece ended

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def is_whole(self) -> bool:
        """Whether the arguments are an object, so that none can follow. What a custom tool is given is any
        text, of which nobody can tell."""
        # The whole text is read only where it can be complete: there may be a brace in each of many pieces.
        if self.is_custom or self._in_string or not self._last.endswith("}"):
            return False
        return arguments_of(self.text) is not None

    def add(self, text: str) -> None:
        self._pieces.append(text)
        self._last = text.rstrip() or self._last
        marks = QUOTES_AND_ESCAPES.findall(self._escape + text)
        self._in_string ^= marks.count('"') % 2 == 1
        self._escape = "\\" if marks and marks[-1] == "\\" else ""


class CallFinder:
    """Tells to which call a piece belongs. Providers number the calls, but some number all of them 0 and
    tell them apart by id or by name, some give no number, and some a new id with every piece of one call."""

    def __init__(self) -> None:
        self.calls: list[HeardCall] = []
        self._by_index: dict[int, HeardCall] = {}
        self._by_id: dict[str, HeardCall] = {}

    @property
    def has_nameless(self) -> bool:
        """Whether there is a call of which nobody can yet tell what it calls."""
        return any(not call.name for call in self.calls)

    def take(self, piece: CallPiece) -> HeardCall:
        """The call that `piece` belongs to, with the piece added to it.

        :raises UpstreamError: where that is a second object of arguments, of a call that nobody names
        """
        call = self._known(piece)
        if call is None or _begins_another(piece, call):
            call = HeardCall(piece.id, piece.name, is_custom=piece.is_custom)
            self.calls.append(call)
        elif piece.text.lstrip().startswith("{") and call.is_whole:
            raise unreadable()
        if piece.index is not None:
            self._by_index[piece.index] = call
        if piece.id:
            self._by_id[piece.id] = call
        call.id, call.name = call.id or piece.id, call.name or piece.name
        call.add(piece.text)
        return call

    def _known(self, piece: CallPiece) -> HeardCall | None:
        if piece.index is not None:
            return self._by_index.get(piece.index)
        if piece.id in self._by_id:
            return self._by_id[piece.id]
        is_new = piece.id and piece.name
        return self.calls[-1] if self.calls and not is_new else None


def _begins_another(piece: CallPiece, call: HeardCall) -> bool:
    """Whether a piece with the index or in the place of `call` is the first of another one. Who only says its
    name or its id again goes on with it."""
    if not piece.name or not call.name:
        return False
    differs = piece.id != call.id if piece.id and call.id else piece.name != call.name
    return differs or (bool(piece.text.strip()) and call.is_whole)


def call_pieces(message: dict[str, Any]) -> tuple[CallPiece, ...]:
    """The tool calls of a message or delta, or its legacy function call as one where it has no others.

    :raises UpstreamError: for what is no call
    """
    return tuple(map(_call_piece, _calls_of(message)))


def arguments_of(text: str) -> dict[str, Any] | None:
    """The JSON object that a call's arguments are, or None where they are none."""
    try:
        # Models put raw line breaks into strings.
        values = json.loads(text, strict=False, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _calls_of(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    calls = objects_of(message.get("tool_calls"))
    yield from calls
    legacy = message.get("function_call")
    if legacy and not calls:
        yield {"function": legacy}


def _call_piece(call: dict[str, Any]) -> CallPiece:
    is_custom = call.get("type") == "custom" or isinstance(call.get("custom"), dict)
    called = call.get("custom" if is_custom else "function")
    if called is None:
        called = {}
    if not isinstance(called, dict):
        raise unreadable()
    index = call.get("index")
    return CallPiece(
        index=index if isinstance(index, int) and not isinstance(index, bool) else None,
        id=string_of(call.get("id")),
        name=string_of(called.get("name")),
        is_custom=is_custom,
        text=_text_of_arguments(called.get("input" if is_custom else "arguments")),
    )


def _text_of_arguments(arguments: object) -> str:
    """The JSON that arguments should be; some providers give the object itself."""
    if isinstance(arguments, dict):
        try:
            return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
        except RecursionError:
            raise unreadable() from None
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    raise unreadable()


def _refuse(name: str) -> float:
    raise ValueError(name)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(digits)
    return number
