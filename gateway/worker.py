"""The gunicorn worker: gevent's, with four habits of its own.

- What is no HTTP, such as a broken request line, is answered in OpenAI's shape like any other error.
- Connections that idle between two requests do not hold up a stop; requests in work do.
- Answers still in work when the time for stopping is nearly over are ended while they can still be billed:
  the master kills a worker at its `graceful_timeout`, which no `finally` survives.
- A client that stops reading its answer is given up in the end, with its provider's connection.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from types import FrameType
from typing import Any, TypeAlias, cast

import gevent
from gunicorn import util
from gunicorn.http import errors as http_errors
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from gateway.config import Settings
from gateway.errors import GatewayError, InvalidRequest

SECONDS_TO_BILL = 3
OUR_HEADER_ERRORS = (
    http_errors.InvalidResponseHeader,  # type: ignore[attr-defined] # newer than the stubs
    http_errors.InvalidResponseHeaderName,  # type: ignore[attr-defined]
)
PROTOCOL_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (http_errors.LimitRequestLine, 414),
    (http_errors.LimitRequestHeaders, 431),
    (http_errors.ExpectationFailed, 417),
    (http_errors.UnsupportedTransferCoding, 501),
    (http_errors.ParseException, 400),
)
Connection: TypeAlias = "gevent.Greenlet[..., Any]"


class GatewayWorker(GeventWorker):
    """gevent's worker with the habits that this module describes.

    gunicorn calls `handle` once per connection, enters `timeout_ctx` exactly while a connection waits for
    its next request's head, and calls `notify` every second, also while it drains.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections: set[Connection] = set()
        self._idle: dict[gevent.Timeout, Connection] = {}
        self._stopping_since: float | None = None
        self._cutting = False
        self._client_stall_timeout = Settings.from_env().client_stall_timeout

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        bound_writes(client, self._client_stall_timeout)
        connection = _current_greenlet()
        self._connections.add(connection)
        try:
            super().handle(listener, client, addr)
        finally:
            self._connections.discard(connection)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        try:
            AsyncWorker.handle_request(self, listener_name, req, sock, addr)
        except (gevent.GreenletExit, TimeoutError):
            # The answer may stand half written: nothing more can be said on this connection.
            raise StopIteration from None
        if self._cutting:
            raise StopIteration  # a further request could no longer be billed
        return True

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:  # type: ignore[override]
        with gevent.Timeout(self.cfg.keepalive, False) as wait:  # type: ignore[arg-type]
            self._idle[wait] = _current_greenlet()
            try:
                yield
            finally:
                del self._idle[wait]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._stopping_since = self._stopping_since or time.monotonic()

    def notify(self) -> None:
        super().notify()
        if self.alive:
            return
        # In a callback of the event loop, so that no request can begin between the look and the end.
        gevent.get_hub().loop.run_callback(self._end_idle)
        since = self._stopping_since or time.monotonic()
        if time.monotonic() - since > self.cfg.graceful_timeout - SECONDS_TO_BILL:
            self._cutting = True
            # Each once: a second blow would hit while the first is being billed.
            ending, self._connections = self._connections, set()
            gevent.killall(list(ending), block=False)

    def _end_idle(self) -> None:
        for wait, connection in list(self._idle.items()):
            if wait in self._idle:
                # As if its keep-alive time were over: closed without a word, as HTTP allows.
                connection.throw(wait)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what the application never saw. Neither answer nor log repeats what the client sent,
        since that may hold a key."""
        if not isinstance(exc, Exception):
            return  # the worker itself ends this connection
        refused = refusal_of(exc)
        request_id = uuid.uuid4().hex
        facts = {"request_id": request_id, "status": refused.status, "cause": type(exc).__name__}
        if refused.status == 500:
            self.log.exception("unexpected error", extra=facts)
        else:
            self.log.info("refused what is no valid HTTP", extra=facts)
        body = json.dumps(refused.body()).encode()
        head = (
            f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}\r\n"
            "Connection: close\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n"
            f"X-Request-Id: {request_id}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            util.write_nonblock(client, head.encode() + body)
            # What the client still sends would otherwise reset the answer away.
            util.close_graceful(client)


def refusal_of(error: Exception) -> GatewayError:
    """What the client is told about an error of gunicorn's own."""
    if not isinstance(error, OUR_HEADER_ERRORS):
        for kind, status in PROTOCOL_ERRORS:
            if isinstance(error, kind):
                refused = InvalidRequest(
                    f"{HTTPStatus(status).phrase}: this cannot be read as an HTTP request."
                )
                refused.status = status
                return refused
    return GatewayError("The gateway failed to handle this request; its log has the request id.")


def bound_writes(client: Any, seconds: int) -> None:
    """End a connection whose client takes nothing of what is written for so long; Linux only."""
    if hasattr(socket, "TCP_USER_TIMEOUT") and client.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # gone already
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)


def _current_greenlet() -> Connection:
    return cast("Connection", gevent.getcurrent())
