"""Turns every failure of the application into a JSON answer."""

import logging
import uuid
from http import HTTPStatus

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from model_server.dialects.anthropic_errors import anthropic_error_body, is_spoken_at
from model_server.errors import ApiError, error_body

logger = logging.getLogger(__name__)

CODES = {413: "request_too_large"}


def register_error_handlers(app: Flask) -> None:
    """Answer every failure of `app` as JSON in the shape of the API that the path belongs to."""

    @app.before_request
    def begin() -> None:
        g.request_id = f"req_{uuid.uuid4().hex[:24]}"

    @app.after_request
    def identify(response: Response) -> Response:
        if is_spoken_at(request.path):
            response.headers["request-id"] = g.request_id
        return response

    @app.errorhandler(ApiError)
    def api_error(error: ApiError) -> Response:
        return _answer(error.status, error.message, error.param, error.code, error.headers)

    @app.errorhandler(RecursionError)
    def nested_too_deeply(error: RecursionError) -> Response:
        return _answer(400, "The body is nested too deeply.")

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        # Keeps what the protocol demands, such as Allow with a 405.
        kept = {k: v for k, v in error.get_headers() if k.lower() not in ("content-type", "content-length")}
        return _answer(status, f"{HTTPStatus(status).phrase}.", code=CODES.get(status), headers=kept)

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        logger.error("unexpected failure", exc_info=error)
        return _answer(500, "The server had an error while processing your request.")


def _answer(
    status: int,
    message: str,
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    if is_spoken_at(request.path):
        response = jsonify(anthropic_error_body(status, message, g.request_id))
    else:
        response = jsonify(error_body(status, message, param, code))
    response.status_code = status
    response.headers.update(headers or {})
    return response
