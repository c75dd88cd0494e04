"""The calls for one request: model after model until one answers, and what the cascade makes of an answer
that is to be checked."""

from __future__ import annotations

from gateway.admission import Admissions
from gateway.asking import Asking
from gateway.cascade.cascade import Cascade
from gateway.cascade.held import Held
from gateway.cascade.plan import planned
from gateway.errors import UpstreamError
from gateway.exchange import Exchange
from gateway.incoming import Incoming, Reply
from gateway.others import Others
from gateway.outcome import Unanswered
from gateway.request_limits import RequestLimits
from gateway.wiring import Gateway


class Forwarding:
    """Of one request."""

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
        self._asking = Asking(gateway, exchange, admissions, limits, incoming)

    def answer(self) -> Reply:
        """The answer of the first model that gives one, or what the cascade gives for it.

        :raises GatewayError: where none does, for the last call that was made
        """
        plan = planned(self._gateway, self._admissions)
        self._exchange.decision = plan.route
        self._gateway.retry_budget.deposit()
        others = Others(self._admissions, plan.route, fall_back=self._gateway.settings.fallbacks)
        route, way = plan.route, plan.way
        failure: Unanswered | None = None
        while True:
            outcome = self._asking.ask(route, way, others)
            if isinstance(outcome, Held):
                cascade = Cascade(self._gateway, self._exchange, self._admissions, self._asking, plan)
                return cascade.reply(outcome)
            if isinstance(outcome, Reply):
                return outcome
            if failure is None or outcome.is_models_fault:
                failure = outcome
            if not others.left:
                return self._given_up(failure)
            route, way = others.left.pop(0)

    def _given_up(self, failure: Unanswered) -> Reply:
        error = failure.error
        if failure.reply is not None:
            return failure.reply
        if isinstance(error, UpstreamError) and self._gateway.settings.upstream_retries:
            # One layer of retries is enough: OpenAI's clients have one of their own.
            error.headers.setdefault("X-Should-Retry", "false")
        raise error
