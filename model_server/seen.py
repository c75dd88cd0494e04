"""The heads of the latest requests, for tests of what a gateway passes on: their names are told, their values
are not."""

from collections import deque
from dataclasses import dataclass

from flask import Request

MAX_REMEMBERED_REQUESTS = 1000


@dataclass(frozen=True)
class SeenRequest:
    """A request as it came: its path, the names of its headers, and all of its head as one text."""

    path: str
    header_names: tuple[str, ...]
    head: str


class SeenRequests:
    """Remembers the latest requests, the oldest forgotten first."""

    def __init__(self) -> None:
        self._requests: deque[SeenRequest] = deque(maxlen=MAX_REMEMBERED_REQUESTS)

    def note(self, request: Request) -> None:
        """Remember a request; its body is left to whoever answers it."""
        headers = tuple(request.headers)
        head = "\n".join([request.full_path, *(f"{name}: {value}" for name, value in headers)])
        names = tuple(sorted(name.lower() for name, _ in headers))
        self._requests.append(SeenRequest(request.path, names, head))

    def as_json(self, canary: str | None) -> list[dict[str, object]]:
        """What is told of each, the oldest first: `path`, `headers` (names), and with a `canary` whether the
        head holds that text."""
        return [
            {"path": seen.path, "headers": list(seen.header_names)}
            | ({} if canary is None else {"canary": canary in seen.head})
            for seen in self._requests
        ]
