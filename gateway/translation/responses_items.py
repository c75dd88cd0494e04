"""The output items of a response, built up from the deltas of a chat completion, and the events that tell
a client of each step.

One item is done before the next is added, as OpenAI has it, except for tool calls whose arguments come
interleaved: such a call stays open until its arguments are whole or the answer ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from gateway.translation.calls import HeardCall

Event = dict[str, Any]


class OutputItem(ABC):
    """One item; `position` is its index in the output. Each method gives the events that it causes."""

    id_prefix: str

    def __init__(self, token: str, position: int) -> None:
        self.id = f"{self.id_prefix}_{token}{position:02x}"
        self.position = position
        self.is_open = True
        self.status = "in_progress"

    @abstractmethod
    def value(self) -> dict[str, Any]:
        """The item as it stands."""

    @abstractmethod
    def _end_content(self) -> list[Event]: ...

    @property
    @abstractmethod
    def is_whole(self) -> bool:
        """Whether nothing can follow once another item has begun."""

    def add(self) -> list[Event]:
        return [self._of_item("response.output_item.added")]

    def close(self, status: str) -> list[Event]:
        self.is_open = False
        events = self._end_content()
        self.status = status
        return [*events, self._of_item("response.output_item.done")]

    def _of_item(self, kind: str) -> Event:
        return {"type": kind, "output_index": self.position, "item": self.value()}

    def _of_content(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "item_id": self.id, "output_index": self.position, **fields}


class Message(OutputItem):
    """What the assistant says: a text, a refusal, or one after the other."""

    id_prefix = "msg"

    is_whole = True

    def __init__(self, token: str, position: int) -> None:
        super().__init__(token, position)
        self._kinds: list[str] = []
        self._pieces: dict[str, list[str]] = {}
        self._logprobs: list[dict[str, Any]] = []

    def say(self, text: str, logprobs: list[dict[str, Any]]) -> list[Event]:
        events = self._begin("output_text")
        self._pieces["output_text"].append(text)
        self._logprobs += logprobs
        return [*events, self._of_part("response.output_text.delta", delta=text, logprobs=logprobs)]

    def note(self, logprobs: list[dict[str, Any]]) -> None:
        """Keep the log probabilities of tokens that came without text of their own."""
        self._logprobs += logprobs

    def refuse(self, refusal: str) -> list[Event]:
        events = self._begin("refusal")
        self._pieces["refusal"].append(refusal)
        return [*events, self._of_part("response.refusal.delta", "refusal", delta=refusal)]

    def value(self) -> dict[str, Any]:
        content = [] if self.is_open else [self._part(kind) for kind in self._kinds]
        return {
            "id": self.id,
            "type": "message",
            "status": self.status,
            "role": "assistant",
            "content": content,
        }

    def _begin(self, kind: str) -> list[Event]:
        if kind in self._kinds:
            return []
        self._kinds.append(kind)
        self._pieces[kind] = []
        return [self._of_part("response.content_part.added", kind, part=self._part(kind))]

    def _part(self, kind: str) -> dict[str, Any]:
        text = "".join(self._pieces[kind])
        if kind == "refusal":
            return {"type": kind, "refusal": text}
        return {"type": kind, "text": text, "annotations": [], "logprobs": list(self._logprobs)}

    def _of_part(self, event: str, kind: str = "output_text", **fields: Any) -> Event:
        return self._of_content(event, content_index=self._kinds.index(kind), **fields)

    def _end_content(self) -> list[Event]:
        events = []
        for kind in self._kinds:
            part = self._part(kind)
            if kind == "refusal":
                said = {"refusal": part["refusal"]}
            else:
                said = {"text": part["text"], "logprobs": part["logprobs"]}
            events += [
                self._of_part(f"response.{kind}.done", kind, **said),
                self._of_part("response.content_part.done", kind, part=part),
            ]
        return events


class Call(OutputItem):
    """A call of one of the client's tools, under the id and name that the client knows. What it is called
    with comes in pieces."""

    kind: str
    input_name: str

    def __init__(
        self, token: str, position: int, heard: HeardCall, call_id: str, name: str, namespace: str
    ) -> None:
        super().__init__(token, position)
        self.call_id = call_id
        self.name = name
        self._namespace = {"namespace": namespace} if namespace else {}
        self._heard = heard
        self._input = ""  # stays empty until it is whole

    @property
    def is_whole(self) -> bool:
        return self._heard.is_whole

    def extend(self, piece: str) -> list[Event]:
        """Tell of a piece that has been heard."""
        return [self._of_content(f"response.{self.kind}_{self.input_name}.delta", delta=piece)]

    def value(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": self.kind,
            "status": self.status,
            self.input_name: self._input,
            "call_id": self.call_id,
            "name": self.name,
            **self._namespace,
        }

    def _end_content(self) -> list[Event]:
        self._input = self._heard.text
        whole = {self.input_name: self._input}
        return [self._of_content(f"response.{self.kind}_{self.input_name}.done", **whole)]


class FunctionCall(Call):
    id_prefix = "fc"
    kind = "function_call"
    input_name = "arguments"

    def close(self, status: str) -> list[Event]:
        if status != "completed" or self._heard.text.strip():
            return super().close(status)
        # A call without arguments; clients read them as JSON all the same.
        self._heard.add("{}")
        return self.extend("{}") + super().close(status)


class CustomToolCall(Call):
    id_prefix = "ctc"
    kind = "custom_tool_call"
    input_name = "input"
