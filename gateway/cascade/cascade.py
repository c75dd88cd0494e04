"""What becomes of a cheap model's answer: it is checked, and given where nothing speaks against it; else the
dearest model is asked, where time and money allow. The cheap answer stands where that brings none."""

from __future__ import annotations

import time
from dataclasses import replace

from gateway.admission import Admissions
from gateway.asking import Asking
from gateway.cascade.agreement import final_answer
from gateway.cascade.checks import fault_in_probability, fault_in_structure
from gateway.cascade.expected import expected_of
from gateway.cascade.held import Held
from gateway.cascade.judge import accepts, judging
from gateway.cascade.plan import Plan, held_way
from gateway.cascade.rules import CHECKS
from gateway.cascade.said import Said
from gateway.errors import GatewayError, InsufficientQuota, InvalidRequest, RequestTooDear
from gateway.exchange import Exchange
from gateway.incoming import Reply
from gateway.others import Others
from gateway.outcome import Unanswered
from gateway.router import Route, obstacle_to
from gateway.routing.policy import IS_CHECKED
from gateway.timeouts import Deadline
from gateway.wiring import Gateway

UNREADABLE = "not readable"
MOST_CHOICES = 16  # that are looked at; each may keep the worker busy for a while


class Cascade:
    """Of one request, whose first model has answered."""

    def __init__(
        self, gateway: Gateway, exchange: Exchange, admissions: Admissions, asking: Asking, plan: Plan
    ) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._admissions = admissions
        self._asking = asking
        self._plan = plan
        self._rules = gateway.settings.cascade_rules
        self._no_others = Others(admissions, plan.route, fall_back=False, has_better=True)
        self._answers: list[Held] = []
        self._best: Held | None = None

    def reply(self, held: Held) -> Reply:
        """What the client gets, given the first answer.

        :raises GatewayError: where the client has left or the worker stops meanwhile, where what it gets
            cannot be billed, and where there is no answer at all
        """
        self._answers.append(held)
        try:
            best, fault = self._checked(held)
            if fault is None:
                made = ", ".join(check for check in CHECKS if check in self._rules.checks)
                reply = best.give(best.reason.replace(IS_CHECKED, f"its answer passed: {made}"))
                if isinstance(reply, Reply):
                    return reply
                fault = UNREADABLE
            return self._escalated(best, fault)
        finally:
            self._withhold_all()

    def _checked(self, held: Held) -> tuple[Held, str | None]:
        """The best answer, and what speaks against it."""
        best, fault = held, None
        for check in CHECKS:
            if check not in self._rules.checks:
                continue
            match check:
                case "structure":
                    fault = self._fault_in_structure(held)
                case "probability":
                    faults = [fault_in_probability(each, self._rules) for each in held.said]
                    fault = next(filter(None, faults), None)
                case "agreement":
                    best, fault = self._agreed(held)
                case "judge":
                    fault = self._judged(best)
            if fault is not None:
                break
        return best, fault

    def _fault_in_structure(self, held: Held) -> str | None:
        expected = expected_of(held.api, held.asked_values)
        for said in held.said[:MOST_CHOICES] or [Said()]:
            cut_by_client = said.is_cut and self._is_at_clients_limit(held)
            if (fault := fault_in_structure(said, expected, is_cut_by_client=cut_by_client)) is not None:
                return fault
        return None

    def _is_at_clients_limit(self, held: Held) -> bool:
        """Whether the limit at which an answer was cut is not that of its model, so that the dearest model's
        would be cut there too."""
        limit, choices = self._admissions.asked.max_output_tokens, self._admissions.asked.choices
        if limit is None or held.is_limited:
            return held.is_limited
        return held.usage.estimated or held.usage.output_tokens >= limit * choices

    def _agreed(self, held: Held) -> tuple[Held, str | None]:
        """The answer on which two models agree, the cheaper one's; the first one where none do. Where there
        is no other cheap model, nothing is said."""
        beside = self._plan.beside
        if not beside:
            return held, None
        finals = [(held, self._final_answer(held))]
        if finals[0][1] is None and len(beside) == 1:
            return held, "no short answer to compare"
        for route in beside:
            another = self._held_answer(route)
            if another is None:
                continue
            final = self._final_answer(another)
            for earlier, other in finals:
                if final is not None and final == other:
                    return earlier, None
            finals.append((another, final))
        return held, "other models do not agree" if len(finals) > 1 else "no other answer to compare"

    def _final_answer(self, held: Held) -> str | None:
        if len(held.said) != 1 or self._fault_in_structure(held) is not None:
            return None
        return final_answer(held.said[0])

    def _judged(self, held: Held) -> str | None:
        asked = self._admissions.asked
        try:
            judge = self._gateway.catalogs.current.named(self._rules.judge_model or "")
            for said in held.said[:MOST_CHOICES]:
                if self._is_late:
                    return "not judged in time"
                question = judging(asked, said, judge)
                if (obstacle := obstacle_to(question, judge)) is not None:
                    raise obstacle
                route = Route(judge, self._plan.route.policy, "judges an answer", self._plan.route.baseline)
                admissions = self._admissions.about(question)
                way = admissions.way_to(judge, held=True, probabilities=False)
                asking = self._asking.further(question, self._deadline)
                verdict = asking.ask(route, way, self._no_others)
                if not self._is_accepted(verdict):
                    return "rejected by the judge"
        except GatewayError as error:
            if not isinstance(error, InvalidRequest) and error.status != 404:
                raise
            return "the judge cannot be asked"
        return None

    def _is_accepted(self, verdict: Reply | Held | Unanswered) -> bool:
        if not isinstance(verdict, Held):
            return False
        self._answers.append(verdict)
        return len(verdict.said) == 1 and accepts(verdict.said[0])

    def _held_answer(self, route: Route) -> Held | None:
        """What another model says to the same, None where it says nothing, or nothing in time."""
        if self._is_late:
            return None
        route = replace(route, reason=f"asked beside; {IS_CHECKED}")
        way = held_way(self._gateway, self._admissions, route)
        outcome = self._asking.further(deadline=self._deadline).ask(route, way, self._no_others)
        if not isinstance(outcome, Held):
            return None
        self._answers.append(outcome)
        return outcome

    @property
    def _deadline(self) -> Deadline:
        """By when what is asked beside has to be there."""
        latest = Deadline(self._exchange.started + self._rules.max_seconds)
        return min(latest, self._asking.deadline, key=lambda deadline: deadline.at)

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._exchange.started > self._rules.max_seconds

    def _escalated(self, held: Held, fault: str) -> Reply:
        """The dearest model's answer, or the cheap one for want of that."""
        found = f"{held.model.name}'s answer was checked: {fault}"
        self._withhold_all()  # what it cost is no longer held in a budget
        outcome: Reply | Unanswered | None = None
        is_nothing = held.is_empty or fault == UNREADABLE
        if self._is_late and not is_nothing:
            obstacle = f"{self._rules.max_seconds:g} seconds have passed"
        else:
            outcome = self._dearest_answer(held, f"{found}; escalated")
            if isinstance(outcome, Reply) and outcome.status < 400:
                return outcome
            obstacle = self._in_words(outcome)
        if fault != UNREADABLE and not (is_nothing and isinstance(outcome, Unanswered)):
            reply = held.give(f"{found}; not escalated: {obstacle}")
            if isinstance(reply, Reply):
                return reply
            outcome = reply
        if isinstance(outcome, Reply):
            return outcome
        assert outcome is not None  # noqa: S101 - without an answer the dearest model was asked
        if outcome.reply is not None:
            return outcome.reply
        raise outcome.error

    def _dearest_answer(self, held: Held, reason: str) -> Reply | Unanswered:
        assert self._plan.dearest is not None  # noqa: S101 - else there is no cascade
        route = replace(self._plan.dearest, reason=reason)
        # An answer that is cut at what a budget still affords would be worse than the one that is there.
        asking = self._asking.further(least_tokens=2 * held.usage.output_tokens)
        outcome = asking.ask(route, self._admissions.way_of(route), self._no_others)
        assert not isinstance(outcome, Held)  # noqa: S101 - this way holds nothing
        return outcome

    def _in_words(self, outcome: Reply | Unanswered) -> str:
        name = self._plan.dearest.model.name if self._plan.dearest else ""
        if isinstance(outcome, Reply):
            return f"{name} refused"
        match outcome.error:
            case RequestTooDear():
                return "the request's cost limit does not allow it"
            case InsufficientQuota():
                return "the budget does not allow it"
            case _:
                return f"{name} gave no answer"

    def _withhold_all(self) -> None:
        for answer in self._answers:
            answer.withhold()
