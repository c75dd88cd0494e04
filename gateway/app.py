"""The application factory."""

from __future__ import annotations

from flask import Flask, Response, g, request
from werkzeug.datastructures import Headers

from gateway.body import Bodies
from gateway.catalog_watch import CatalogWatch
from gateway.circuit_board import CircuitBoard
from gateway.circuits import Circuits
from gateway.config import Settings
from gateway.incoming import Incoming, Reply, RequestHeaders
from gateway.keys.admin import admin
from gateway.keys.key_copy import KeyCopy
from gateway.keys.key_ring import KeyRing
from gateway.ledger.connection import connect
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.key_store import KeyStore
from gateway.ledger.ledger import Ledger
from gateway.ledger.model_store import ModelStore
from gateway.ledger.names import Names
from gateway.overload import ModelSlots, Slots
from gateway.retry_budget import RetryBudget
from gateway.routes import flask_response, model_response, routes
from gateway.routing.routing import Routing
from gateway.routing.share_board import ShareBoard
from gateway.serve import MODEL_ROUTES, begun, check_may_ask, finish, refusal
from gateway.upstream import Upstream
from gateway.wiring import Gateway


def create_app(
    settings: Settings | None = None, ledger: Ledger | None = None, upstream: Upstream | None = None
) -> Flask:
    """The gateway as a WSGI application. It connects to nothing before its first request.

    :raises InvalidSetting: for settings that it cannot work with
    """
    settings = settings or Settings.from_env()
    client = connect(settings.redis_url, settings.redis_timeout)
    if ledger is None:
        ledger = Ledger(
            client,
            settings.redis_key_prefix,
            journal_directory=settings.ledger_directory,
            patience=settings.redis_timeout,
            lease=settings.budget_hold,
            wait_for_budget=settings.budget_wait,
            refuse_without_redis=settings.budgets_need_redis,
            decisions_kept=settings.routing_log_size,
        )
    if upstream is None:
        upstream = Upstream(settings.upstream_transport)

    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False
    key_store = KeyStore(client, Names(settings.redis_key_prefix))
    key_copy = None if settings.ledger_directory is None else KeyCopy(settings.ledger_directory)
    keys = KeyRing(key_store, settings.gateway_budget, key_copy, patience=settings.redis_timeout)
    routing = Routing.of(settings)
    queue = (settings.max_queued_requests, settings.queue_timeout)
    app.extensions["gateway"] = Gateway(
        settings=settings,
        catalogs=CatalogWatch(settings),
        routing=routing,
        ledger=ledger,
        upstream=upstream,
        decisions=DecisionLog(client, Names(settings.redis_key_prefix)),
        trained_models=ModelStore(client, Names(settings.redis_key_prefix)),
        key_store=key_store,
        keys=keys,
        bodies=Bodies(
            settings.max_request_bytes,
            settings.request_body_timeout,
            Slots(settings.max_body_bytes_in_work, *queue),
        ),
        slots=Slots(settings.max_requests_in_work, *queue),
        model_slots=ModelSlots(*queue),
        circuits=Circuits(settings.circuit_rules, CircuitBoard(client, Names(settings.redis_key_prefix))),
        retry_budget=RetryBudget(settings.retry_budget_percent),
        share_board=ShareBoard(
            client, Names(settings.redis_key_prefix), routing.shares, settings.routing_dollars_per_day
        )
        if routing.shares
        else None,
    )
    app.register_blueprint(routes)
    app.register_blueprint(admin)
    for path in MODEL_ROUTES:
        app.add_url_rule(path, view_func=model_response, methods=["POST"])
    app.before_request(_begin)
    app.after_request(_finish)
    app.register_error_handler(Exception, _refuse)
    return app


def _begin() -> None:
    g.incoming = Incoming(
        method=request.method,
        path=request.path,
        headers=RequestHeaders.of(request.headers),
        body=request.environ["wsgi.input"],
        content_length=request.content_length,
        connection=request.environ.get("gunicorn.socket"),
    )
    g.exchange = begun(g.incoming)
    check_may_ask(g.incoming)


def _refuse(error: Exception) -> Response:
    return flask_response(refusal(g.exchange, error))


def _finish(response: Response) -> Response:
    reply = Reply(response.status_code, dict(response.headers), b"")
    finish(g.exchange, g.incoming, reply)
    response.headers = Headers(reply.headers)
    response.call_on_close(g.incoming.end)
    return response
