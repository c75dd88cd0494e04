"""A whole answer that is paid for and that nobody has been given yet."""

from __future__ import annotations

from dataclasses import replace

from gateway.billing import NO_USAGE, Usage
from gateway.cascade.probabilities import without_probabilities
from gateway.cascade.said import Said, said_in
from gateway.incoming import Reply
from gateway.model_call import ModelCall
from gateway.outcome import Unanswered
from gateway.upstream import Answer


class Held:
    """The answer of `call`. It must be given or withheld."""

    def __init__(self, call: ModelCall, answer: Answer) -> None:
        call.keep(answer)
        self._call = call
        self._answer = answer
        self.model = call.attempt.route.model
        self.api = call.way.api
        self.asked_values = call.way.prompt_values
        self.is_limited = call.way.is_limited  # to fewer tokens than the client wants
        self.said: list[Said] = said_in(call.way.api, answer.values)

    @property
    def reason(self) -> str:
        """Why it was asked."""
        return self._call.attempt.route.reason

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing at all."""
        return all(each.is_empty and not each.refuses for each in self.said)

    @property
    def usage(self) -> Usage:
        return self._call.attempt.usage or NO_USAGE

    def give(self, reason: str) -> Reply | Unanswered:
        """The client's answer, billed; `reason` is why it gets this one.

        :raises LedgerUnavailable: where it cannot be billed
        """
        call, answer = self._call, self._answer
        call.attempt.route = replace(call.attempt.route, reason=reason)
        call.answer_with_this()
        if call.way.hides_probabilities:
            answer = without_probabilities(call.way.api, answer)
        return call.respond(answer)

    def withhold(self) -> None:
        """Bill it as one that the client did not get; it can be given all the same. Does nothing for one that
        was."""
        self._call.withhold(self._answer)
