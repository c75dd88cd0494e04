"""The way of a request that a model answers, in whichever API: `serve` tells it from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from io import BytesIO

import gevent
from flask import Response, current_app, g, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from gateway.answers import characters_so_far, output_characters
from gateway.billing import NO_USAGE, Usage, usage_stated
from gateway.cache_share import CacheShares
from gateway.catalog import Catalog
from gateway.catalog_watch import CatalogWatch
from gateway.client import ClientLeft, client_watched
from gateway.config import Settings
from gateway.error_shapes import refusal_body
from gateway.errors import (
    ClientClosedRequest,
    InvalidRequest,
    LedgerUnavailable,
    RequestTimeout,
    UpstreamError,
    WorkerStopping,
)
from gateway.exchange import Exchange
from gateway.headers import client_headers
from gateway.ledger import Ledger
from gateway.passage import Passage, passage
from gateway.relay import Relay
from gateway.router import Route, choose
from gateway.schema.base import ModelRequest
from gateway.upstream import AnswerStream, Refusal, Upstream


@dataclass(frozen=True)
class Gateway:
    """What the views need, one of each per worker."""

    settings: Settings
    catalogs: CatalogWatch
    ledger: Ledger
    upstream: Upstream
    cache_shares: CacheShares = field(default_factory=CacheShares)


def gateway() -> Gateway:
    found: Gateway = current_app.extensions["gateway"]
    return found


def serve(parse: Callable[[bytes], ModelRequest]) -> Response:
    """The answer of the model that the policy chooses, plain or streamed, billed before it is whole.

    :raises GatewayError: for whatever goes wrong before the first byte of the answer
    """
    settings, catalog, ledger = gateway().settings, gateway().catalogs.current, gateway().ledger
    exchange: Exchange = g.exchange

    asked = parse(read_body(settings.request_body_timeout))
    exchange.stream = asked.stream
    shares = gateway().cache_shares
    exchange.route, way = find_way(asked, catalog, settings.routing_threshold_chars, shares)
    model = exchange.route.model
    ledger.require_available()
    connection = request.environ.get("gunicorn.socket")
    body, received = BytesIO(way.body), bytearray()
    exchange.attempts += 1
    try:
        with client_watched(connection):
            answer = gateway().upstream.ask(
                model,
                way.api,
                body,
                stream=asked.stream,
                headers=client_headers(request.headers, way.api, mock_faults=settings.forward_mock_faults),
                received=received,
            )
        exchange.upstream_request_id = answer.headers.request_id
        if isinstance(answer, AnswerStream):
            relay = Relay(exchange, way, answer, ledger, connection)
            relay.await_first_event()
            return event_stream(relay, answer.headers.passed)
    except ClientLeft:
        exchange.client_left = True
        record_unanswered(exchange, usage_so_far(way, body, received), failed=False)
        raise ClientClosedRequest("The client closed its side of the connection.") from None
    except gevent.GreenletExit:
        record_unanswered(exchange, usage_so_far(way, body, received), failed=True)
        raise WorkerStopping from None
    except UpstreamError as error:
        record_unanswered(exchange, failed_usage(way, error), failed=True)
        raise
    if isinstance(answer, Refusal):
        record_unanswered(exchange, answer.usage or NO_USAGE, failed=True)
        refused = refusal_body(asked.api, way.api, answer.status, answer.body, answer.message)
        return Response(refused, answer.status, answer.headers.passed, mimetype="application/json")
    usage = usage_stated(way.api, answer.values) or way.estimate(output_characters(way.api, answer.values))
    cost = exchange.charge(usage)
    try:
        if asked.stream:
            whole = way.streamed(answer.values, usage, cost)
        else:
            whole = way.whole(answer.body, answer.values, usage, cost)
    except UpstreamError:
        record_unanswered(exchange, usage, failed=True)
        raise
    exchange.settle(ledger, usage, answered=True, failed=False)
    way.learn(usage)
    headers = answer.headers.passed | {"X-Gateway-Cost-Usd": f"{cost:f}"}
    if asked.stream:
        return event_stream([whole], headers)
    return Response(whole, headers=headers, mimetype="application/json")


def find_way(
    asked: ModelRequest, catalog: Catalog, threshold_chars: int, cache_shares: CacheShares | None = None
) -> tuple[Route, Passage]:
    """The model that the policy chooses, and the way to it. Where that would take a translation that cannot
    be made, the policy chooses among the models that speak the client's API themselves.

    :raises GatewayError: where no model can answer
    """
    route = choose(asked, catalog, threshold_chars)
    try:
        return route, passage(asked, route.model, cache_shares)
    except InvalidRequest as untranslatable:
        speakers = catalog.speaking(asked.api)
        if len(speakers) == 0 or not catalog.leaves_choice(asked.model):
            raise
        try:
            route = choose(asked, speakers, threshold_chars)
        except InvalidRequest:
            raise untranslatable from None
        return route, passage(asked, route.model, cache_shares)


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


def usage_so_far(way: Passage, body: BytesIO, received: bytearray) -> Usage:
    """What a provider will bill for a call that nobody waits for any more: nothing where the request had not
    gone out, else its prompt and what had come of the answer."""
    if body.tell() == 0:
        return NO_USAGE
    return way.estimate(characters_so_far(bytes(received)))


def failed_usage(way: Passage, error: UpstreamError) -> Usage:
    """What a provider will bill for an answer that it could not give whole."""
    if error.usage is not None:
        return error.usage
    return NO_USAGE if error.characters is None else way.estimate(error.characters)


def record_unanswered(exchange: Exchange, usage: Usage, *, failed: bool) -> None:
    """Count a call that gave no answer. The client is told why that was, even if the count fails too."""
    try:
        exchange.settle(gateway().ledger, usage, answered=False, failed=failed)
    except LedgerUnavailable:
        current_app.logger.warning(
            "a call without an answer was not counted", extra={"request_id": exchange.request_id}
        )


def event_stream(events: Iterable[bytes], headers: dict[str, str]) -> Response:
    return Response(
        events,
        content_type="text/event-stream; charset=utf-8",
        # Proxies in front, nginx above all, would hold a stream back otherwise.
        headers=headers | {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
