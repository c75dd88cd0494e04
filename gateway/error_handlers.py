"""Turns every failure of a view, foreseen or not, into an answer in the shape of the client's API."""

from __future__ import annotations

import logging

from flask import Flask, Response, g, request
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from gateway.apis import Api
from gateway.error_shapes import api_of_path, error_body
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    RequestTooLarge,
    UnknownPath,
    WrongMethod,
    forget_frames,
)

logger = logging.getLogger(__name__)


def register_error_handlers(app: Flask) -> None:
    """Answer all exceptions of `app`."""

    @app.errorhandler(Exception)
    def answer_error(error: Exception) -> Response:
        translated = translate(error)
        if translated.status == 500:
            logger.error("unexpected error", exc_info=error, extra={"request_id": g.exchange.request_id})
        forget_frames(error)
        g.exchange.error = translated
        return error_response(translated, api_of_path(request.path))


def error_response(error: GatewayError, api: Api = Api.CHAT_COMPLETIONS) -> Response:
    """The whole answer for a request that has not been answered yet."""
    body = error_body(api, error)
    return Response(body, error.status, mimetype="application/json", headers=error.headers)


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
