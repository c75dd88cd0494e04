"""The gunicorn worker: gevent's, with three habits of its own.

- What is no HTTP, such as a broken request line, is answered in OpenAI's shape like any other error.
- Connections that idle between two requests do not hold up a stop; requests in work do.
- Answers still in work when the time for stopping is nearly over are ended while they can still be billed:
  the master kills a worker at its `graceful_timeout`, which no `finally` survives.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from http import HTTPStatus
from types import FrameType, TracebackType
from typing import Any, Literal, cast

import gevent
from gunicorn import util
from gunicorn.http import errors as http_errors
from gunicorn.workers.ggevent import GeventWorker

from gateway.errors import GatewayError, InvalidRequest

SECONDS_TO_BILL = 2
STOPPING_KEEPALIVE_SECONDS = 0.1
OUR_HEADER_ERRORS = (
    http_errors.InvalidResponseHeader,  # type: ignore[attr-defined]
    http_errors.InvalidResponseHeaderName,  # type: ignore[attr-defined]
)
PROTOCOL_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (http_errors.LimitRequestLine, 414),
    (http_errors.LimitRequestHeaders, 431),
    (http_errors.ExpectationFailed, 417),
    (http_errors.UnsupportedTransferCoding, 501),
    (http_errors.ParseException, 400),
    (http_errors.InvalidChunkSize, 400),
    (http_errors.ChunkMissingTerminator, 400),
    (http_errors.InvalidChunkExtension, 400),
)


class IdleWait(gevent.Timeout):
    """The wait for the next request of a connection, known to the worker while it lasts."""

    def __init__(self, seconds: float, waits: dict[IdleWait, gevent.Greenlet[..., Any]]) -> None:
        super().__init__(seconds, False)  # type: ignore[arg-type]
        self._waits = waits

    def __enter__(self) -> IdleWait:
        self._waits[self] = cast("gevent.Greenlet[..., Any]", gevent.getcurrent())
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Literal[True] | None:
        self._waits.pop(self, None)
        return super().__exit__(kind, error, traceback)


class GatewayWorker(GeventWorker):
    """gevent's worker with the habits that this module describes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waits: dict[IdleWait, gevent.Greenlet[..., Any]] = {}

    def init_process(self) -> None:
        # In this process only: the master keeps the full time.
        self.cfg.set("graceful_timeout", max(1, self.cfg.graceful_timeout - SECONDS_TO_BILL))
        super().init_process()

    def timeout_ctx(self) -> IdleWait:  # type: ignore[override]
        return IdleWait(self.cfg.keepalive if self.alive else STOPPING_KEEPALIVE_SECONDS, self._waits)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        for wait, connection in list(self._waits.items()):
            # As if its keep-alive time were over: closed without a word, as HTTP allows.
            connection.kill(wait, block=False)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer what the application never saw. Neither answer nor log repeats what the client sent,
        since that may hold a key."""
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


def refusal_of(error: BaseException) -> GatewayError:
    """What the client is told about an error of gunicorn's own."""
    if isinstance(error, OUR_HEADER_ERRORS):
        return GatewayError("The gateway failed to answer this request; its log has the request id.")
    for kind, status in PROTOCOL_ERRORS:
        if isinstance(error, kind):
            refused = InvalidRequest(
                f"{HTTPStatus(status).phrase}: this is no HTTP request that can be read."
            )
            refused.status = status
            return refused
    return GatewayError("The gateway failed to handle this request; its log has the request id.")
