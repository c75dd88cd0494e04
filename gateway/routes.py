"""The HTTP routes. `chat_completions` is the whole story of a request, from top to bottom."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import gevent
from flask import Blueprint, Response, current_app, g, jsonify, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from gateway.billing import Usage, output_characters, usage_estimated, usage_stated
from gateway.catalog import Catalog
from gateway.client import ClientLeft, client_watched
from gateway.config import Settings
from gateway.errors import (
    ClientClosedRequest,
    InvalidRequest,
    LedgerUnavailable,
    RequestTimeout,
    UpstreamError,
    WorkerStopping,
)
from gateway.exchange import Exchange
from gateway.ledger import Ledger
from gateway.relay import Relay
from gateway.router import choose
from gateway.schema import AUTO, ChatRequest, parse_chat_request
from gateway.upstream import Completion, CompletionStream, Refusal, Upstream

MODELS_CREATED = 1767225600  # OpenAI's `created` is required; a fixed date keeps all workers' lists alike
NO_USAGE = Usage(0, 0, 0)
PROVIDER_HEADERS = ("X-Mock-Fault",)
OPENAPI = Path(__file__).with_name("openapi.json")

routes = Blueprint("routes", __name__)


@dataclass(frozen=True)
class Gateway:
    """What the views need, one of each per worker."""

    settings: Settings
    catalog: Catalog
    ledger: Ledger
    upstream: Upstream


def gateway() -> Gateway:
    found: Gateway = current_app.extensions["gateway"]
    return found


@routes.post("/v1/chat/completions")
def chat_completions() -> Response:
    """OpenAI's chat completion, plain or streamed, by the model that the policy chooses."""
    settings, catalog, ledger = gateway().settings, gateway().catalog, gateway().ledger
    exchange: Exchange = g.exchange

    chat = parse_chat_request(read_body(settings.request_body_timeout))
    exchange.stream = chat.stream
    exchange.route = route = choose(chat, catalog, settings.routing_threshold_chars)
    ledger.require_available()
    connection = request.environ.get("gunicorn.socket")
    body = BytesIO(chat.body_for(route.model.upstream_name))
    exchange.attempts += 1
    try:
        with client_watched(connection):
            answer = gateway().upstream.complete(
                route.model,
                body,
                stream=chat.stream,
                headers=passed_headers(),
            )
        if isinstance(answer, CompletionStream):
            relay = Relay(exchange, chat, answer, ledger, catalog, connection)
            relay.await_first_event()
            return event_stream(relay)
    except ClientLeft:
        exchange.client_left = True
        record_unanswered(exchange, prompt_usage(chat, sent=body.tell() > 0), failed=False)
        raise ClientClosedRequest("The client closed its side of the connection.") from None
    except gevent.GreenletExit:
        record_unanswered(exchange, prompt_usage(chat, sent=body.tell() > 0), failed=True)
        raise WorkerStopping from None
    except UpstreamError as error:
        record_unanswered(exchange, error.usage or NO_USAGE, failed=True)
        raise
    if isinstance(answer, Refusal):
        record_unanswered(exchange, NO_USAGE, failed=True)
        return Response(answer.body, answer.status, answer.headers, mimetype="application/json")
    usage = usage_stated(answer.values) or usage_estimated(
        chat.prompt_texts, output_characters(answer.values["choices"])
    )
    cost = exchange.settle(ledger, catalog, usage, answered=True, failed=False)
    return whole_answer(answer, cost)


@routes.get("/v1/models")
def models() -> Response:
    """OpenAI's list of models, `auto` included."""
    names = [AUTO, *(model.name for model in gateway().catalog)]
    return jsonify({"object": "list", "data": [model_object(name) for name in names]})


@routes.get("/v1/models/<name>")
def model(name: str) -> Response:
    """OpenAI's object of one model."""
    if name != AUTO:
        gateway().catalog.named(name)
    return jsonify(model_object(name))


@routes.get("/metrics")
def metrics() -> Response:
    """The totals over all workers, replicas and restarts."""
    totals = gateway().ledger.totals()
    figures = {
        "totalRequests": totals.requests,
        "totalCostUsd": float(totals.cost),
        "modelUsageCount": totals.model_requests,
    }
    return Response(json.dumps(figures) + "\n", mimetype="application/json")


@routes.get("/healthz")
def healthz() -> Response:
    """200 while the process lives; touches nothing."""
    return jsonify({"status": "ok"})


@routes.get("/readyz")
def readyz() -> Response:
    """200 when requests can be served, else 503 with the reasons."""
    try:
        gateway().ledger.check()
    except LedgerUnavailable as error:
        response = jsonify({"status": "unavailable", "reasons": [f"ledger_unavailable: {error.message}"]})
        response.status_code = error.status
        response.headers.update(error.headers)
        return response
    return jsonify({"status": "ready", "reasons": []})


@routes.get("/openapi.json")
def openapi() -> Response:
    """The description of this API."""
    return Response(OPENAPI.read_bytes(), mimetype="application/json")


def read_body(timeout: float) -> bytes:
    """The request's body.

    :raises RequestTimeout: when it has not come whole within `timeout` seconds
    :raises InvalidRequest: when it ends early or its chunks are malformed
    :raises RequestEntityTooLarge: when it is over the limit
    :raises WorkerStopping: when there is no time left to wait for it
    """
    late = RequestTimeout(f"The request body did not arrive within {timeout:g} seconds.")
    broken = InvalidRequest("The request body ended early or is malformed.")
    try:
        with gevent.Timeout(timeout, late):
            body = request.get_data(cache=False)
            # Werkzeug stops in silence at the limit of a chunked body, and where the client stops early.
            beyond_limit = request.environ["wsgi.input"].read(1)
    except (OSError, ParseException, ClientDisconnected) as error:
        raise broken from error
    except gevent.GreenletExit:
        raise WorkerStopping from None
    if beyond_limit:
        raise RequestEntityTooLarge
    if len(body) < (request.content_length or 0):
        raise broken
    return body


def passed_headers() -> dict[str, str]:
    """The client's headers that a provider gets."""
    if not gateway().settings.forward_mock_faults:
        return {}
    return {name: request.headers[name] for name in PROVIDER_HEADERS if name in request.headers}


def prompt_usage(chat: ChatRequest, *, sent: bool) -> Usage:
    """What a provider will bill for a request that nobody waits for any more."""
    return usage_estimated(chat.prompt_texts, 0) if sent else NO_USAGE


def record_unanswered(exchange: Exchange, usage: Usage, *, failed: bool) -> None:
    """Count a call that gave no answer. The client is told why that was, even if the count fails too."""
    try:
        exchange.settle(gateway().ledger, gateway().catalog, usage, answered=False, failed=failed)
    except LedgerUnavailable:
        current_app.logger.warning(
            "a call without an answer was not counted", extra={"request_id": exchange.request_id}
        )


def whole_answer(answer: Completion, cost: Decimal) -> Response:
    return Response(answer.body, mimetype="application/json", headers={"X-Gateway-Cost-Usd": f"{cost:f}"})


def event_stream(relay: Relay) -> Response:
    return Response(
        relay,
        content_type="text/event-stream; charset=utf-8",
        # Proxies in front, nginx above all, would hold a stream back otherwise.
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


def model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": MODELS_CREATED, "owned_by": "llm-gateway"}
