"""The way of a request that a model answers, in whichever API: `serve` tells it from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import gevent
from flask import Response, current_app, g, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from gateway.admission import Admission, admit
from gateway.answers import characters_so_far, output_characters
from gateway.billing import NO_USAGE, Usage, usage_stated
from gateway.cache_share import CacheShares
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
from gateway.headers import CALL_ID, client_headers
from gateway.keys.authentication import authenticate
from gateway.keys.key_ring import KeyRing
from gateway.keys.virtual_key import Tenant
from gateway.ledger.key_store import KeyStore
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservation import Reservation
from gateway.orphans import Orphans
from gateway.passage import Passage
from gateway.relay import Relay
from gateway.schema.base import ModelRequest
from gateway.upstream import AnswerStream, Refusal, Upstream


@dataclass(frozen=True)
class Gateway:
    """What the views need, one of each per worker."""

    settings: Settings
    catalogs: CatalogWatch
    ledger: Ledger
    upstream: Upstream
    key_store: KeyStore
    keys: KeyRing
    cache_shares: CacheShares = field(default_factory=CacheShares)

    def start(self) -> None:
        """Begin what a worker does besides answering requests; needs its event loop."""
        self.catalogs.start()
        self.keys.start()
        self.ledger.start(Orphans(self.catalogs, self.upstream).bill_of)


def gateway() -> Gateway:
    found: Gateway = current_app.extensions["gateway"]
    return found


def serve(parse: Callable[[bytes], ModelRequest]) -> Response:
    """The answer of the model that the policy chooses, plain or streamed, billed before it is whole.

    :raises GatewayError: for whatever goes wrong before the first byte of the answer
    """
    settings, ledger, exchange = gateway().settings, gateway().ledger, exchange_of_request()
    connection = request.environ.get("gunicorn.socket")

    tenant = authenticated()
    asked = parse(read_body(settings.request_body_timeout))
    exchange.stream = asked.stream
    catalog = gateway().catalogs.current.only(tenant.models)
    with leaving_client_told(connection, exchange):
        admission = admit(asked, tenant, catalog, ledger, settings, gateway().cache_shares)
    exchange.route, exchange.reservation = admission.route, admission.reservation
    try:
        return forward(asked, admission, exchange, connection)
    finally:
        if not exchange.is_relayed:
            release_quietly(admission.reservation)


def forward(asked: ModelRequest, admission: Admission, exchange: Exchange, connection: Any) -> Response:
    """Make the call that was admitted, settle it and answer.

    :raises GatewayError: see `serve`
    """
    settings, ledger = gateway().settings, gateway().ledger
    way, model = admission.way, admission.route.model
    body, received = BytesIO(way.body), bytearray()
    headers = client_headers(request.headers, way.api, mock_faults=settings.forward_mock_faults)
    exchange.attempts += 1
    try:
        with client_watched(connection):
            answer = gateway().upstream.ask(
                model,
                way.api,
                body,
                stream=asked.stream,
                headers={**headers, CALL_ID: admission.reservation.call.id},
                received=received,
            )
        exchange.upstream_request_id = answer.headers.request_id
        if isinstance(answer, AnswerStream):
            relay = Relay(exchange, way, answer, ledger, connection)
            relay.await_first_event()
            exchange.is_relayed = True
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
    passed = answer.headers.passed | {"X-Gateway-Cost-Usd": f"{cost:f}"}
    if asked.stream:
        return event_stream([whole], passed)
    return Response(whole, headers=passed, mimetype="application/json")


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


@contextmanager
def leaving_client_told(connection: Any, exchange: Exchange) -> Iterator[None]:
    """Stop waiting where nobody waits any more, or the worker has to stop.

    :raises ClientClosedRequest: when the client has left
    :raises WorkerStopping: when there is no time left
    """
    try:
        with client_watched(connection):
            yield
    except ClientLeft:
        exchange.client_left = True
        raise ClientClosedRequest("The client closed its side of the connection.") from None
    except gevent.GreenletExit:
        raise WorkerStopping from None


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
        exchange.settle_left(gateway().ledger, usage, answered=False, failed=failed)
    except LedgerUnavailable:
        current_app.logger.warning(
            "a call without an answer was not counted", extra={"request_id": exchange.request_id}
        )


def release_quietly(reservation: Reservation) -> None:
    """Give back what is held for a call that has not been settled; whatever went wrong is told elsewhere."""
    with suppress(LedgerUnavailable):
        gateway().ledger.release(reservation)


def event_stream(events: Iterable[bytes], headers: dict[str, str]) -> Response:
    return Response(
        events,
        content_type="text/event-stream; charset=utf-8",
        # Proxies in front, nginx above all, would hold a stream back otherwise.
        headers=headers | {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
