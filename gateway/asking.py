"""One model is asked: admitted, called, called again where that is worth it.

Each call is admitted (its worst case held in all budgets), made and settled for itself, so that the bill has
every one of them. All of this happens before the first byte of an answer reaches the client; from then on its
`Relay` has it.
"""

from __future__ import annotations

import contextlib
import copy
import math

import gevent

from gateway.admission import Admission, Admissions
from gateway.cascade.held import Held
from gateway.circuits import Permit
from gateway.client import waited_for
from gateway.errors import (
    ClientClosedRequest,
    GatewayError,
    LedgerUnavailable,
    NoModelAvailable,
    Overloaded,
    RequestTooDear,
    WorkerStopping,
)
from gateway.exchange import Exchange
from gateway.hedging import first_to_answer
from gateway.incoming import Incoming, Reply
from gateway.model_call import Answered, ModelCall
from gateway.others import Others
from gateway.outcome import Again, Unanswered
from gateway.passage import Passage
from gateway.request_limits import RequestLimits
from gateway.retries import backoff
from gateway.router import Route
from gateway.schema.base import ModelRequest
from gateway.timeouts import TOO_LATE, Deadline, time_limit
from gateway.upstream import Answer, Refusal
from gateway.wiring import Gateway

# Who asks to be left alone for longer is not waited for where another model can answer at once.
LONGEST_WAIT_BESIDE_OTHERS = 2.0
MANY = 1000  # retries, more than there ever are
IDEMPOTENCY_KEY = "Idempotency-Key"


class Asking:
    """Of one request. `deadline` is by when its calls have to be over."""

    def __init__(
        self,
        gateway: Gateway,
        exchange: Exchange,
        admissions: Admissions,
        limits: RequestLimits,
        incoming: Incoming,
    ) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._admissions = admissions
        self._max_cost = limits.max_cost
        self._client = incoming.headers
        self._connection = incoming.connection
        self._least_tokens = 0
        self.deadline = limits.deadline

    def further(
        self,
        asked: ModelRequest | None = None,
        deadline: Deadline | None = None,
        least_tokens: int = 0,
    ) -> Asking:
        """For a call besides the one that the client asked for: about something else, by an earlier deadline,
        only where an answer of so many tokens can be paid for. A provider that has seen the client's key of
        idempotency takes no other request for the same."""
        another = copy.copy(self)
        another._client = self._client.without(IDEMPOTENCY_KEY)
        another._least_tokens = least_tokens
        if asked is not None:
            another._admissions = self._admissions.about(asked)
        if deadline is not None:
            another.deadline = deadline
        return another

    def ask(self, route: Route, way: Passage, others: Others) -> Reply | Held | Unanswered:
        """What one model answers, after retries if need be; another one where a budget affords only that. A
        whole answer is held where the way says so.

        :raises GatewayError: where the request may make no call at all
        """
        if self._gateway.circuits.state(route.model.name) == "open":
            return self._skipped(route)
        admission = self._admitted(route, way)
        if isinstance(admission, Unanswered):
            return admission
        if admission.route.model is not route.model:
            others.begin_with(admission.route)
        route, budget = admission.route, self._gateway.retry_budget
        permit = self._gateway.circuits.permit(route.model.name, route.model.slow_seconds)
        fault: Unanswered | None = None
        if permit is None:
            self._release(admission)
            return self._skipped(route)
        # While a model is tried everybody else is refused, so that one call has to do.
        retries = MANY if self._gateway.circuits.state(route.model.name) != "closed" else 0
        try:
            outcome = self._call(admission, permit)
            while isinstance(outcome, Unanswered):
                if outcome.is_models_fault:
                    fault = outcome
                pause = self._pause_before_retry(outcome, retries, others)
                if pause is None or not budget.try_withdraw(last_chance=not others):
                    break
                try:
                    with waited_for(self._exchange, self._connection):
                        gevent.sleep(pause)
                    again = self._admitted(route, self._way_again(admission.way))
                    if isinstance(again, Unanswered):
                        break
                    outcome = self._call(again, permit)
                finally:
                    budget.done()
                retries += 1
        except BaseException:
            permit.abandoned()
            raise
        if not isinstance(outcome, Unanswered):
            return outcome
        permit.failed() if fault is not None else permit.abandoned()
        return fault or outcome

    def _call(self, admission: Admission, permit: Permit) -> Reply | Held | Unanswered:
        """What one call of a model gives."""
        try:
            call = self._begun(admission)
        except Overloaded as error:
            return Unanswered(error, is_models_fault=False)
        held: Held | None = None
        try:
            call, answered = self._first_answered(call)
            if isinstance(answered, Unanswered):
                return answered
            if isinstance(answered, Answer) and admission.way.is_held:
                self._note_answer(call, permit)
                held = Held(call, answered)
                return held
            if isinstance(answered, Refusal) and self._refuses_probabilities(admission, answered):
                return call.refused_for_now(answered)
            self._exchange.answering = call.attempt
            reply = call.respond(answered)
            if isinstance(answered, Refusal):
                permit.abandoned()  # that the client is at fault says nothing about the model
            elif isinstance(reply, Reply):
                self._note_answer(call, permit)
            return reply
        finally:
            if held is None:
                call.end()

    def _admitted(self, route: Route, way: Passage) -> Admission | Unanswered:
        """What is reserved for a call of a model, or another one where a budget affords only that.

        :raises GatewayError: where the request may make no call at all
        """
        max_cost, deadline = self._max_cost, self.deadline
        left = None if max_cost is None else max_cost - self._exchange.most_cost
        try:
            if not self._admissions.may_wait and deadline.remaining > 0:
                return self._admissions.admit(route, way, left, self._least_tokens)
            with (
                waited_for(self._exchange, self._connection),
                time_limit(deadline.remaining, deadline, TOO_LATE),
            ):
                return self._admissions.admit(route, way, left, self._least_tokens)
        except RequestTooDear as error:  # for this model
            return Unanswered(error, is_models_fault=False)
        except (ClientClosedRequest, WorkerStopping):
            raise
        except GatewayError as error:
            if not self._exchange.attempts:
                raise
            return Unanswered(error, is_models_fault=False)

    def _begun(self, admission: Admission, *, queues: bool = True) -> ModelCall:
        """The call that was admitted, once its model may have another one in work.

        :raises Overloaded: where it may not
        """
        deadline = self.deadline
        slots = self._gateway.model_slots.of(admission.route.model)
        slot = slots.take_at_once()
        if slot is None:
            try:
                with waited_for(self._exchange, self._connection):
                    slot = slots.take(patience=max(0.0, deadline.remaining) if queues else 0)
            except BaseException:
                self._release(admission)
                raise
        call = ModelCall(self._gateway, self._exchange, self._admissions.asked, admission, slot, deadline)
        call.for_client(self._client, self._connection)
        return call

    def _release(self, admission: Admission) -> None:
        with contextlib.suppress(LedgerUnavailable):
            self._gateway.ledger.release(admission.reservation)

    def _first_answered(self, call: ModelCall) -> tuple[ModelCall, Answered | Unanswered]:
        """The reply to a call, or to the one that is made beside it when it takes unusually long."""
        route, stream = call.attempt.route, call.way.stream
        usual = self._gateway.first_byte_times.p95(route.model.name, stream=stream)
        if not self._gateway.settings.hedging or usual is None:
            return call, call.ask()
        budget = self._gateway.retry_budget

        def another() -> ModelCall | None:
            if not budget.try_withdraw(last_chance=False):
                return None
            try:
                admission = self._admitted(route, self._way_again(call.way))
                if isinstance(admission, Unanswered):
                    budget.give_back()
                    return None
                hedge = self._begun(admission, queues=False)
            except Overloaded:
                budget.give_back()
                return None
            except BaseException:
                budget.give_back()
                raise
            hedge.attempt.is_hedge = True
            hedge.on_end = budget.done
            return hedge

        try:
            return first_to_answer(call, usual, another)
        except gevent.GreenletExit:
            raise WorkerStopping from None

    def _note_answer(self, call: ModelCall, permit: Permit) -> None:
        model, seconds = call.attempt.route.model.name, call.attempt.seconds or 0.0
        if self._gateway.settings.hedging:
            self._gateway.first_byte_times.note(model, seconds, stream=call.way.stream)
        if call.relay is not None and self._gateway.circuits.state(model) == "closed":
            # Whether it is a good answer is known at its end only; a probe is not waited for that long.
            call.relay.on_end = lambda broke: permit.failed() if broke else permit.succeeded(seconds)
        else:
            permit.succeeded(seconds)

    def _pause_before_retry(self, failure: Unanswered, retries: int, others: Others) -> float | None:
        """Seconds to wait before the same model is called again; None where it is not."""
        if failure.again is Again.NO or retries >= self._gateway.settings.upstream_retries:
            return None
        if failure.again is Again.LAST_RESORT and others:
            return None
        pause = backoff(retries)
        if failure.wait is not None:
            if failure.wait > LONGEST_WAIT_BESIDE_OTHERS and others:
                return None
            pause = max(pause, failure.wait)
        return pause if pause < self.deadline.remaining else None

    def _way_again(self, way: Passage) -> Passage:
        """The same way, for another call."""
        return self._admissions.way_to(way.model, held=way.is_held, probabilities=self._may_ask(way))

    def _may_ask(self, way: Passage) -> bool:
        return way.hides_probabilities and way.model.name not in self._gateway.without_probabilities

    def _refuses_probabilities(self, admission: Admission, refusal: Refusal) -> bool:
        """Whether it is for what only the gateway wished that the provider refuses. It is not asked again."""
        said = (refusal.body or b"").decode(errors="replace") + (refusal.message or "")
        if not admission.way.hides_probabilities or "logprob" not in said:
            return False
        self._gateway.without_probabilities.add(admission.route.model.name)
        return True

    def _skipped(self, route: Route) -> Unanswered:
        """A model that is not asked, since its circuit is open."""
        seconds = max(1, math.ceil(self._gateway.circuits.retry_after(route.model.name)))
        self._exchange.skipped.append(route.model.name)
        error = NoModelAvailable(
            f"{route.model.name} has failed too often just now, and no other model can answer; ask again.",
            headers={"Retry-After": str(seconds)},
        )
        return Unanswered(error, is_models_fault=False)
