"""The application factory."""

from __future__ import annotations

import re
import uuid

from flask import Flask, Response, g, request

from gateway.apis import Api
from gateway.body import Bodies
from gateway.catalog_watch import CatalogWatch
from gateway.circuit_board import CircuitBoard
from gateway.circuits import Circuits
from gateway.config import Settings
from gateway.error_handlers import register_error_handlers
from gateway.error_shapes import api_of_path
from gateway.errors import CrossSiteRequest, Overloaded
from gateway.exchange import Exchange
from gateway.keys.admin import admin
from gateway.keys.key_copy import KeyCopy
from gateway.keys.key_ring import KeyRing
from gateway.ledger.connection import connect
from gateway.ledger.key_store import KeyStore
from gateway.ledger.ledger import Ledger
from gateway.ledger.names import Names
from gateway.ledger.rates import rate_headers
from gateway.overload import ModelSlots, Slots
from gateway.retry_budget import RetryBudget
from gateway.routes import routes
from gateway.stopping import refuse_when_stopping
from gateway.upstream import Upstream
from gateway.wiring import Gateway

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/=+@-]{1,128}")
PROBES = ("/healthz", "/readyz")


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
    queue = (settings.max_queued_requests, settings.queue_timeout)
    app.extensions["gateway"] = Gateway(
        settings=settings,
        catalogs=CatalogWatch(settings),
        ledger=ledger,
        upstream=upstream,
        key_store=key_store,
        keys=keys,
        bodies=Bodies(settings.request_body_timeout, Slots(settings.max_body_bytes_in_work, *queue)),
        slots=Slots(settings.max_requests_in_work, *queue),
        model_slots=ModelSlots(*queue),
        circuits=Circuits(settings.circuit_rules, CircuitBoard(client, Names(settings.redis_key_prefix))),
        retry_budget=RetryBudget(settings.retry_budget_percent),
    )
    app.register_blueprint(routes)
    app.register_blueprint(admin)
    app.before_request(_open_exchange)
    app.after_request(_close_exchange)
    register_error_handlers(app)
    return app


def _open_exchange() -> None:
    wanted = request.headers.get("X-Request-Id", "")
    request_id = wanted if SANE_REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex
    g.exchange = Exchange(request_id, request.method, request.path)
    refuse_when_stopping(request.path)
    # Only browsers send this header, and no page can forge it: a page elsewhere must not spend our money.
    if request.method == "POST" and request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise CrossSiteRequest("This gateway does not serve web pages of other sites.")


def _close_exchange(response: Response) -> Response:
    exchange: Exchange = g.exchange
    exchange.status = response.status_code
    response.headers["X-Request-Id"] = exchange.request_id
    if api_of_path(request.path) is Api.MESSAGES:
        response.headers["Request-Id"] = exchange.request_id  # where Anthropic's clients look for it
    if exchange.route is not None:
        response.headers["X-Gateway-Model"] = exchange.route.model.name
        response.headers["X-Gateway-Policy"] = exchange.route.policy
        response.headers["X-Gateway-Reason"] = exchange.route.reason
    if exchange.attempts:
        response.headers["X-Gateway-Attempts"] = ", ".join(attempt.told for attempt in exchange.attempts)
    if exchange.rates:
        # The key's own limits, without those of the provider's.
        for name in [name for name, _ in response.headers if name.lower().startswith("x-ratelimit-")]:
            del response.headers[name]
        response.headers.update(rate_headers(exchange.rates))
    response.call_on_close(exchange.free_slot)
    connection = request.environ.get("gunicorn.socket")
    if isinstance(exchange.error, Overloaded) and connection is not None:
        connection.close_after_answer()  # another worker may have time
    if request.path not in PROBES or response.status_code >= 400:
        response.call_on_close(exchange.log)
    return response
