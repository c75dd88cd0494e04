"""The output of a response as it grows, from what the provider says to items and their events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.translation.choice import unreadable
from gateway.translation.responses_items import Call, CustomToolCall, Event, FunctionCall, Message, OutputItem
from gateway.translation.responses_reading import CallPiece, Said


@dataclass
class _HeardCall:
    """A call by the provider's id and name. It is no item before it has a name, which clients get first."""

    id: str
    name: str
    is_custom: bool
    item: Call | None = None
    early: list[str] = field(default_factory=list)


class Output:
    """The items of one response. `token` makes their ids unique; `namespaced` has the namespace and name of
    tools by what the provider calls them."""

    def __init__(self, token: str, namespaced: Mapping[str, tuple[str, str]]) -> None:
        self._token = token
        self._namespaced = namespaced
        self._items: list[OutputItem] = []
        self._message: Message | None = None
        self._calls: list[_HeardCall] = []
        self._by_index: dict[int, _HeardCall] = {}
        self._by_id: dict[str, _HeardCall] = {}
        self._call_ids: set[str] = set()

    def values(self) -> list[dict[str, Any]]:
        return [item.value() for item in self._items]

    def take(self, said: Said) -> list[Event]:
        """The events for what the provider said.

        :raises UpstreamError: where it adds to a call that was whole, or ends with a call of nothing
        """
        events: list[Event] = []
        if said.text or said.refusal:
            message = self._open_message(events)
            if said.text:
                events += message.say(said.text, said.logprobs)
            if said.refusal:
                events += message.refuse(said.refusal)
        elif said.logprobs and self._message is not None:
            self._message.note(said.logprobs)
        for piece in said.calls:
            self._take_call(piece, events)
        if said.finish_reason and any(call.item is None for call in self._calls):
            raise unreadable()
        return events

    def end(self, *, is_whole: bool) -> list[Event]:
        """The events that close what is open. Of an answer that was cut short, the last item is incomplete
        and so is every call whose arguments are."""
        events: list[Event] = []
        for call in self._calls:
            if call.item is None:
                self._begin_call(call, events)
        for item in self._items:
            if item.is_open:
                done = is_whole or (item.is_whole and item is not self._items[-1])
                events += item.close("completed" if done else "incomplete")
        return events

    def _open_message(self, events: list[Event]) -> Message:
        if self._message is None or not self._message.is_open:
            self._message = Message(self._token, len(self._items))
            self._begin(self._message, events)
        return self._message

    def _take_call(self, piece: CallPiece, events: list[Event]) -> None:
        call = self._heard(piece)
        call.id, call.name = call.id or piece.id, call.name or piece.name
        if call.item is None and call.name:
            self._begin_call(call, events)
        if not piece.text:
            return
        if call.item is None:
            call.early.append(piece.text)
        elif call.item.is_open:
            events += call.item.extend(piece.text)
        elif not piece.text.isspace():
            raise unreadable()

    def _heard(self, piece: CallPiece) -> _HeardCall:
        """The call that a piece belongs to. An id or a name tells a new call better than the index does,
        which some providers leave out and some give as 0 to each."""
        if piece.index is not None:
            call = self._by_index.get(piece.index)
        elif piece.id:
            call = self._by_id.get(piece.id)
        else:
            call = self._calls[-1] if self._calls else None
        if call is None or _begins_another(piece, call):
            call = _HeardCall(piece.id, piece.name, piece.is_custom)
            self._calls.append(call)
        if piece.index is not None:
            self._by_index[piece.index] = call
        if piece.id:
            self._by_id.setdefault(piece.id, call)
        return call

    def _begin_call(self, call: _HeardCall, events: list[Event]) -> None:
        position = len(self._items)
        call_id = call.id
        # Clients tell calls apart by their ids, so each must have its own.
        if not call_id or call_id in self._call_ids:
            call_id = f"call_{self._token}{position:02x}"
        self._call_ids.add(call_id)
        make = CustomToolCall if call.is_custom else FunctionCall
        namespace, name = self._namespaced.get(call.name, ("", call.name))
        call.item = make(self._token, position, call_id, name, namespace)
        self._begin(call.item, events)
        if call.early:
            events += call.item.extend("".join(call.early))

    def _begin(self, item: OutputItem, events: list[Event]) -> None:
        for other in self._items:
            if other.is_open and other.is_whole:
                events += other.close("completed")
        self._items.append(item)
        events += item.add()


def _begins_another(piece: CallPiece, call: _HeardCall) -> bool:
    """Whether a piece with the index or the place of `call` is the first of another one."""
    if not piece.name or not call.name:
        return False
    if piece.id and call.id:
        return piece.id != call.id
    is_whole = call.item is not None and call.item.is_whole
    return piece.name != call.name or (is_whole and bool(piece.text))
