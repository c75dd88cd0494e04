"""The way of a request that a model answers, in whichever API: `serve` tells it from top to bottom."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, g, request

from gateway.admission import Admissions
from gateway.client import waited_for
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

    parts.slots.check()
    tenant = authenticated()
    limits = limits_of_request()
    asked = parts.bodies.parsed(parse, limits.deadline.remaining)
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
