"""One request's way through the gateway, as it goes to the log and to the ledger."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from gateway.billing import Usage
from gateway.errors import GatewayError, LedgerUnavailable
from gateway.keys.virtual_key import ANYBODY, Tenant
from gateway.ledger.entry import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservation import Reservation
from gateway.prices import charge
from gateway.router import Route

logger = logging.getLogger("gateway.request")


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
    route: Route | None = None
    reservation: Reservation | None = None
    usage: Usage | None = None
    cost: Decimal | None = None
    recorded: bool = False
    client_left: bool = False
    is_relayed: bool = False  # from then on a `Relay` settles it
    attempts: int = 0
    time_to_first_token: float | None = None
    upstream_request_id: str | None = None
    error: GatewayError | None = None

    def charge(self, usage: Usage) -> Decimal:
        """What the routed model's provider will bill for `usage`, in USD. It is worked out once, since a
        price may change with the clock."""
        assert self.route is not None  # noqa: S101 - only what was routed is billed
        if self.usage != usage or self.cost is None:
            self.usage, self.cost = usage, charge(self.route.model.price, usage)
        return self.cost

    def settle(self, ledger: Ledger, usage: Usage, *, answered: bool, failed: bool) -> None:
        """Bill the call of the routed model that was reserved.

        :raises LedgerUnavailable: when the bill may not have been recorded; the log line says so
        """
        entry, reservation = self._entry(usage, answered=answered, failed=failed)
        ledger.settle(reservation, entry)
        self.recorded = True

    def settle_left(self, ledger: Ledger, usage: Usage, *, answered: bool, failed: bool) -> None:
        """The same for a call that broke off. Where its client has left, so that nobody waits for the bill,
        `usage` is an estimate and the provider can be asked, it is what that says.

        :raises LedgerUnavailable: see `settle`
        """
        assert self.route is not None  # noqa: S101 - only what was routed is billed
        if self.client_left and usage.estimated and self.route.model.bill_path is not None:
            entry, reservation = self._entry(usage, answered=answered, failed=failed)
            ledger.settle_when_known(reservation, entry)
            self.recorded = True
        else:
            self.settle(ledger, usage, answered=answered, failed=failed)

    def _entry(self, usage: Usage, *, answered: bool, failed: bool) -> tuple[Entry, Reservation]:
        assert self.route is not None  # noqa: S101 - as above
        assert self.reservation is not None  # noqa: S101 - as above
        cost = self.charge(usage)
        entry = Entry(
            model=self.route.model.name,
            answered=answered,
            failed=failed,
            usage=usage,
            cost=cost,
            baseline_cost=self._baseline_cost(self.route, usage, cost) if answered else Decimal(0),
        )
        return entry, self.reservation

    @staticmethod
    def _baseline_cost(route: Route, usage: Usage, cost: Decimal) -> Decimal:
        if route.baseline is route.model:
            return cost
        return charge(route.baseline.price, replace(usage, stated_cost=None, service_tier=None))

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
                "attempts": self.attempts,
            }
        if self.reservation is not None:
            line["call"] = self.reservation.call.id
        if self.upstream_request_id is not None:
            line["upstream_request_id"] = self.upstream_request_id
        if self.time_to_first_token is not None:
            line["time_to_first_token_ms"] = round(self.time_to_first_token * 1000, 3)
        if self.usage is not None and self.cost is not None:
            line |= {
                "prompt_tokens": self.usage.input_tokens,
                "cached_tokens": self.usage.cached_input_tokens,
                "completion_tokens": self.usage.output_tokens,
                "usage_estimated": self.usage.estimated,
                "cost_usd": f"{self.cost:f}",
                "recorded": self.recorded,
            }
        if self.error is not None:
            line |= {"error": self.error.code, "error_message": self.error.message}
            if self.error.__cause__ is not None:
                line["cause"] = type(self.error.__cause__).__name__  # its text may hold addresses or keys
        unbilled = isinstance(self.error, LedgerUnavailable)
        level = logging.ERROR if unbilled or self.status >= 500 else logging.INFO
        logger.log(level, "request", extra=line)
