"""Every error that a client can get, in OpenAI's shape.

GatewayError
├── InvalidRequest          400  ill-formed request; `param` names the field
├── ModelNotFound           404  `model` names nothing that is configured
├── RequestTimeout          408  the client did not send its body in time
├── RequestTooLarge         413  the body is over the limit
├── UpstreamError           502  the provider failed or answered nonsense
├── LedgerUnavailable       503  Redis cannot take the bill, so no answer is given away
└── UpstreamTimeout         504  the provider took too long
"""

from __future__ import annotations

import json
import logging
from typing import TypedDict

from flask import Flask, Response, g
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from gateway.billing import Usage

logger = logging.getLogger(__name__)


class ErrorDetail(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    error: ErrorDetail


class GatewayError(Exception):
    """An answer other than 2xx, with the status, type and code that the client gets."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = headers or {}

    def body(self) -> ErrorBody:
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> Response:
        """The whole answer for a request that has not been answered yet."""
        return Response(
            json.dumps(self.body()), self.status, mimetype="application/json", headers=self.headers
        )

    def sse_event(self) -> bytes:
        """The event that ends a stream whose status line has already been sent."""
        return b"data: " + json.dumps(self.body()).encode() + b"\n\n"


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = None


class UnknownPath(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class WrongMethod(GatewayError):
    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTimeout(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class RequestTooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UpstreamError(GatewayError):
    """`usage` is what the provider stated for the failed call, which it will bill."""

    status = 502
    code = "upstream_error"

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class LedgerUnavailable(GatewayError):
    status = 503
    code = "ledger_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "1"})


def translate(error: Exception) -> GatewayError:
    """The client's view of any exception; what is not ours or HTTP's becomes a silent 500."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, RequestEntityTooLarge):
        return RequestTooLarge("The request body is larger than this gateway accepts.")
    if isinstance(error, MethodNotAllowed):
        allow = ", ".join(sorted(error.valid_methods or ()))
        return WrongMethod(f"This path answers only: {allow}.", headers={"Allow": allow})
    if isinstance(error, NotFound):
        return UnknownPath("There is nothing at this path.")
    if isinstance(error, BadRequest):
        return InvalidRequest("The request is malformed or its body ended early.")
    if isinstance(error, HTTPException) and error.code is not None and error.code < 500:
        refused = InvalidRequest(error.name)
        refused.status = error.code
        return refused
    return GatewayError("The gateway failed to handle this request; its log has the request id.")


def register_error_handlers(app: Flask) -> None:
    """Make every failure of a view, foreseen or not, an answer in OpenAI's shape."""

    @app.errorhandler(Exception)
    def answer_error(error: Exception) -> Response:
        translated = translate(error)
        if translated.status == 500:
            logger.error("unexpected error", exc_info=error, extra={"request_id": g.exchange.request_id})
        g.exchange.error = translated
        return translated.response()
