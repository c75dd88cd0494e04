"""Every error that a client can get, in OpenAI's shape.

GatewayError
├── InvalidRequest          400  ill-formed request, or one that no model can answer; `param` names the field
│   ├── ContextTooLong      400  longer than the context window of every model
│   └── RequestTooDear      400  it can cost more than its client or the settings allow
├── InvalidApiKey           401  no key, or one that is not (or no longer) valid
├── CrossSiteRequest        403  a web page of another site made a browser send it
├── ModelNotAllowed         403  the key may not use this model
├── UnknownPath             404  nothing is at this path
├── KeyNotFound             404  no virtual key has this id
├── RequestNotFound         404  no request of this id is remembered
├── ModelNotFound           404  `model` names nothing that is configured
├── WrongMethod             405  the path answers other methods, which `Allow` names
├── RequestTimeout          408  the client did not send its body in time
├── RequestTooLarge         413  the body is over the limit
├── RateLimitExceeded       429  the key has had its requests or tokens of this minute
├── InsufficientQuota       429  a budget has not enough left
├── ClientClosedRequest     499  the client left before its answer; for the log, as nginx has it
├── UpstreamError           502  the provider failed or answered nonsense
│   └── UpstreamTimeout     504  it took too long
│       └── RequestTimeUp   504  the request's own time was over, which says nothing about the provider
├── NoModelAvailable        503  the circuits of all models that could answer are open
├── Overloaded              503  as much is in work as may be, and as many wait as may
├── LedgerUnavailable       503  Redis cannot take the bill, so no answer is given away
└── WorkerStopping          503  the worker had to stop before the answer was whole
"""

from __future__ import annotations

from typing import TypedDict

from gateway.billing import Usage


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


def forget_frames(error: BaseException) -> None:
    """Let go of where an error and those before it were raised. Who keeps it would keep all that was in work
    there, a request's body above all, and often itself, until the garbage collector comes by."""
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        each = chain.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            chain += each.__cause__, each.__context__


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code: str | None = None


class ContextTooLong(InvalidRequest):
    code = "context_length_exceeded"


class RequestTooDear(InvalidRequest):
    code = "max_cost_exceeded"


class InvalidApiKey(GatewayError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class CrossSiteRequest(GatewayError):
    status = 403
    type = "invalid_request_error"
    code = "cross_site_request"


class ModelNotAllowed(GatewayError):
    status = 403
    type = "invalid_request_error"
    code = "model_not_allowed"


class UnknownPath(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class KeyNotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "key_not_found"


class RequestNotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "request_not_found"


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

    def __init__(self, message: str = "The request body is larger than this gateway accepts.") -> None:
        super().__init__(message)


class RateLimitExceeded(GatewayError):
    """`limit` is what there were too many of, `requests` or `tokens`, which OpenAI gives as the type."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(
        self, message: str, limit: str = "requests", *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, headers=headers)
        self.type = limit


class InsufficientQuota(GatewayError):
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class ClientClosedRequest(GatewayError):
    status = 499
    type = "invalid_request_error"
    code = "client_closed_request"


class UpstreamError(GatewayError):
    """`usage` is what the provider stated for the failed call, which it will bill. Where it had answered but
    the answer broke off, `characters` are those that had been generated of what came; else None.
    `provider_status` is the status by which it failed, if it said one."""

    status = 502
    code = "upstream_error"

    def __init__(
        self, message: str, usage: Usage | None = None, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, headers=headers)
        self.usage = usage
        self.characters: int | None = None
        self.provider_status: int | None = None


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class RequestTimeUp(UpstreamTimeout):
    pass


class NoModelAvailable(GatewayError):
    status = 503
    code = "no_model_available"


class Overloaded(GatewayError):
    status = 503
    code = "overloaded"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "1"})


class LedgerUnavailable(GatewayError):
    status = 503
    code = "ledger_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"Retry-After": "1"})


class WorkerStopping(GatewayError):
    status = 503
    code = "overloaded"

    def __init__(self, message: str = "The gateway is stopping; ask again.") -> None:
        super().__init__(message, headers={"Retry-After": "1"})
