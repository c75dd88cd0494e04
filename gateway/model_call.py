"""One call of a model that was admitted: made, settled whatever becomes of it, and its answer made into the
client's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any, TypeAlias

import gevent

from gateway.admission import Admission
from gateway.answers import characters_so_far, output_characters
from gateway.attempt import PATIENCE_FOR_BILL, Attempt
from gateway.billing import NO_USAGE, Usage, usage_stated
from gateway.client import ClientLeft, client_watched
from gateway.decisions import Choice
from gateway.error_shapes import refusal_body
from gateway.errors import (
    ClientClosedRequest,
    LedgerUnavailable,
    UpstreamError,
    UpstreamTimeout,
    WorkerStopping,
)
from gateway.exchange import Exchange
from gateway.headers import CALL_ID, client_headers
from gateway.incoming import Reply, RequestHeaders
from gateway.outcome import Unanswered, refused, unanswered
from gateway.overload import Slot
from gateway.relay import ProviderSaidFailed, Relay
from gateway.retries import RETRIED_STATUSES
from gateway.schema.base import ModelRequest
from gateway.timeouts import Deadline
from gateway.upstream import Answer, AnswerStream, Refusal
from gateway.wiring import Gateway

logger = logging.getLogger(__name__)


HEDGE_LOST = "hedge_lost"

Answered: TypeAlias = Answer | Refusal | Relay


class HedgeLost(BaseException):
    """Another call for the same request has answered first. No `Exception`, as no library may catch it."""


class ModelCall:
    """`slot` is the model's, and is freed when the call is over; `on_end` is called then."""

    def __init__(
        self,
        gateway: Gateway,
        exchange: Exchange,
        asked: ModelRequest,
        admission: Admission,
        slot: Slot,
        deadline: Deadline,
    ) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._asked = asked
        self.way = self._way = admission.way
        self._slot = slot
        self._deadline = deadline
        self._headers = {CALL_ID: admission.reservation.call.id}
        self._connection: Any = None
        self._way.spent_before = exchange.cost
        route = admission.route
        choice = Choice.of(route, exchange.request_id, exchange.tenant, gateway.settings)
        self.attempt = Attempt(route, admission.reservation, choice)
        self.relay: Relay | None = None  # once it has the answer
        self.on_end: Callable[[], None] | None = None
        self._is_withheld = False
        exchange.attempts.append(self.attempt)

    def for_client(self, headers: RequestHeaders, connection: Any) -> None:
        """Pass on those of the client's headers that may be, and end the call when its socket is closed."""
        mock_faults = self._gateway.settings.forward_mock_faults
        self._headers |= client_headers(headers, self._way.api, mock_faults=mock_faults)
        self._connection = connection

    def ask(self) -> Answered | Unanswered:
        """What the provider answers, a stream once its content has begun; a call that fails is settled.

        :raises ClientClosedRequest: when the client left meanwhile
        :raises WorkerStopping: when there is no time left
        """
        body, received = BytesIO(self._way.body), bytearray()
        try:
            with client_watched(self._connection):
                answer = self._gateway.upstream.ask(
                    self.attempt.route.model,
                    self._way.api,
                    body,
                    stream=self._way.stream,
                    headers=self._headers,
                    deadline=self._deadline,
                    received=received,
                )
            self.attempt.upstream_request_id = answer.headers.request_id
            if isinstance(answer, AnswerStream):
                return self._relayed(answer)
            if isinstance(answer, Answer):
                self.attempt.end(200)
            return answer
        except ClientLeft:
            self._exchange.client_left = True
            self.attempt.end(ClientClosedRequest.status, ClientClosedRequest.code)
            self._count(self._usage_so_far(body, received), failed=False, ask_bill=body.tell() > 0)
            raise ClientClosedRequest("The client closed its side of the connection.") from None
        except HedgeLost:
            self.attempt.end(ClientClosedRequest.status, HEDGE_LOST)
            self._count(self._usage_so_far(body, received), failed=False, ask_bill=body.tell() > 0)
            raise
        except gevent.GreenletExit:
            self.attempt.end(WorkerStopping.status, WorkerStopping.code)
            self._count(self._usage_so_far(body, received), failed=True, ask_bill=False)
            raise WorkerStopping from None
        except UpstreamError as error:
            return self._failed(error, was_sent=body.tell() > 0)

    def respond(self, answered: Answered) -> Reply | Unanswered:
        """The client's answer, billed before it is whole.

        :raises LedgerUnavailable: where it cannot be billed
        """
        if isinstance(answered, Relay):
            self.relay = answered
            answered.on_close = self._over
            return Reply.events(answered, answered.headers)
        if isinstance(answered, Refusal):
            return self._refused(answered)
        usage, way = self.attempt.usage or self._usage_of(answered), self._way
        self.attempt.charge(usage)
        cost = self._exchange.cost
        try:
            if self._asked.stream:
                whole = way.streamed(answered.values, usage, cost)
            else:
                whole = way.whole(answered.body, answered.values, usage, cost)
        except UpstreamError as error:
            error.usage = usage
            return self._failed(error, was_sent=True)
        if self._is_withheld:
            self.attempt.answer_after_all(self._gateway.ledger)
        else:
            self.attempt.settle(self._gateway.ledger, usage, answered=True, failed=False)
            way.learn(usage)
        passed = answered.headers.passed | {"X-Gateway-Cost-Usd": f"{cost:f}"}
        if self._asked.stream:
            return Reply.events([whole], passed)
        return Reply.json(200, whole, passed)

    def answer_with_this(self) -> None:
        """This call's answer is the one that the client gets."""
        self._exchange.answering = self.attempt

    def keep(self, answer: Answer) -> None:
        """Take note that the call is over, while it is not known yet whether the client gets its answer."""
        self.attempt.charge(self._usage_of(answer))
        self._over()

    def withhold(self, answer: Answer) -> None:
        """Bill an answer that the client does not get, as far as is known; `respond` may give it after all.
        Does nothing for one that is billed."""
        if not (self._is_withheld or self.attempt.recorded):
            self._is_withheld = True
            usage = self.attempt.usage or self._usage_of(answer)
            self._way.learn(usage)
            self._count(usage, failed=False, ask_bill=False)

    def refused_for_now(self, refusal: Refusal) -> Unanswered:
        """Count a call that is refused for what the next one does not ask for."""
        reply = self._refused(refusal)
        if isinstance(reply, Unanswered):
            return reply
        return replace(refused(refusal.status, reply), is_models_fault=False)

    def discard(self, answered: object) -> None:
        """Settle a call of which nobody wants to know any more what it said."""
        self.attempt.end(ClientClosedRequest.status, HEDGE_LOST)  # where it had not even begun
        if isinstance(answered, Relay):
            answered.discard()
        elif isinstance(answered, Answer):
            self._count(self._usage_of(answered), failed=False, ask_bill=False)
        elif isinstance(answered, Refusal):
            self._count(answered.usage or NO_USAGE, failed=True, ask_bill=False)

    def end(self) -> None:
        """Give back what is held for a call that is over without an answer that a relay still settles. May be
        called again."""
        if self.relay is None:
            if self.attempt.reservation is not None:
                with suppress(LedgerUnavailable):  # whatever went wrong is told elsewhere
                    self._gateway.ledger.release(self.attempt.reservation)
            self._over()

    def _over(self) -> None:
        self._slot.free()
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()

    def _relayed(self, stream: AnswerStream) -> Relay:
        way, ledger = self._way, self._gateway.ledger
        relay = Relay(self._exchange, self.attempt, way, stream, ledger, self._connection)
        relay.await_content()
        self.attempt.end(200)
        return relay

    def _usage_of(self, answer: Answer) -> Usage:
        api = self._way.api
        return usage_stated(api, answer.values) or self._way.estimate(output_characters(api, answer.values))

    def _refused(self, refusal: Refusal) -> Reply | Unanswered:
        self.attempt.end(refusal.status)
        self._count(refusal.usage or NO_USAGE, failed=True, ask_bill=False)
        body = refusal_body(self._asked.api, self._way.api, refusal.status, refusal.body, refusal.message)
        reply = Reply.json(refusal.status, body, refusal.headers.passed)
        return refused(refusal.status, reply) if refusal.status in RETRIED_STATUSES else reply

    def _failed(self, error: UpstreamError, *, was_sent: bool) -> Unanswered:
        self.attempt.end(error.provider_status or error.status, None if error.provider_status else error.code)
        usage = error.usage
        ask_bill = usage is not None and usage.estimated
        if usage is None:
            self.attempt.bill_unknown = was_sent and error.provider_status is None
            # What a provider bills that said nothing, only it can know; without asking it, that is nothing.
            ask_bill = error.characters is not None or (was_sent and isinstance(error, UpstreamTimeout))
            usage = NO_USAGE if error.characters is None else self._way.estimate(error.characters)
        # Who has answered knows the bill by now; who was silent will have noticed in a moment that we left.
        patience = 0.0 if isinstance(error, UpstreamTimeout) else PATIENCE_FOR_BILL
        self._count(usage, failed=True, ask_bill=ask_bill, patience=patience)
        reply = Reply.events([error.told], error.headers) if isinstance(error, ProviderSaidFailed) else None
        outcome = unanswered(error, reply)
        slow = self.attempt.route.model.slow_seconds or self._gateway.settings.circuit_rules.slow_seconds
        if self.attempt.seconds is not None and self.attempt.seconds > slow:
            return replace(outcome, is_models_fault=True)  # whatever time the client gave it
        return outcome

    def _usage_so_far(self, body: BytesIO, received: bytearray) -> Usage:
        """What a provider will bill for a call that nobody waits for any more: nothing where the request had
        not gone out, else its prompt and what had come of the answer."""
        if body.tell() == 0:
            return NO_USAGE
        return self._way.estimate(characters_so_far(bytes(received)))

    def _count(self, usage: Usage, *, failed: bool, ask_bill: bool, patience: float = 0) -> None:
        """Count a call that gave no answer. The client is told why that was, even if the count fails too."""
        ledger, attempt = self._gateway.ledger, self.attempt
        try:
            if ask_bill:
                attempt.settle_by_bill(ledger, usage, answered=False, failed=failed, patience=patience)
            else:
                attempt.settle(ledger, usage, answered=False, failed=failed)
        except LedgerUnavailable:
            logger.warning(
                "a call without an answer was not counted", extra={"request_id": self._exchange.request_id}
            )
