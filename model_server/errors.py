"""The errors that a client is told about, and OpenAI's shape of them.

ApiError
├── InvalidRequest    400, the request is at fault; `param` names the field
├── UnknownModel      404
├── UnknownCall       404, no bill is remembered under that id
├── UnknownResponse   400, as OpenAI has it
└── InjectedStatus    400..599, asked for by a fault
"""


class ApiError(Exception):
    """An error that a client is told about."""

    status = 500
    code: str | None = None

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the answer."""
        return {}


class InvalidRequest(ApiError):
    """The request cannot be understood; `param` names the field at fault."""

    status = 400


class UnknownModel(ApiError):
    """This server does not serve that model."""

    status = 404
    code = "model_not_found"


class UnknownCall(ApiError):
    """No call with that id has come, or it is no more remembered."""

    status = 404
    code = "call_not_found"

    def __init__(self, call_id: str) -> None:
        super().__init__(f"No call with the id '{call_id}' is known.", "id")


class UnknownResponse(ApiError):
    """The answer that a request wants to follow is not, or no more, remembered."""

    status = 400
    code = "previous_response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Previous response with id '{response_id}' not found.", "previous_response_id")


class InjectedStatus(ApiError):
    """A status that the caller asked the mock to fail with; `retry_after` is in seconds."""

    def __init__(self, status: int, retry_after: int | None) -> None:
        super().__init__(f"The mock was asked to answer with status {status}.")
        self.status = status
        self.code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, where one was asked for."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, object]:
    """OpenAI's error object for an HTTP status."""
    if status >= 500:
        kind = "server_error"
    elif status == 429:
        kind = "rate_limit_error"
    else:
        kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
