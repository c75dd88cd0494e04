"""What clients are told when something goes wrong."""

from __future__ import annotations

import gc
import json
import re
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, g
from werkzeug import exceptions as http

from gateway import errors
from gateway.apis import Api
from gateway.billing import Usage
from gateway.error_shapes import error_event
from gateway.errors import (
    ClientClosedRequest,
    ContextTooLong,
    CrossSiteRequest,
    GatewayError,
    InsufficientQuota,
    InvalidApiKey,
    InvalidRequest,
    KeyNotFound,
    LedgerUnavailable,
    ModelNotAllowed,
    ModelNotFound,
    NoModelAvailable,
    Overloaded,
    RateLimitExceeded,
    RequestNotFound,
    RequestTimeout,
    RequestTimeUp,
    RequestTooDear,
    RequestTooLarge,
    UnknownPath,
    UpstreamError,
    UpstreamTimeout,
    WorkerStopping,
    WrongMethod,
)
from gateway.foreign_errors import translate
from gateway.incoming import Reply
from gateway.outcome import Unanswered
from gateway.routes import flask_response
from gateway.serve import error_reply, refusal

SECRET = "sk-5ecr3t at 10.0.0.7"
ALL = (
    InvalidRequest,
    ContextTooLong,
    RequestTooDear,
    InvalidApiKey,
    ClientClosedRequest,
    CrossSiteRequest,
    ModelNotAllowed,
    RequestNotFound,
    UnknownPath,
    KeyNotFound,
    ModelNotFound,
    WrongMethod,
    RequestTimeout,
    RequestNotFound,
    RequestTooLarge,
    RateLimitExceeded,
    InsufficientQuota,
    UpstreamError,
    NoModelAvailable,
    Overloaded,
    LedgerUnavailable,
    UpstreamTimeout,
    RequestTimeUp,
    WorkerStopping,
)


def body_of(reply: Reply) -> dict[str, Any]:
    assert isinstance(reply.body, bytes)
    body: dict[str, Any] = json.loads(reply.body)
    return body


def subclasses(base: type[GatewayError]) -> set[type[GatewayError]]:
    direct = {each for each in base.__subclasses__() if each.__module__ == errors.__name__}
    return direct.union(*(subclasses(each) for each in direct))


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: dict[str, tuple[int, str]] = {}
    parents = {0: "GatewayError"}
    for line in (errors.__doc__ or "").splitlines():
        branch = re.match(r"((?:│   |    )*)[├└]── (\w+) +(\d{3})  \S", line)
        if branch:
            depth = len(branch[1]) // 4
            drawn[branch[2]] = (int(branch[3]), parents[depth])
            parents[depth + 1] = branch[2]

    assert drawn == {
        each.__name__: (each.status, each.__bases__[0].__name__) for each in subclasses(GatewayError)
    }
    statuses = [status for status, parent in drawn.values() if parent == "GatewayError"]
    assert statuses == sorted(statuses)


def test_every_error_is_tested_here() -> None:
    assert set(ALL) == subclasses(GatewayError)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (GatewayError("m"), 500, "server_error", "internal_error"),
        (ClientClosedRequest("m"), 499, "invalid_request_error", "client_closed_request"),
        (CrossSiteRequest("m"), 403, "invalid_request_error", "cross_site_request"),
        (WorkerStopping("m"), 503, "server_error", "overloaded"),
        (InvalidRequest("m"), 400, "invalid_request_error", None),
        (ContextTooLong("m"), 400, "invalid_request_error", "context_length_exceeded"),
        (RequestTooDear("m"), 400, "invalid_request_error", "max_cost_exceeded"),
        (InvalidApiKey("m"), 401, "invalid_request_error", "invalid_api_key"),
        (ModelNotAllowed("m"), 403, "invalid_request_error", "model_not_allowed"),
        (UnknownPath("m"), 404, "invalid_request_error", "not_found"),
        (KeyNotFound("m"), 404, "invalid_request_error", "key_not_found"),
        (ModelNotFound("m"), 404, "invalid_request_error", "model_not_found"),
        (WrongMethod("m"), 405, "invalid_request_error", "method_not_allowed"),
        (RequestTimeout("m"), 408, "invalid_request_error", "request_timeout"),
        (RequestNotFound("m"), 404, "invalid_request_error", "request_not_found"),
        (RequestTooLarge("m"), 413, "invalid_request_error", "request_too_large"),
        (RateLimitExceeded("m"), 429, "requests", "rate_limit_exceeded"),
        (RateLimitExceeded("m", "tokens"), 429, "tokens", "rate_limit_exceeded"),
        (InsufficientQuota("m"), 429, "insufficient_quota", "insufficient_quota"),
        (UpstreamError("m"), 502, "server_error", "upstream_error"),
        (NoModelAvailable("m"), 503, "server_error", "no_model_available"),
        (Overloaded("m"), 503, "server_error", "overloaded"),
        (LedgerUnavailable("m"), 503, "server_error", "ledger_unavailable"),
        (RequestTimeUp("m"), 504, "server_error", "upstream_timeout"),
        (UpstreamTimeout("m"), 504, "server_error", "upstream_timeout"),
    ],
)
def test_an_error_is_answered_in_openai_s_shape(
    error: GatewayError, status: int, kind: str, code: str | None
) -> None:
    expected = {"error": {"message": "m", "type": kind, "param": None, "code": code}}
    response = error_reply(error)
    assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
    assert body_of(response) == expected
    assert error.body() == expected
    assert str(error) == "m"


def test_an_error_names_the_field_at_fault_and_brings_its_headers() -> None:
    response = error_reply(InvalidRequest("m", param="messages[0]", headers={"X-A": "b"}))
    assert body_of(response)["error"]["param"] == "messages[0]"
    assert response.headers["X-A"] == "b"


def test_an_error_whose_field_is_named_by_half_a_surrogate_pair_is_still_json() -> None:
    answer = body_of(error_reply(InvalidRequest("m", param="\ud800")))
    assert answer["error"]["param"] == "\ud800"


@pytest.mark.parametrize("message", ["m", "two\nlines", "é\u2028", "\r\n\r\ndata: [DONE]"])
def test_within_a_stream_an_error_is_one_event(message: str) -> None:
    error = UpstreamError(message)
    (line,) = error_event(Api.CHAT_COMPLETIONS, error).removesuffix(b"\n\n").splitlines()
    assert json.loads(line.removeprefix(b"data: ")) == error.body()


def test_a_client_may_come_back_soon_when_the_ledger_is_gone() -> None:
    assert error_reply(LedgerUnavailable("m")).headers["Retry-After"] == "1"


def test_a_client_without_a_valid_key_is_told_how_to_bring_one() -> None:
    assert error_reply(InvalidApiKey("m")).headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidApiKey("m"), "authentication_error"),
        (ModelNotAllowed("m"), "permission_error"),
        (RateLimitExceeded("m"), "rate_limit_error"),
        (InsufficientQuota("m"), "rate_limit_error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_refused_key_is_told_in_anthropic_s_words_to_anthropic_s_clients(
    error: GatewayError, kind: str
) -> None:
    answer = body_of(error_reply(error, Api.MESSAGES))
    assert answer == {"type": "error", "error": {"type": kind, "message": "m"}}


def test_a_provider_s_error_keeps_what_it_will_bill() -> None:
    assert UpstreamError("m").usage is None
    assert UpstreamTimeout("m", Usage(1, 0, 2)).usage == Usage(1, 0, 2)


@pytest.mark.parametrize("error", [each("m") for each in ALL], ids=lambda error: type(error).__name__)
def test_an_error_of_the_gateway_is_itself(error: GatewayError) -> None:
    assert translate(error) is error


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (http.RequestEntityTooLarge(SECRET), RequestTooLarge, 413),
        (http.NotFound(SECRET), UnknownPath, 404),
        (http.MethodNotAllowed(["POST"], SECRET), WrongMethod, 405),
        (http.BadRequest(SECRET), InvalidRequest, 400),
        (http.BadRequestKeyError(SECRET), InvalidRequest, 400),
        (http.ClientDisconnected(SECRET), InvalidRequest, 400),
        (http.SecurityError(SECRET), InvalidRequest, 400),
        (http.RequestTimeout(SECRET), InvalidRequest, 408),
        (http.LengthRequired(SECRET), InvalidRequest, 411),
        (http.RequestURITooLarge(SECRET), InvalidRequest, 414),
        (http.UnsupportedMediaType(SECRET), InvalidRequest, 415),
        (http.ImATeapot(SECRET), InvalidRequest, 418),
        (http.TooManyRequests(SECRET), InvalidRequest, 429),
        (http.RequestHeaderFieldsTooLarge(SECRET), InvalidRequest, 431),
        (http.InternalServerError(SECRET), GatewayError, 500),
        (http.NotImplemented(SECRET), GatewayError, 500),
        (http.BadGateway(SECRET), GatewayError, 500),
        (http.HTTPException(SECRET), GatewayError, 500),
        (ValueError(SECRET), GatewayError, 500),
        (KeyError(SECRET), GatewayError, 500),
        (OSError(7, SECRET), GatewayError, 500),
        (RecursionError(SECRET), GatewayError, 500),
        (MemoryError(SECRET), GatewayError, 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_any_other_exception_becomes_an_error_without_its_text(
    error: Exception, kind: type[GatewayError], status: int
) -> None:
    translated = translate(error)
    response = error_reply(translated)
    assert type(translated) is kind
    assert response.status == status
    assert set(body_of(response)["error"]) == {"message", "type", "param", "code"}
    assert body_of(response)["error"]["message"]
    assert SECRET not in f"{response.body!r}{response.headers}"
    assert error_event(Api.CHAT_COMPLETIONS, translated).count(b"\n\n") == 1


@pytest.mark.parametrize(
    ("methods", "allow"), [(["POST", "OPTIONS"], "OPTIONS, POST"), (["GET"], "GET"), ([], ""), (None, "")]
)
def test_a_wrong_method_is_answered_with_those_that_are_right(methods: list[str] | None, allow: str) -> None:
    response = error_reply(translate(http.MethodNotAllowed(methods)))
    assert response.status == 405
    assert response.headers["Allow"] == allow


def test_translating_one_error_leaves_the_class_of_others_alone() -> None:
    translate(http.ImATeapot())
    assert InvalidRequest("m").status == 400


class InWork:
    """Stands for a request's body."""


@pytest.mark.parametrize(
    "raised",
    [InvalidRequest("m"), UpstreamError("m"), http.NotFound(), RequestTooLarge("m")],
    ids=repr,
)
@pytest.mark.parametrize("cause", [None, OSError(), ValueError()], ids=repr)
def test_an_error_that_was_answered_holds_nothing_of_what_was_in_work(
    raised: Exception, cause: Exception | None
) -> None:
    app = Flask(__name__)
    app.register_error_handler(Exception, lambda error: flask_response(refusal(g.exchange, error)))
    exchange = SimpleNamespace(request_id="r", path="/", error=None)
    held: list[weakref.ref[InWork]] = []

    @app.post("/")
    def fail() -> str:
        g.exchange = exchange
        in_work = InWork()
        held.append(weakref.ref(in_work))
        try:
            if cause is not None:
                raise cause
        except Exception as error:
            raise raised from error
        raise raised

    gc.disable()
    try:
        app.test_client().post("/").close()
        assert exchange.error is not None
        assert held[0]() is None
    finally:
        gc.enable()


def test_a_failure_that_is_kept_holds_nothing_of_what_was_in_work() -> None:
    def failure() -> Unanswered:
        in_work = InWork()
        held.append(weakref.ref(in_work))
        try:
            raise UpstreamError("m") from OSError()
        except UpstreamError as error:
            return Unanswered(error)

    held: list[weakref.ref[InWork]] = []
    gc.disable()
    try:
        kept = failure()
        assert held[0]() is None
    finally:
        gc.enable()
    assert isinstance(kept.error.__cause__, OSError)
