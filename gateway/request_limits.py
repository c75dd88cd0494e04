"""What one request may take at most, in time and in money: as configured, or less if its client says so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from gateway.errors import InvalidRequest
from gateway.incoming import RequestHeaders
from gateway.timeouts import Deadline

TIMEOUT = "X-Request-Timeout"
MAX_COST = "X-Gateway-Max-Cost-Usd"
CASCADE = "X-Gateway-Cascade"
# With an exponent, since that is how programs write small numbers.
NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True)
class RequestLimits:
    """`max_cost` is the most that all calls for the request may cost together, USD; None for no limit.
    `cascades` is false where its client wants one answer as it comes, unchecked."""

    deadline: Deadline
    max_cost: Decimal | None = None
    cascades: bool = True

    @classmethod
    def of(
        cls, headers: RequestHeaders, *, since: float, timeout: float, max_cost: Decimal | None
    ) -> RequestLimits:
        """Those of a request with these headers, which can only lower `timeout` seconds and `max_cost` USD.

        :raises InvalidRequest: for a header that is no such number, or no such choice
        """
        if (given := headers.get(TIMEOUT)) is not None:
            if not NUMBER.fullmatch(given) or float(given) == 0:
                raise InvalidRequest(f"{TIMEOUT} must be a number of seconds above 0.", param=TIMEOUT)
            timeout = min(timeout, float(given))
        if (given := headers.get(MAX_COST)) is not None:
            if not NUMBER.fullmatch(given):
                raise InvalidRequest(f"{MAX_COST} must be an amount in USD, such as 0.05.", param=MAX_COST)
            max_cost = Decimal(given) if max_cost is None else min(max_cost, Decimal(given))
        cascade = headers.get(CASCADE, "on")
        if cascade not in ("on", "off"):
            raise InvalidRequest(f"{CASCADE} must be on or off.", param=CASCADE)
        return cls(Deadline.in_seconds(timeout, since), max_cost, cascade == "on")
