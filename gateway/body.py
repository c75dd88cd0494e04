"""Request bodies: read within a time and within the bytes that a worker may have in work, and parsed so that
big ones hold up nobody.

There is no least rate: a slow client holds a connection until the time is over, and of the bytes only those
that it has sent. What is declared is never reserved, or a few clients could reserve all without sending it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cached_property
from io import BytesIO
from typing import TypeVar

import gevent
from gevent.threadpool import ThreadPool
from gunicorn.http.errors import ParseException

from gateway.errors import GatewayError, InvalidRequest, RequestTimeout, RequestTooLarge, WorkerStopping
from gateway.incoming import Incoming, Source
from gateway.overload import Slot, Slots
from gateway.schema.base import ModelRequest

# Of each body so much is not counted, so that big ones never stand in the way of the usual ones.
UNCOUNTED_BYTES = 16 * 1024
READ_BYTES = 256 * 1024
# From here on parsing may take so long that others would feel it.
BIG_BYTES = 256 * 1024
SWITCH_SECONDS = 0.001

Parsed = TypeVar("Parsed")


class Bodies:
    """The bodies of a worker's requests: each may have `most` bytes and take `timeout` seconds to come, and
    those over `UNCOUNTED_BYTES` take `room`, a byte a slot, until their requests have been answered to the
    end."""

    def __init__(self, most: int, timeout: float, room: Slots) -> None:
        self._most = most
        self._timeout = timeout
        self._room = room

    @cached_property
    def _parser(self) -> ThreadPool:
        # One thread: big bodies wait for each other, and so does the memory that parsing takes. The event
        # loop, which goes on meanwhile, need not wait for it any longer than this each time.
        sys.setswitchinterval(SWITCH_SECONDS)
        return ThreadPool(1)

    def parsed(
        self, incoming: Incoming, parse: Callable[[bytes], Parsed], within: float = math.inf
    ) -> Parsed:
        """What `parse` makes of the body of a request, which has no more than `within` seconds to
        come; of a big one in a thread, where it must not touch the request.

        :raises GatewayError: what `read` and `parse` raise
        """
        body = self.read(incoming, within)
        if len(body) < BIG_BYTES:
            return parse(body)
        try:
            parsed: Parsed | GatewayError = self._parser.apply(_measured, (parse, body))
        except gevent.GreenletExit:
            raise WorkerStopping from None
        if isinstance(parsed, GatewayError):
            raise parsed
        return parsed

    def read(self, incoming: Incoming, within: float = math.inf) -> bytes:
        """The body of a request, which has no more than `within` seconds to come.

        :raises RequestTimeout: when it has not come whole in time
        :raises Overloaded: when there is no room for it
        :raises InvalidRequest: when it ends early or its chunks are malformed
        :raises RequestTooLarge: when it is over the limit
        :raises WorkerStopping: when there is no time left to wait for it
        """
        length, most = incoming.content_length, self._most
        if length is not None and length > most:
            raise RequestTooLarge
        if incoming.whole_body is not None and len(incoming.whole_body) <= UNCOUNTED_BYTES:
            return incoming.whole_body
        broken = InvalidRequest("The request body ended early or is malformed.")
        taken = _Room(self._room)
        try:
            seconds = max(0.0, min(self._timeout, within))
            with gevent.Timeout(seconds, _late(seconds)):
                body = _received(incoming.body, length, most, taken)
            if len(body) < (length or 0):
                raise broken
        except (OSError, ParseException) as error:
            taken.free()
            raise broken from error
        except gevent.GreenletExit:
            taken.free()
            raise WorkerStopping from None
        except BaseException:
            taken.free()
            raise
        if taken.is_counted:
            incoming.at_end.append(taken.free)
        return body


def _late(seconds: float) -> RequestTimeout:
    return RequestTimeout(f"The request body did not arrive within {seconds:g} seconds.")


class _Room:
    """What one body has taken of the room that bodies share."""

    def __init__(self, room: Slots) -> None:
        self.size = UNCOUNTED_BYTES
        self._room = room
        self._slots: list[Slot] = []

    def double(self, most: int | None) -> None:
        """Take as much again, but no more than `most` altogether.

        :raises Overloaded: when there is no room
        """
        more = self.size if most is None else min(self.size, most - self.size)
        self._slots.append(self._room.take(more))
        self.size += more

    def free(self) -> None:
        for slot in self._slots:
            slot.free()

    @property
    def is_counted(self) -> bool:
        return bool(self._slots)


def _received(source: Source, length: int | None, most: int, room: _Room) -> bytes:
    """All that comes, up to `length` where that is known; less where the client ends early.

    :raises RequestTooLarge: with the first byte that is too much
    """
    received = BytesIO()
    while (come := received.tell()) != length:
        if come == room.size:
            room.double(length)
        # No read may wait for bytes that are not needed.
        ends = [room.size - come, READ_BYTES]
        ends.append(most + 1 - come if length is None else length - come)
        piece = source.read(min(ends))
        if not piece:
            break
        received.write(piece)
        if received.tell() > most:
            raise RequestTooLarge
    return received.getvalue()


def _measured(parse: Callable[[bytes], Parsed], body: bytes) -> Parsed | GatewayError:
    """What `parse` makes of a body, with what is remembered of it once it has been worked out; or the error
    that it raises, since gevent logs those that leave a thread."""
    try:
        parsed = parse(body)
    except GatewayError as error:
        return error
    if isinstance(parsed, ModelRequest):
        _ = parsed.prompt_tokens, parsed.user_characters, parsed.capabilities
    return parsed
