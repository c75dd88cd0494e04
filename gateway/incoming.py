"""A request as the gateway's own code sees it, and the answer to it, whatever server and framework they come
through: `lean_http.py`, or gunicorn and Flask (`app.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

JSON_TYPE = "application/json"


class RequestHeaders:
    """The headers of a request, by name in any case; `values` has them by their names in lower case."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    @classmethod
    def of(cls, items: Iterable[tuple[str, str]]) -> RequestHeaders:
        return cls({name.lower(): value for name, value in items})

    def get(self, name: str, default: str | None = None) -> str | None:
        return self._values.get(name.lower(), default)

    def without(self, name: str) -> RequestHeaders:
        """All but the header of this name."""
        return RequestHeaders({each: value for each, value in self._values.items() if each != name.lower()})

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values


class Source(Protocol):
    """Where a body is read from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, as soon as there are any; none at the end."""
        ...


@dataclass(slots=True)
class Incoming:
    """One request. `content_length` is None where the body comes in chunks; `whole_body` is that which has
    come with the head. `connection` is the client's socket, None where there is none. What is in `at_end` is
    called once the answer has been sent or given up."""

    method: str
    path: str
    headers: RequestHeaders
    body: Source
    content_length: int | None
    connection: Any = None
    whole_body: bytes | None = None
    at_end: list[Callable[[], None]] = field(default_factory=list)

    def end(self) -> None:
        """Call what waits for the end, each once, whatever the others do."""
        while self.at_end:
            call = self.at_end.pop(0)
            try:
                call()
            except BaseException:
                self.end()
                raise


@dataclass(slots=True)
class Reply:
    """One answer. Pieces of a `body` that is not whole go out one by one, as they come; one that has `close`
    is closed behind the last."""

    status: int
    headers: dict[str, str]
    body: bytes | Iterable[bytes]

    @classmethod
    def json(cls, status: int, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        return cls(status, {"Content-Type": JSON_TYPE, **(headers or {})}, body)

    @classmethod
    def events(cls, events: Iterable[bytes], headers: dict[str, str]) -> Reply:
        """A streamed answer. Proxies in front, such as nginx, would hold it back but for the last header."""
        return cls(
            200,
            {
                "Content-Type": "text/event-stream; charset=utf-8",
                **headers,
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
            },
            events,
        )
