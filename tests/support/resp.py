"""The borders of messages in Redis's protocol, both versions of it, as they come in pieces."""

from __future__ import annotations

END = b"\r\n"
# How many messages follow for each that is announced; an attribute comes before the reply it belongs to.
MEMBERS = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
WITH_LENGTH = (b"$", b"!", b"=")
PUSH = b">"


class Messages:
    """Cuts one direction of a connection into its messages: requests or replies."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole with these bytes, in order; what is left waits for more."""
        self._pending += data
        whole = []
        start = 0
        while (end := _end_of_message(self._pending, start)) is not None:
            whole.append(self._pending[start:end])
            start = end
        self._pending = self._pending[start:]
        return whole


def _end_of_message(data: bytes, start: int) -> int | None:
    """Where the message ends that begins at `start`; `None` while a part of it is missing."""
    missing, at = 1, start
    while missing:
        line_end = data.find(END, at)
        if line_end < 0:
            return None
        kind, number, at = data[at : at + 1], data[at + 1 : line_end], line_end + len(END)
        missing -= 1
        if kind in WITH_LENGTH and int(number) >= 0:
            at += int(number) + len(END)
            if at > len(data):
                return None
        elif kind in MEMBERS:
            missing += max(int(number), 0) * MEMBERS[kind] + (kind == b"|")
    return at
