"""The content blocks of a streamed message, in the order in which Anthropic's clients expect them: one is
open at a time. Chat completions may mix the deltas of several tool calls; those of a later one wait here."""

from __future__ import annotations

import codecs
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

from gateway.translation.calls import HeardCall

Kind = Literal["text", "refusal", "tool_use"]
Event = dict[str, Any]


class Block:
    """One content block on its way, with the pieces that came and have not been sent: a text or a refusal,
    or the `call` that it is of."""

    def __init__(self, kind: Kind, call: HeardCall | None = None) -> None:
        self.kind = kind
        self.call = call
        self._pieces: list[str] = []
        self._holds = call is not None
        # Half of a surrogate pair waits in it for the other half, which may come with the next piece.
        self._decoder = codecs.getincrementaldecoder("utf-16-le")("replace")

    def add(self, piece: str) -> None:
        self._pieces.append(piece)

    @property
    def nameless(self) -> bool:
        """Whether this is a call of which nobody can yet tell whom it calls."""
        return self.call is not None and not self.call.name

    @property
    def complete(self) -> bool:
        """Whether nothing can follow, once another block has begun."""
        return self.call is None or self.call.is_whole

    def deltas(self, index: int, *, final: bool = False) -> Iterator[Event]:
        """What has come since the last call, as one delta."""
        text = self._taken().encode("utf-16-le", "surrogatepass")
        if piece := self._decoder.decode(text, final):
            delta = {"type": "text_delta", "text": piece}
            if self.call is not None:
                delta = {"type": "input_json_delta", "partial_json": piece}
            yield {"type": "content_block_delta", "index": index, "delta": delta}

    def _taken(self) -> str:
        text = "".join(self._pieces)
        if self._holds:
            # Anthropic's client parses all that it has after every piece, and takes mere space for an end.
            # Nor must it get the null that some providers give for no arguments.
            if "null".startswith(text.strip()):
                return ""
            self._holds = False
            text = text.lstrip(" \t\r\n")
        self._pieces.clear()
        return text


class BlockQueue:
    """The blocks of one message. The first is sent as it comes; it is closed when another waits behind it
    and it can be told to be complete, else at the end."""

    def __init__(self) -> None:
        self.last: Block | None = None
        self._waiting: deque[Block] = deque()
        self._open: Block | None = None
        self._index = -1
        self._ripe = False
        self._ids = ToolIds()

    def put(self, block: Block) -> None:
        self._waiting.append(block)
        self.last = block
        # Asked only when a block is put, since to ask is to parse all arguments so far.
        self._ripe = self._open is not None and self._open.complete

    def events(self) -> Iterator[Event]:
        """What can be sent now."""
        while True:
            if self._open is None:
                if not self._waiting or self._waiting[0].nameless:
                    return
                yield from self._start()
            elif self._waiting and self._ripe:
                yield from self._stop()
            else:
                yield from self._open.deltas(self._index)
                return

    def end(self) -> Iterator[Event]:
        """All that has not been sent. A call without a name is left out, since nobody could answer it."""
        while self._open is not None or self._waiting:
            if self._open is not None:
                yield from self._stop()
            elif self._waiting[0].nameless:
                self._waiting.popleft()
            else:
                yield from self._start()

    def _start(self) -> Iterator[Event]:
        self._open = self._waiting.popleft()
        self._index += 1
        self._ripe = bool(self._waiting) and self._open.complete
        content: dict[str, Any] = {"type": "text", "text": ""}
        if (call := self._open.call) is not None:
            content = {"type": "tool_use", "id": self._ids.give(call.id), "name": call.name, "input": {}}
        yield {"type": "content_block_start", "index": self._index, "content_block": content}

    def _stop(self) -> Iterator[Event]:
        if self._open is not None:
            yield from self._open.deltas(self._index, final=True)
            yield {"type": "content_block_stop", "index": self._index}
            self._open = None


class ToolIds:
    """The ids of one message's calls. Clients tell calls apart by them, so each must have its own."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, stated: str) -> str:
        """The id that the provider has `stated`, or a new one where that is missing or another call's."""
        identity = stated if stated and stated not in self._given else f"toolu_{uuid.uuid4().hex}"
        self._given.add(identity)
        return identity
