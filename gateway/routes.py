"""The HTTP routes. Those that a model answers are told in `serve.py`."""

from __future__ import annotations

import json
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from gateway.admission import find_way
from gateway.apis import Api
from gateway.catalog import AUTO, Catalog
from gateway.client import waited_for
from gateway.error_shapes import refusal_body
from gateway.errors import ContextTooLong, LedgerUnavailable, RequestNotFound, UpstreamError
from gateway.feedback import parse_feedback
from gateway.headers import client_headers
from gateway.incoming import Reply
from gateway.prometheus import JSON, exposition, look_at, wanted_media_type
from gateway.routing.explanation import explanation
from gateway.schema.chat import parse_chat_request
from gateway.schema.messages import parse_messages_request
from gateway.serve import MODEL_ROUTES, authenticated, limits_of, serve
from gateway.stopping import service_stops
from gateway.upstream import Answer, Refusal
from gateway.wiring import gateway

MODELS_CREATED = 1767225600  # OpenAI's `created` is required; a fixed date keeps all workers' lists alike
COUNT_SECONDS = 10.0  # past it the tokens are estimated
COUNTS_NOTHING = (404, 405)  # a provider of Messages that does not count their tokens
OPENAPI = Path(__file__).with_name("openapi.json")

routes = Blueprint("routes", __name__)


def model_response() -> Response:
    """The answer of a model, in the API of the path."""
    return flask_response(serve(gateway(), g.exchange, g.incoming, MODEL_ROUTES[request.path]))


def flask_response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, reply.headers)


@routes.post("/v1/messages/count_tokens")
def count_tokens() -> Response:
    """The tokens of a Message's prompt: counted by the provider where it serves Messages, else estimated."""
    settings, catalog = gateway().settings, _catalog()
    tenant = g.exchange.tenant
    limits = limits_of(gateway(), g.exchange, g.incoming)
    asked = gateway().bodies.parsed(g.incoming, parse_messages_request)
    try:
        route = gateway().routing.choose(asked, catalog, tenant, g.exchange.request_id)
    except ContextTooLong:  # which is what a client may want to know
        return jsonify({"input_tokens": asked.prompt_tokens})
    g.exchange.decision = route
    if Api.MESSAGES in route.model.apis and gateway().circuits.state(route.model.name) != "open":
        body = BytesIO(asked.body_for(route.model.upstream_name))
        headers = client_headers(g.incoming.headers, Api.MESSAGES, mock_faults=settings.forward_mock_faults)
        answer: Answer | Refusal | None = None
        with waited_for(g.exchange, g.incoming.connection):
            g.exchange.slot = gateway().slots.take()
            deadline = limits.deadline.or_in(COUNT_SECONDS)
            with suppress(UpstreamError):  # an estimate needs nobody
                answer = gateway().upstream.count_tokens(route.model, body, headers, deadline)
        if isinstance(answer, Answer):
            return Response(answer.body, mimetype="application/json")
        if isinstance(answer, Refusal) and answer.status not in COUNTS_NOTHING:
            refused = refusal_body(Api.MESSAGES, Api.MESSAGES, answer.status, answer.body, answer.message)
            return Response(refused, answer.status, answer.headers.passed, mimetype="application/json")
    return jsonify({"input_tokens": asked.prompt_tokens})


@routes.post("/v1/feedback")
def feedback() -> Response:
    """How good an earlier answer was, from whoever got it."""
    tenant = authenticated(gateway(), g.exchange, g.incoming)
    told = gateway().bodies.parsed(g.incoming, parse_feedback)
    key_id = None if tenant.key is None else tenant.key.id
    if not gateway().decisions.score(told.request_id, key_id, told.score):
        raise RequestNotFound(
            "No request of this id is remembered; those are the last of this key whose model was not named.",
            param="id",
        )
    return jsonify({"object": "feedback", "id": told.request_id, "score": told.score})


@routes.post("/v1/route")
def route() -> Response:
    """Where a chat completion would go, why, and what it would cost; no model is called."""
    catalog = _catalog()
    limits = limits_of(gateway(), g.exchange, g.incoming)
    asked = gateway().bodies.parsed(g.incoming, parse_chat_request)
    policy = gateway().routing.policy_of(
        asked, g.exchange.tenant, g.exchange.request_id, cascades=limits.cascades
    )
    chosen, way = find_way(asked, catalog, policy, gateway().cache_shares)
    g.exchange.decision = chosen
    return jsonify(explanation(asked, chosen, way.prompt_tokens))


@routes.get("/v1/models")
def models() -> Response:
    """OpenAI's list of models, `auto` included."""
    names = [AUTO, *_catalog().names]
    return jsonify({"object": "list", "data": [model_object(name) for name in names]})


@routes.get("/v1/models/<path:name>")
def model(name: str) -> Response:
    """OpenAI's object of one model."""
    catalog = _catalog()
    if not catalog.leaves_choice(name):
        catalog.named(name)
    return jsonify(model_object(name))


@routes.get("/metrics")
def metrics() -> Response:
    """The totals over all workers, replicas and restarts, as JSON or as text for Prometheus."""
    ledger, models = gateway().ledger, gateway().catalogs.current.names
    media_type = wanted_media_type(request.accept_mimetypes)
    if media_type == JSON:
        totals = ledger.totals(models)
        figures = {
            "totalRequests": totals.requests,
            "totalCostUsd": float(totals.cost),
            "modelUsageCount": totals.model_requests,
        }
        response = Response(json.dumps(figures) + "\n", mimetype=JSON)
    else:
        text, content_type = exposition(look_at(ledger, models, gateway().routing.shares), media_type)
        response = Response(text, content_type=content_type)
    response.vary.add("Accept")
    return response


@routes.get("/healthz")
def healthz() -> Response:
    """200 while the process lives; touches nothing."""
    return jsonify({"status": "ok"})


@routes.get("/readyz")
def readyz() -> Response:
    """200 when requests can be served as they should be, else 503 with the reasons."""
    ledger, settings = gateway().ledger, gateway().settings
    reasons = ledger.degraded()
    stopping = service_stops()
    if stopping:
        reasons = ["stopping: this gateway takes no new requests; ask another one", *reasons]
    if not reasons:
        return jsonify({"status": "ready", "reasons": []})
    can_serve = ledger.can_serve and not stopping
    response = jsonify({"status": "degraded" if can_serve else "unavailable", "reasons": reasons})
    if not (settings.ready_without_redis and can_serve):
        response.status_code = LedgerUnavailable.status
        response.headers["Retry-After"] = "1"
    return response


@routes.get("/openapi.json")
def openapi() -> Response:
    """The description of this API."""
    return Response(OPENAPI.read_bytes(), mimetype="application/json")


def model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": MODELS_CREATED, "owned_by": "llm-gateway"}


def _catalog() -> Catalog:
    """What may be used by whoever asks."""
    tenant = authenticated(gateway(), g.exchange, g.incoming)
    return gateway().catalogs.current.only(tenant.models)
