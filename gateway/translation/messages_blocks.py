"""The content blocks of a streamed message, in the order in which Anthropic's clients expect them: one is
open at a time. Chat completions may mix the deltas of several tool calls; those of a later one wait here."""

from __future__ import annotations

import codecs
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

from gateway.translation.choice import arguments_of

Kind = Literal["text", "refusal", "tool_use"]
Event = dict[str, Any]


class Block:
    """One content block on its way, with the pieces that came and have not been sent."""

    def __init__(self, kind: Kind, identity: str = "", name: str = "") -> None:
        self.kind = kind
        self.identity = identity
        self.name = name
        self._arrived: list[str] = []
        self._sent = 0
        # Half of a surrogate pair waits in it for the other half, which may come with the next piece.
        self._decoder = codecs.getincrementaldecoder("utf-16-le")("replace")

    def add(self, piece: str) -> None:
        if self.kind == "tool_use" and not self._arrived:
            # Anthropic's client parses all that it has after every piece, and takes mere space for an end.
            piece = piece.lstrip(" \t\r\n")
        if piece:
            self._arrived.append(piece)

    @property
    def nameless(self) -> bool:
        """Whether this is a call of which nobody can yet tell whom it calls."""
        return self.kind == "tool_use" and not self.name

    @property
    def complete(self) -> bool:
        """Whether nothing can follow, once another block has begun."""
        return self.kind != "tool_use" or arguments_of("".join(self._arrived)) is not None

    def start(self, index: int) -> Event:
        content: dict[str, Any] = {"type": "text", "text": ""}
        if self.kind == "tool_use":
            identity = self.identity or new_tool_id()
            content = {"type": "tool_use", "id": identity, "name": self.name, "input": {}}
        return {"type": "content_block_start", "index": index, "content_block": content}

    def deltas(self, index: int, *, final: bool = False) -> Iterator[Event]:
        """What has come since the last call, as one delta."""
        text = "".join(self._arrived[self._sent :]).encode("utf-16-le", "surrogatepass")
        self._sent = len(self._arrived)
        if piece := self._decoder.decode(text, final):
            delta = {"type": "text_delta", "text": piece}
            if self.kind == "tool_use":
                delta = {"type": "input_json_delta", "partial_json": piece}
            yield {"type": "content_block_delta", "index": index, "delta": delta}


class BlockQueue:
    """The blocks of one message. The first is sent as it comes; it is closed when another waits behind it
    and it can be told to be complete, else at the end."""

    def __init__(self) -> None:
        self.last: Block | None = None
        self._waiting: deque[Block] = deque()
        self._open: Block | None = None
        self._index = -1
        self._ripe = False

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
        yield self._open.start(self._index)

    def _stop(self) -> Iterator[Event]:
        if self._open is not None:
            yield from self._open.deltas(self._index, final=True)
            yield {"type": "content_block_stop", "index": self._index}
            self._open = None


class CallFinder:
    """Tells to which call a delta belongs. Providers number the calls, but some number all of them 0 and
    tell them apart by id, some give neither, and some a new id with every piece of one call."""

    def __init__(self) -> None:
        self._calls: list[Block] = []
        self._by_index: dict[int, Block] = {}

    @property
    def nameless(self) -> bool:
        """Whether there is a call that lacks its name."""
        return any(call.nameless for call in self._calls)

    def find(self, index: object, identity: str, name: str) -> tuple[Block, bool]:
        """The block of the call, and whether it is a new one."""
        known = self._known(index, identity, name)
        if known is not None:
            other = identity and known.identity and identity != known.identity
            if not (other and name):
                known.identity = known.identity or identity
                known.name = known.name or name
                return known, False
        call = Block("tool_use", identity, name)
        self._calls.append(call)
        if isinstance(index, int):
            self._by_index[index] = call
        return call, True

    def _known(self, index: object, identity: str, name: str) -> Block | None:
        if isinstance(index, int):
            return self._by_index.get(index)
        same = (call for call in self._calls if identity and call.identity == identity)
        last = self._calls[-1] if self._calls and not name else None
        return next(same, last)


def new_tool_id() -> str:
    return f"toolu_{uuid.uuid4().hex}"
