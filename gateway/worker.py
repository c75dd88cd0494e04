"""The gunicorn worker: gevent's, with habits of its own.

- What is no HTTP, such as a broken request line, is answered in OpenAI's shape like any other error.
- A client that takes its answer too slowly is given up, with its provider's connection.
- A worker that is replaced takes no further connections and serves those that it has: until they have been
  idle for a moment, or have got one more answer. Where the whole service stops there is nobody else, so it
  goes on accepting, to refuse politely, as long as anything is in work.
- Answers still in work when the time for stopping is nearly over are ended while they can still be billed:
  the master kills a worker at its `graceful_timeout`, which no `finally` survives.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http import errors as http_errors
from gunicorn.workers.base_async import AsyncWorker
from gunicorn.workers.ggevent import GeventWorker

from gateway.client_socket import ClientSocket
from gateway.config import Settings
from gateway.error_shapes import api_of_path, error_body
from gateway.errors import GatewayError, InvalidRequest, WorkerStopping
from gateway.idle import Connection, Idle
from gateway.stopping import service_stops

if TYPE_CHECKING:
    from flask import Flask

    from gateway.lean_http import LeanConnection

SECONDS_TO_BILL = 3
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LOOKS_WHILE_STOPPING = 0.05
# A client that has just had its answer may be about to ask again, and would find its connection closed.
SECONDS_OF_COURTESY = 5.0
SECONDS_OF_COURTESY_WHEN_ALL_STOP = 1.0
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


@dataclass(frozen=True)
class _Bound:
    """What a connection needs of its listener, which may be closed before its greenlet begins."""

    name: Any

    def getsockname(self) -> Any:
        return self.name


class GatewayWorker(GeventWorker):
    """gevent's worker with the habits that this module describes.

    gunicorn calls `handle` once per connection, in a greenlet of its own, and enters `timeout_ctx` exactly
    while that connection waits for its next request's head.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clients: dict[Connection, ClientSocket] = {}
        self._idle = Idle()
        self._told_to_stop = Event()
        self._cutting = False
        settings = Settings.from_env()
        self._client_stall_timeout = settings.client_stall_timeout
        self._is_lean = settings.http_server == "lean"
        self._lean: Callable[[ClientSocket], LeanConnection] | None = None

    def run(self) -> None:
        servers = [self._start_server(listener) for listener in self.sockets]
        # The look at the byte also finds a stop whose signal came too early in this worker's life.
        while self.alive and not service_stops():
            self.notify()
            self._idle.end(self.cfg.keepalive, lambda connection: True)
            self._told_to_stop.wait(SECONDS_BETWEEN_LOOKS)
        self.alive = False
        self._finish(servers)

    def _start_server(self, listener: Any) -> StreamServer:
        listener.setblocking(True)
        handle = partial(self.handle, _Bound(listener.getsockname()))
        server = StreamServer(listener, handle=handle, spawn=Pool(self.worker_connections))
        if self.cfg.workers > 1:
            server.max_accept = 1  # the others want some too
        server.start()
        return server

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._told_to_stop.set()

    def _finish(self, servers: list[StreamServer]) -> None:
        """Return when nothing is in work any more, or when the time for stopping is over."""
        began = time.monotonic()
        came_before = _connections(servers)
        accepting = True
        while time.monotonic() - began < self.cfg.graceful_timeout:
            self.notify()
            connections = _connections(servers)
            late = time.monotonic() - began > self.cfg.graceful_timeout - SECONDS_TO_BILL
            # Who comes now is refused, and must not keep the worker from its end.
            if accepting and (late or not service_stops() or connections.isdisjoint(came_before)):
                accepting = False
                for server in servers:
                    server.close()
            if not accepting and not connections:
                return
            if late and not self._cutting:
                # Once only: a second blow would hit while the first is being billed.
                self._cutting = True
                for client in self._clients.values():
                    client.close_after_answer()  # a further request could no longer be billed
                gevent.killall(list(connections), block=False)
            courtesy = SECONDS_OF_COURTESY_WHEN_ALL_STOP if service_stops() else SECONDS_OF_COURTESY
            # As if its keep-alive time were over: closed without a word, as HTTP allows.
            self._idle.end(courtesy, lambda connection: not self._clients[connection].has_arrived())
            gevent.sleep(SECONDS_BETWEEN_LOOKS_WHILE_STOPPING)
        self.log.warning("a connection outlives the time for stopping")

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        connection = _current_greenlet()
        self._clients[connection] = client = ClientSocket(client, self._client_stall_timeout)
        try:
            if self._lean is None or self._serve_lean(client, self._lean(client)):
                super().handle(listener, client, addr)
        finally:
            del self._clients[connection]
            client.request = None  # which refers to its connection

    def load_wsgi(self) -> None:
        super().load_wsgi()
        if self._is_lean:
            # Only now, since what it imports has to find the patched library.
            from gateway.lean_http import LeanConnection
            from gateway.serve import answered

            answer = partial(answered, cast("Flask", self.wsgi).extensions["gateway"])
            self._lean = partial(
                LeanConnection, answer=answer, idle=self._idle.wait, keeps=lambda: self.alive
            )

    def _serve_lean(self, client: ClientSocket, lean: LeanConnection) -> bool:
        """Whether the connection goes on with gunicorn."""
        rest = b""
        try:
            rest = lean.serve()
        except gevent.GreenletExit:
            if lean.path and not client.has_written:
                self._refuse(client, WorkerStopping(), lean.path)
        except OSError:
            pass  # the client is gone, or takes its answer too slowly
        except Exception as error:
            if client.has_written:  # more would be taken for a part of the answer
                self.log.exception("an answer could not be sent whole")
            else:
                self._refuse(client, refusal_of(error), lean.path, error)
        if not rest:
            util.close(client)
            return False
        client.put_back(rest)
        return True

    def timeout_ctx(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return self._idle.wait()

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> bool:
        sock.begin_answer(req)
        try:
            AsyncWorker.handle_request(self, listener_name, req, sock, addr)
        except (gevent.GreenletExit, TimeoutError) as end:
            # A half-written answer leaves nothing more to say on this connection.
            if isinstance(end, gevent.GreenletExit) and not sock.has_written:
                self._refuse(sock, WorkerStopping(), req.path)
            raise StopIteration from None
        finally:
            sock.settimeout(None)  # the application may have set one for its answer
        # Neither request nor answer need have waited for anything, and the next may have come already.
        gevent.sleep(0)
        return True

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what the application never saw. Neither answer nor log repeats what the client sent,
        since that may hold a key."""
        if isinstance(exc, Exception):  # else the worker itself ends this connection
            self._refuse(client, refusal_of(exc), "", exc)

    def _refuse(
        self, client: Any, refused: GatewayError, path: str, cause: BaseException | None = None
    ) -> None:
        request_id = uuid.uuid4().hex
        facts = {"request_id": request_id, "status": refused.status, "cause": type(cause or refused).__name__}
        if refused.status == 500:
            self.log.exception("unexpected error", extra=facts)
        else:
            self.log.info("refused before the application saw it", extra=facts)
        body = error_body(api_of_path(path), refused)
        headers = {
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "X-Request-Id": request_id,
            **refused.headers,
        }
        lines = [f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with contextlib.suppress(OSError):
            util.write_nonblock(client, "\r\n".join([*lines, "", ""]).encode() + body)
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


def _connections(servers: list[StreamServer]) -> set[Connection]:
    return {connection for server in servers for connection in server.pool or ()}


def _current_greenlet() -> Connection:
    return cast("Connection", gevent.getcurrent())
