"""One request's way through the gateway, as it goes to the log and to the ledger."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gateway.attempt import Attempt
from gateway.errors import GatewayError, LedgerUnavailable, forget_frames
from gateway.ids import SANE_REQUEST_ID, new_id
from gateway.keys.virtual_key import ANYBODY, Tenant
from gateway.ledger.reservation import RateState
from gateway.logs import log_request
from gateway.overload import Slot
from gateway.router import Route
from gateway.routing.explanation import alternative_told, likely_usage


@dataclass
class Exchange:
    """What is known of a request so far. Times are seconds of the monotonic clock, costs USD."""

    request_id: str
    method: str
    path: str
    started: float = field(default_factory=time.monotonic)
    status: int = 0
    stream: bool = False
    tenant: Tenant = ANYBODY
    decision: Route | None = None  # while no call has been made
    attempts: list[Attempt] = field(default_factory=list)
    answering: Attempt | None = None
    skipped: list[str] = field(default_factory=list)  # models that were not asked, and why
    slot: Slot | None = None
    client_left: bool = False
    time_to_first_token: float | None = None
    error: GatewayError | None = None

    @classmethod
    def begun_by(cls, wanted_id: str | None, method: str, path: str) -> Exchange:
        """A request that comes in now; it has the id that its client wants, if that is one."""
        is_sane = wanted_id is not None and SANE_REQUEST_ID.fullmatch(wanted_id)
        return cls(wanted_id if wanted_id and is_sane else new_id(), method, path)

    @property
    def attempt(self) -> Attempt | None:
        """The latest call, or that which answered."""
        return self.answering or (self.attempts[-1] if self.attempts else None)

    @property
    def route(self) -> Route | None:
        """The latest decision."""
        attempt = self.attempt
        return self.decision if attempt is None else attempt.route

    @property
    def cost(self) -> Decimal:
        """What all calls have cost so far, as far as is known."""
        if len(self.attempts) == 1:
            return self.attempts[0].cost or Decimal(0)
        return sum((attempt.cost for attempt in self.attempts if attempt.cost is not None), Decimal(0))

    @property
    def alternative(self) -> str | None:
        """The model that the policy did not choose, and what it would have cost, as far as that can be told
        by now."""
        attempt = self.attempt
        if attempt is None or attempt.reservation is None:
            return None
        usage = attempt.usage or likely_usage(attempt.reservation.call.prompt_tokens, None)
        return alternative_told(attempt.route, usage)

    @property
    def most_cost(self) -> Decimal:
        """What they have cost at most."""
        return sum((attempt.most for attempt in self.attempts), Decimal(0))

    @property
    def rates(self) -> dict[str, RateState]:
        """How the limits of the key stand, where it has some."""
        first = self.attempts[0].reservation if self.attempts else None
        return first.rates if first is not None else {}

    def free_slot(self) -> None:
        """Give its place among the requests in work to the next."""
        if self.slot is not None:
            self.slot.free()

    def log(self) -> None:
        """Write the one line that the log has of this request: no prompt, no answer, no key."""
        line: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path[:200],
            "status": self.status,
            "duration_ms": round((time.monotonic() - self.started) * 1000, 3),
        }
        if self.tenant.key is not None:
            line |= {"key": self.tenant.key.id, "key_name": self.tenant.key.name}
        if self.route is not None:
            line |= {
                "model": self.route.model.name,
                "policy": self.route.policy,
                "reason": self.route.reason,
                "stream": self.stream,
                "client_left": self.client_left,
                "attempts": [attempt.log_fields() for attempt in self.attempts],
            }
        if self.skipped:
            line["skipped"] = self.skipped
        if self.time_to_first_token is not None:
            line["time_to_first_token_ms"] = round(self.time_to_first_token * 1000, 3)
        if (attempt := self.attempt) is not None:
            line |= self._outcome_of(attempt)
        if self.error is not None:
            line |= {"error": self.error.code, "error_message": self.error.message}
            if self.error.__cause__ is not None:
                line["cause"] = type(self.error.__cause__).__name__  # its text may hold addresses or keys
        unbilled = isinstance(self.error, LedgerUnavailable)
        level = logging.ERROR if unbilled or self.status >= 500 else logging.INFO
        log_request(level, line)
        if self.error is not None:
            forget_frames(self.error)

    def _outcome_of(self, attempt: Attempt) -> dict[str, Any]:
        outcome: dict[str, Any] = {}
        if attempt.reservation is not None:
            outcome["call"] = attempt.reservation.call.id
        if attempt.upstream_request_id is not None:
            outcome["upstream_request_id"] = attempt.upstream_request_id
        if (usage := attempt.usage) is not None:
            outcome |= {
                "prompt_tokens": usage.input_tokens,
                "cached_tokens": usage.cached_input_tokens,
                "completion_tokens": usage.output_tokens,
                "usage_estimated": usage.estimated,
                "cost_usd": f"{self.cost:f}",
                "recorded": attempt.recorded,
            }
        return outcome
