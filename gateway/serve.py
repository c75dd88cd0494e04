"""The way of a request that a model answers, in whichever API: `serve` tells it from top to bottom."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from flask import Response, g, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from gateway.admission import Admissions
from gateway.client import waited_for
from gateway.errors import InvalidRequest, RequestTimeout, WorkerStopping
from gateway.exchange import Exchange
from gateway.forwarding import Forwarding
from gateway.keys.authentication import authenticate
from gateway.keys.virtual_key import Tenant
from gateway.request_limits import RequestLimits
from gateway.schema.base import ModelRequest
from gateway.wiring import gateway


def serve(parse: Callable[[bytes], ModelRequest]) -> Response:
    """The answer of the model that the policy chooses, or of another where that one fails, plain or streamed,
    billed before it is whole.

    :raises GatewayError: for whatever goes wrong before the first byte of the answer
    """
    parts, exchange = gateway(), exchange_of_request()
    settings, connection = parts.settings, request.environ.get("gunicorn.socket")

    tenant = authenticated()
    limits = limits_of_request()
    asked = parse(read_body(settings.request_body_timeout))
    exchange.stream = asked.stream
    catalog = parts.catalogs.current.only(tenant.models)
    with waited_for(exchange, connection):
        exchange.slot = parts.slots.take(patience=max(0.0, limits.deadline.remaining))
    try:
        admissions = Admissions(asked, tenant, catalog, parts.ledger, settings, parts.cache_shares)
        return Forwarding(parts, exchange, admissions, limits, request.headers, connection).answer()
    except BaseException:
        exchange.free_slot()
        raise


def authenticated() -> Tenant:
    """Who asks, by the key in the request's head.

    :raises InvalidApiKey: for a key that is not valid, and for none where one is needed
    :raises LedgerUnavailable: where a key cannot be looked up
    """
    exchange = exchange_of_request()
    exchange.tenant = authenticate(request.headers, gateway().keys, required=gateway().settings.require_keys)
    return exchange.tenant


def exchange_of_request() -> Exchange:
    exchange: Exchange = g.exchange
    return exchange


def limits_of_request() -> RequestLimits:
    """What the request may take at most.

    :raises InvalidRequest: where its headers say it badly
    """
    settings = gateway().settings
    return RequestLimits.of(
        request.headers,
        since=exchange_of_request().started,
        timeout=settings.request_timeout,
        max_cost=settings.max_request_cost,
    )


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
