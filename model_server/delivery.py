"""An answer as it goes to the client: in one piece, or as server-sent events."""

import json
from dataclasses import dataclass
from typing import Protocol

from model_server.completion import Usage

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Chunk:
    """One event of a stream: its JSON, the output tokens that it carries, and its name where it has one."""

    data: str
    tokens: int
    name: str | None = None

    @property
    def event(self) -> bytes:
        """The chunk as a server-sent event."""
        head = "" if self.name is None else f"event: {self.name}\n"
        return f"{head}data: {self.data}\n\n".encode()


@dataclass(frozen=True)
class Whole:
    """An answer in one piece of JSON; without `usage` it costs nothing."""

    body: bytes
    usage: Usage | None


@dataclass(frozen=True)
class Stream:
    """An answer in events; `end` is the last one, which tells the client that the answer is whole."""

    chunks: list[Chunk]
    end: bytes
    usage: Usage


class Dialect(Protocol):
    """An API that the model speaks."""

    def answer(self, body: bytes, *, states_usage: bool) -> Whole | Stream:
        """Answer a request's body, leaving the usage unsaid where `states_usage` is false.

        Raises `ApiError` for a request that cannot be answered.
        """
        ...


def to_json(value: object) -> str:
    """A value as JSON text, characters left as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
