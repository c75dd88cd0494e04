"""The application factory."""

from __future__ import annotations

import re
import uuid

from flask import Flask, Response, g, request

from gateway.apis import Api
from gateway.catalog_watch import CatalogWatch
from gateway.config import Settings
from gateway.error_handlers import register_error_handlers
from gateway.error_shapes import api_of_path
from gateway.errors import CrossSiteRequest
from gateway.exchange import Exchange
from gateway.ledger import Ledger, connect
from gateway.routes import routes
from gateway.serve import Gateway
from gateway.upstream import Upstream

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/=+@-]{1,128}")
PROBES = ("/healthz", "/readyz")


def create_app(
    settings: Settings | None = None, ledger: Ledger | None = None, upstream: Upstream | None = None
) -> Flask:
    """The gateway as a WSGI application. It connects to nothing before its first request.

    :raises InvalidSetting: for settings that it cannot work with
    """
    settings = settings or Settings.from_env()
    if ledger is None:
        client = connect(settings.redis_url, settings.redis_timeout)
        ledger = Ledger(client, settings.redis_key_prefix)
    if upstream is None:
        upstream = Upstream(settings.upstream_connect_timeout, settings.upstream_read_timeout)

    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_request_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False
    app.extensions["gateway"] = Gateway(settings, CatalogWatch(settings), ledger, upstream)
    app.register_blueprint(routes)
    app.before_request(_open_exchange)
    app.after_request(_close_exchange)
    register_error_handlers(app)
    return app


def _open_exchange() -> None:
    wanted = request.headers.get("X-Request-Id", "")
    request_id = wanted if SANE_REQUEST_ID.fullmatch(wanted) else uuid.uuid4().hex
    g.exchange = Exchange(request_id, request.method, request.path)
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
        response.headers["X-Gateway-Attempts"] = str(exchange.attempts)
    if request.path not in PROBES or response.status_code >= 400:
        response.call_on_close(exchange.log)
    return response
