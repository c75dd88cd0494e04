"""How the gateway's own errors look to a client of each API."""

from __future__ import annotations

import json

from gateway.apis import Api
from gateway.errors import GatewayError, InvalidRequest, UpstreamError
from gateway.translation.messages_answer import error_body as message_error_body
from gateway.translation.messages_answer import translated_refusal

MESSAGES_PATH = "/v1/messages"


def api_of_path(path: str) -> Api:
    """Whose errors are expected at a path: Anthropic's below `/v1/messages`, else OpenAI's."""
    below = path == MESSAGES_PATH or path.startswith(f"{MESSAGES_PATH}/")
    return Api.MESSAGES if below else Api.CHAT_COMPLETIONS


def error_body(api: Api, error: GatewayError) -> bytes:
    """The JSON body of an error."""
    return json.dumps(message_error_body(error) if api is Api.MESSAGES else error.body()).encode()


def error_event(api: Api, error: GatewayError, sequence_number: int = 0) -> bytes:
    """The event that ends a stream whose status line has already been sent; only those of Responses are
    numbered."""
    body = error_body(api, error)
    if api is Api.RESPONSES:
        # Flat as documented, nested as OpenAI's own clients look for it.
        detail = error.body()["error"]
        numbered = {"type": "error", "sequence_number": sequence_number}
        flat = {"code": detail["code"], "message": detail["message"], "param": detail["param"]}
        body = json.dumps({**numbered, **flat, "error": detail}).encode()
    kind = b"" if api in (Api.CHAT_COMPLETIONS, Api.COMPLETIONS) else b"event: error\n"
    return kind + b"data: " + body + b"\n\n"


def refusal_body(
    client_api: Api, upstream_api: Api, status: int, body: bytes | None, message: str | None
) -> bytes:
    """A provider's 4xx as the client gets it: in the provider's own words where there are any, translated
    where the two speak different APIs."""
    if body is None:
        error: GatewayError = UpstreamError(f"The provider refused the request with status {status}.")
        if message is not None:
            error = InvalidRequest(message)
        error.status = status
        return error_body(client_api, error)
    if client_api is Api.MESSAGES and upstream_api is not Api.MESSAGES:
        return translated_refusal(status, body)
    return body
