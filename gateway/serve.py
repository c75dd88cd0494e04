"""The way of a request that a model answers, in whichever API: `serve` tells it from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.admission import Admissions
from gateway.apis import Api
from gateway.client import waited_for
from gateway.error_shapes import api_of_path, error_body
from gateway.errors import CrossSiteRequest, GatewayError, Overloaded, forget_frames
from gateway.exchange import Exchange
from gateway.feedback import HEADER, feedback_in
from gateway.foreign_errors import translate
from gateway.forwarding import Forwarding
from gateway.incoming import Incoming, Reply
from gateway.keys.authentication import authenticate
from gateway.keys.virtual_key import Tenant
from gateway.ledger.rates import rate_headers
from gateway.request_limits import RequestLimits
from gateway.schema.base import ModelRequest
from gateway.schema.chat import parse_chat_request
from gateway.schema.messages import parse_messages_request
from gateway.schema.prompts import parse_completion_request, parse_embedding_request
from gateway.schema.responses import parse_responses_request
from gateway.stopping import refuse_when_stopping
from gateway.wiring import Gateway

Parse = Callable[[bytes], ModelRequest]

MODEL_ROUTES: dict[str, Parse] = {
    "/v1/chat/completions": parse_chat_request,
    "/v1/responses": parse_responses_request,
    "/v1/messages": parse_messages_request,
    "/v1/completions": parse_completion_request,
    "/v1/embeddings": parse_embedding_request,
}
PROBES = ("/healthz", "/readyz")

logger = logging.getLogger(__name__)


def serve(gateway: Gateway, exchange: Exchange, incoming: Incoming, parse: Parse) -> Reply:
    """The answer of the model that the policy chooses, or of another where that one fails, plain or streamed,
    billed before it is whole.

    :raises GatewayError: for whatever goes wrong before the first byte of the answer
    """
    gateway.slots.check()
    tenant = authenticated(gateway, exchange, incoming)
    if told := incoming.headers.get(HEADER):
        note_feedback(gateway, exchange, told)
    limits = limits_of(gateway, exchange, incoming)
    asked = gateway.bodies.parsed(incoming, parse, limits.deadline.remaining)
    exchange.stream = asked.stream
    catalog = gateway.catalogs.current.only(tenant.models)
    exchange.slot = gateway.slots.take_at_once()
    if exchange.slot is None:
        with waited_for(exchange, incoming.connection):
            exchange.slot = gateway.slots.take(patience=max(0.0, limits.deadline.remaining))
    try:
        admissions = Admissions(
            asked,
            tenant,
            catalog,
            gateway.routing,
            gateway.ledger,
            gateway.settings,
            gateway.cache_shares,
            exchange.request_id,
            cascades=limits.cascades,
        )
        return Forwarding(gateway, exchange, admissions, limits, incoming).answer()
    except BaseException:
        exchange.free_slot()
        raise


def answered(gateway: Gateway, incoming: Incoming, parse: Parse) -> Reply:
    """The answer of `serve`, or the refusal in its place, with headers that tell how it came about."""
    exchange = begun(incoming)
    try:
        check_may_ask(incoming)
        reply = serve(gateway, exchange, incoming, parse)
    except Exception as error:
        reply = refusal(exchange, error)
    finish(exchange, incoming, reply)
    return reply


def begun(incoming: Incoming) -> Exchange:
    """What becomes of a request, from the moment that its head is there."""
    return Exchange.begun_by(incoming.headers.get("X-Request-Id"), incoming.method, incoming.path)


def check_may_ask(incoming: Incoming) -> None:
    """
    :raises WorkerStopping: where no new work is taken any more
    :raises CrossSiteRequest: where a page elsewhere would spend our money
    """
    refuse_when_stopping(incoming.path)
    # Only browsers send this header, and no page can forge it.
    if incoming.method == "POST" and incoming.headers.get("Sec-Fetch-Site") == "cross-site":
        raise CrossSiteRequest("This gateway does not serve web pages of other sites.")


def authenticated(gateway: Gateway, exchange: Exchange, incoming: Incoming) -> Tenant:
    """Who asks, by the key in the request's head.

    :raises InvalidApiKey: for a key that is not valid, and for none where one is needed
    :raises LedgerUnavailable: where a key cannot be looked up
    """
    required = gateway.settings.require_keys
    exchange.tenant = authenticate(incoming.headers, gateway.keys, required=required)
    return exchange.tenant


def note_feedback(gateway: Gateway, exchange: Exchange, told: str) -> None:
    """Note what a header says of an earlier answer. No request is refused because that cannot be read."""
    said, key = feedback_in(told), exchange.tenant.key
    if said is None:
        logger.info("a header of feedback cannot be read", extra={"request_id": exchange.request_id})
    elif gateway.settings.routing_log_size:
        gateway.ledger.score_later(said.request_id, None if key is None else key.id, said.score)


def limits_of(gateway: Gateway, exchange: Exchange, incoming: Incoming) -> RequestLimits:
    """What the request may take at most.

    :raises InvalidRequest: where its headers say it badly
    """
    settings = gateway.settings
    return RequestLimits.of(
        incoming.headers,
        since=exchange.started,
        timeout=settings.request_timeout,
        max_cost=settings.max_request_cost,
    )


def refusal(exchange: Exchange, error: Exception) -> Reply:
    """The whole answer for a request that failed before the first byte of one, whatever it was."""
    translated = translate(error)
    if translated.status == 500:
        logger.error("unexpected error", exc_info=error, extra={"request_id": exchange.request_id})
    forget_frames(error)
    exchange.error = translated
    return error_reply(translated, api_of_path(exchange.path))


def error_reply(error: GatewayError, api: Api = Api.CHAT_COMPLETIONS) -> Reply:
    return Reply.json(error.status, error_body(api, error), error.headers)


def finish(exchange: Exchange, incoming: Incoming, reply: Reply) -> None:
    """Have the reply say what became of the request, and the log once it has been sent."""
    exchange.status = reply.status
    headers = reply.headers
    headers["X-Request-Id"] = exchange.request_id
    if api_of_path(incoming.path) is Api.MESSAGES:
        headers["Request-Id"] = exchange.request_id  # where Anthropic's clients look for it
    if (route := exchange.route) is not None:
        headers["X-Gateway-Model"] = route.model.name
        headers["X-Gateway-Policy"] = route.policy
        headers["X-Gateway-Reason"] = route.reason
        if (alternative := exchange.alternative) is not None:
            headers["X-Gateway-Alternative"] = alternative
    if exchange.attempts:
        headers["X-Gateway-Attempts"] = ", ".join([attempt.told for attempt in exchange.attempts])
    if exchange.rates:
        # The key's own limits, without those of the provider's.
        for name in [name for name in headers if name.lower().startswith("x-ratelimit-")]:
            del headers[name]
        headers.update(rate_headers(exchange.rates))
    if isinstance(exchange.error, Overloaded) and incoming.connection is not None:
        incoming.connection.close_after_answer()  # another worker may have time
    incoming.at_end.append(exchange.free_slot)
    if incoming.path not in PROBES or reply.status >= 400:
        incoming.at_end.append(exchange.log)
