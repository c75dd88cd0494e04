"""The output of a response as it grows, from what the provider says to items and their events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.translation.calls import CallFinder, CallPiece, HeardCall
from gateway.translation.choice import unreadable
from gateway.translation.responses_items import Call, CustomToolCall, Event, FunctionCall, Message, OutputItem
from gateway.translation.responses_reading import Said


class Output:
    """The items of one response. `token` makes their ids unique; `namespaced` has the namespace and name of
    tools by what the provider calls them."""

    def __init__(self, token: str, namespaced: Mapping[str, tuple[str, str]]) -> None:
        self._token = token
        self._namespaced = namespaced
        self._items: list[OutputItem] = []
        self._message: Message | None = None
        self._calls = CallFinder()
        self._begun: dict[HeardCall, Call] = {}
        self._call_ids: set[str] = set()

    def values(self) -> list[dict[str, Any]]:
        return [item.value() for item in self._items]

    def take(self, said: Said) -> list[Event]:
        """The events for what the provider said.

        :raises UpstreamError: where it adds to a call that was whole, or nobody can tell what it calls
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
        if said.finish_reason and self._calls.has_nameless:
            raise unreadable()
        return events

    def end(self, *, is_whole: bool) -> list[Event]:
        """The events that close what is open. Of an answer that was cut short, the last item is incomplete
        and so is every call whose arguments are."""
        events: list[Event] = []
        for call in self._calls.calls:
            if call not in self._begun:
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
        call = self._calls.take(piece)
        item = self._begun.get(call)
        if item is None:
            # It is no item before it has a name, which clients get first.
            if call.name:
                self._begin_call(call, events)
        elif item.is_open:
            if piece.text:
                events += item.extend(piece.text)
        elif piece.text.strip():
            raise unreadable()

    def _begin_call(self, call: HeardCall, events: list[Event]) -> None:
        position = len(self._items)
        call_id = call.id
        # Clients tell calls apart by their ids, so each must have its own.
        if not call_id or call_id in self._call_ids:
            call_id = f"call_{self._token}{position:02x}"
        self._call_ids.add(call_id)
        make = CustomToolCall if call.is_custom else FunctionCall
        namespace, name = self._namespaced.get(call.name, ("", call.name))
        item = self._begun[call] = make(self._token, position, call, call_id, name, namespace)
        self._begin(item, events)
        if call.text:
            events += item.extend(call.text)

    def _begin(self, item: OutputItem, events: list[Event]) -> None:
        for other in self._items:
            if other.is_open and other.is_whole:
                events += other.close("completed")
        self._items.append(item)
        events += item.add()
