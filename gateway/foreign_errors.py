"""The client's view of any exception."""

from __future__ import annotations

from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)

from gateway.errors import GatewayError, InvalidRequest, RequestTooLarge, UnknownPath, WrongMethod


def translate(error: Exception) -> GatewayError:
    """The client's view of any exception; what is not ours or HTTP's becomes a silent 500."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, RequestEntityTooLarge):
        return RequestTooLarge()
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
