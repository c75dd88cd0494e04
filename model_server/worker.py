"""gunicorn's gevent worker, stopping promptly and reporting protocol errors as JSON."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from socket import socket
from typing import Any

import gevent
from greenlet import greenlet
from gunicorn import util
from gunicorn.http import Request, errors
from gunicorn.workers.ggevent import GeventWorker

from model_server.errors import error_body

STATUS_OF_ERROR: dict[type[Exception], HTTPStatus] = {
    errors.ForbiddenProxyRequest: HTTPStatus.FORBIDDEN,
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}
SERVER_FAULTS = (
    errors.ConfigurationProblem,
    errors.InvalidResponseHeader,  # type: ignore[attr-defined]  # newer than the stubs
    errors.InvalidResponseHeaderName,  # type: ignore[attr-defined]
)


class ModelWorker(GeventWorker):
    """Once told to stop, finishes the requests in work and waits for no other.

    gunicorn enters `timeout_ctx` exactly while a connection waits for its next request's head, and calls
    `notify` every second, also while it drains. Every such wait is kept here; draining ends them all by
    raising the wait's own timeout, the way gunicorn closes a connection whose keep-alive time is over.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waits: dict[gevent.Timeout, greenlet] = {}

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:  # type: ignore[override]  # the stub says None
        """Bound the wait for a request's head by `keepalive` seconds, or by the worker's stop."""
        with gevent.Timeout(self.cfg.keepalive, False) as wait:  # type: ignore[arg-type]  # False: end silently
            self._waits[wait] = gevent.getcurrent()
            try:
                yield
            finally:
                del self._waits[wait]

    def notify(self) -> None:
        """Tell the arbiter that the worker lives; while it stops, close the idle connections."""
        super().notify()
        if not self.alive:
            # In the event loop's own callback nothing can run between the look at a wait and its end, so
            # no request that has just begun is ever interrupted.
            gevent.get_hub().loop.run_callback(self._end_waits)

    def _end_waits(self) -> None:
        for wait, waiting in list(self._waits.items()):
            if wait in self._waits:
                waiting.throw(wait)

    def handle_error(self, req: Request | None, client: socket, addr: Any, exc: BaseException) -> None:
        """Answer what never became a request as OpenAI's error object, and close the connection."""
        if isinstance(exc, errors.ParseException) and not isinstance(exc, SERVER_FAULTS):
            status = STATUS_OF_ERROR.get(type(exc), HTTPStatus.BAD_REQUEST)
            message = str(exc)
            self.log.warning("Invalid request: %s", message)
        elif isinstance(exc, Exception):
            status, message = HTTPStatus.INTERNAL_SERVER_ERROR, "The server had an error."
            self.log.exception("Error handling request")
        else:
            return  # the worker is ending this connection: there is nobody to blame
        body = json.dumps(error_body(status, message)).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            util.write_nonblock(client, head.encode("ascii") + body)
            # The rest of the request is still arriving; closing on it would reset the answer away.
            util.close_graceful(client)
        except OSError:
            self.log.debug("The client left before it could be told.")
