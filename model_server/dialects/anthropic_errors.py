"""Errors as Anthropic's API tells them."""

BASE_PATH = "/v1/messages"
TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def is_spoken_at(path: str) -> bool:
    """Whether Anthropic's API is what a client expects at this path."""
    return path == BASE_PATH or path.startswith(f"{BASE_PATH}/")


def anthropic_error_body(status: int, message: str, request_id: str) -> dict[str, object]:
    """Anthropic's error object for an HTTP status."""
    kind = TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
