"""From a parsed request to a call that may be made: its model, the way there, and what is reserved for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from gateway.billing import MOST_TOKENS
from gateway.budget import OnBudget
from gateway.cache_share import CacheShares
from gateway.catalog import Catalog
from gateway.config import Settings
from gateway.errors import InsufficientQuota, InvalidRequest
from gateway.keys.virtual_key import Tenant
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservation import Call, Reservation
from gateway.passage import Passage, passage
from gateway.router import Route, choose
from gateway.schema.base import ModelRequest
from gateway.worst_case import worst_case


@dataclass(frozen=True)
class Admission:
    """A call that may be made, and must be settled or released."""

    route: Route
    way: Passage
    reservation: Reservation


def admit(
    asked: ModelRequest,
    tenant: Tenant,
    catalog: Catalog,
    ledger: Ledger,
    settings: Settings,
    cache_shares: CacheShares,
) -> Admission:
    """Route a request and reserve what it may cost at most. Where the budgets afford less, its answer is
    limited to what they afford, or the cheapest model answers, if that is what is wished.

    :raises GatewayError: where no model can answer, or the key, its limits or a budget do not allow it
    """
    threshold = settings.routing_threshold_chars
    route, way = find_way(asked, catalog, threshold, cache_shares)
    on_budget = tenant.key.on_budget if tenant.key else settings.on_budget
    if on_budget is OnBudget.DOWNGRADE and tenant.scopes and catalog.leaves_choice(asked.model):
        try:
            return _reserve(asked, tenant, route, way, ledger, least_tokens=None)
        except InsufficientQuota:
            route, way = find_way(asked, catalog, threshold, cache_shares, cheapest=True)
    return _reserve(asked, tenant, route, way, ledger, least_tokens=settings.budget_min_output_tokens)


def find_way(
    asked: ModelRequest,
    catalog: Catalog,
    threshold_chars: int,
    cache_shares: CacheShares | None = None,
    *,
    cheapest: bool = False,
) -> tuple[Route, Passage]:
    """The model that the policy chooses, and the way to it. Where that would take a translation that cannot
    be made, the policy chooses among the models that speak the client's API themselves.

    :raises GatewayError: where no model can answer
    """
    route = choose(asked, catalog, threshold_chars, cheapest=cheapest)
    try:
        return route, passage(asked, route.model, cache_shares)
    except InvalidRequest as untranslatable:
        speakers = catalog.speaking(asked.api)
        if len(speakers) == 0 or not catalog.leaves_choice(asked.model):
            raise
        try:
            route = choose(asked, speakers, threshold_chars, cheapest=cheapest)
        except InvalidRequest:
            raise untranslatable from None
        return route, passage(asked, route.model, cache_shares)


def _reserve(
    asked: ModelRequest,
    tenant: Tenant,
    route: Route,
    way: Passage,
    ledger: Ledger,
    *,
    least_tokens: int | None,
) -> Admission:
    """Reserve for one model: the worst case, or what of it still buys an answer of so many tokens; nothing
    less than the worst case for None."""
    prompt_tokens = way.prompt_tokens
    worst = worst_case(asked, way) if tenant.scopes else None
    most = least = Decimal(0)
    if worst is not None:
        most = worst.cost
        least = most if least_tokens is None else worst.least(least_tokens)
    call = Call(
        model=route.model.name,
        baseline=route.baseline.name,
        prompt_tokens=prompt_tokens,
        tenant=tenant,
        most=most,
        least=least,
        tokens=min(prompt_tokens + (asked.max_output_tokens or 0) * asked.generated_choices, MOST_TOKENS),
    )
    reservation = ledger.reserve(call, wait=least_tokens is not None)
    if worst is not None and reservation.affordable is not None and reservation.affordable < most:
        tokens = worst.affordable_tokens(reservation.affordable)
        way.limit_output(tokens)
        route = replace(route, reason=f"{route.reason}; the budget affords {tokens} tokens")
    return Admission(route, way, reservation)
