"""From a parsed request to a call that may be made: its model, the way there, and what is reserved for it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from decimal import Decimal

from gateway.billing import MOST_TOKENS
from gateway.budget import OnBudget
from gateway.cache_share import CacheShares
from gateway.catalog import Catalog, Model
from gateway.config import Settings
from gateway.errors import InsufficientQuota, InvalidRequest, RequestTooDear
from gateway.keys.virtual_key import Tenant
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservation import Call, Reservation
from gateway.passage import Passage, passage
from gateway.request_limits import MAX_COST
from gateway.router import Route, choose
from gateway.routing.exploration import NO_EXPLORATION, Exploration
from gateway.routing.policy import Policy
from gateway.routing.routing import Routing
from gateway.schema.base import ModelRequest
from gateway.worst_case import WorstCase, worst_case


@dataclass(frozen=True)
class Admission:
    """A call that may be made, and must be settled or released."""

    route: Route
    way: Passage
    reservation: Reservation


class Admissions:
    """Of one request: its calls are admitted one after the other, each for itself."""

    def __init__(
        self,
        asked: ModelRequest,
        tenant: Tenant,
        catalog: Catalog,
        routing: Routing,
        ledger: Ledger,
        settings: Settings,
        cache_shares: CacheShares,
        request_id: str = "",
        *,
        cascades: bool = True,
    ) -> None:
        self.asked = asked
        self.tenant = tenant
        self.catalog = catalog
        self._routing = routing
        self._ledger = ledger
        self._settings = settings
        self._cache_shares = cache_shares
        self._request_id = request_id
        self._cascades = cascades
        self._decided: Route | None = None
        self._first: Reservation | None = None
        on_budget = tenant.key.on_budget if tenant.key else settings.on_budget
        may_downgrade = on_budget is OnBudget.DOWNGRADE and bool(tenant.scopes)
        self._downgrades = may_downgrade and catalog.leaves_choice(asked.model)

    @property
    def may_wait(self) -> bool:
        """Whether admitting a call asks Redis, or waits for a budget."""
        key = self.tenant.key
        return bool(self.tenant.scopes) or (key is not None and bool(key.rpm or key.tpm))

    def find_way(self, *, cheapest: bool = False) -> tuple[Route, Passage]:
        """See `find_way`."""
        policy = self._routing.policy_of(self.asked, self.tenant, self._request_id, cascades=self._cascades)
        route, way = find_way(
            self.asked,
            self.catalog,
            policy,
            self._cache_shares,
            cheapest=cheapest,
            exploration=self._routing.exploration_of(self.asked, policy),
        )
        self._decided = route
        return route, way

    def way_of(self, route: Route) -> Passage:
        """A new way to the model of `route`.

        :raises InvalidRequest: for what the translation that it takes cannot translate
        """
        return passage(self.asked, route.model, self._cache_shares)

    def way_to(self, model: Model, *, held: bool, probabilities: bool) -> Passage:
        """A new way to `model`, whose answer is held where `held` says so, and then tells its probabilities
        where those are wanted, if it can.

        :raises InvalidRequest: see `way_of`
        """
        way = passage(self.asked, model, self._cache_shares)
        if held:
            way.hold()
        if probabilities:
            way.ask_probabilities()
        return way

    def about(self, asked: ModelRequest) -> Admissions:
        """For further calls of the same request in which something else is asked."""
        others = copy.copy(self)
        others.asked = asked
        return others

    def admit(self, route: Route, way: Passage, max_cost: Decimal | None, least_tokens: int = 0) -> Admission:
        """Reserve what a call may cost at most, which is `max_cost` USD at the very most. Where the budgets
        afford less, its answer is limited to what they afford, or the cheapest model answers, if that is what
        is wished. A further call for the request waits for no budget. An answer that could have fewer than
        `least_tokens` is not worth a call, nor is one that is shorter than the settings say.

        :raises RequestTooDear: where `max_cost` is too little
        :raises GatewayError: where the key, its limits or a budget do not allow it
        """
        is_first = self._first is None
        least_tokens = max(least_tokens, self._settings.budget_min_output_tokens)
        if is_first and self._downgrades:
            try:
                return self._reserve(route, way, max_cost, least_tokens=None, wait=False)
            except InsufficientQuota:
                route, way = self.find_way(cheapest=True)
        return self._reserve(route, way, max_cost, least_tokens=least_tokens, wait=is_first)

    def _reserve(
        self,
        route: Route,
        way: Passage,
        max_cost: Decimal | None,
        *,
        least_tokens: int | None,
        wait: bool,
    ) -> Admission:
        """Reserve for one model: the worst case, or what of it still buys an answer of so many tokens; for
        None nothing less than the worst case."""
        asked, tenant, prompt_tokens = self.asked, self.tenant, way.prompt_tokens
        worst = worst_case(asked, way) if tenant.scopes or max_cost is not None else None
        most = least = Decimal(0)
        if worst is not None:
            least = worst.cost if least_tokens is None else worst.least(least_tokens)
            most = _most(worst, max_cost, least_tokens or self._settings.budget_min_output_tokens)
            least = min(least, most)
        tokens = min(prompt_tokens + (asked.max_output_tokens or 0) * asked.generated_choices, MOST_TOKENS)
        call = Call(
            model=route.model.name,
            baseline=route.baseline.name,
            prompt_tokens=prompt_tokens,
            tenant=tenant,
            most=most,
            least=least,
            tokens=tokens if self._first is None else 0,
            is_held=way.is_held,
        )
        reservation = self._ledger.reserve(call, wait=wait, follows=self._first)
        if self._first is None:
            self._first = reservation
            if route is self._decided:  # and not one that stands in for it
                self._routing.note(route)
        if worst is not None:
            affordable = most if reservation.affordable is None else min(most, reservation.affordable)
            if affordable < worst.cost:
                limit = worst.affordable_tokens(affordable)
                way.limit_output(limit)
                what = "budget" if affordable < most else "request's cost limit"
                route = replace(route, reason=f"{route.reason}; the {what} affords {limit} tokens")
        return Admission(route, way, reservation)


def find_way(
    asked: ModelRequest,
    catalog: Catalog,
    policy: Policy,
    cache_shares: CacheShares | None = None,
    *,
    cheapest: bool = False,
    exploration: Exploration = NO_EXPLORATION,
) -> tuple[Route, Passage]:
    """The model that the policy chooses, and the way to it. Where that would take a translation that cannot
    be made, the policy chooses among the models that speak the client's API themselves.

    :raises GatewayError: where no model can answer
    """
    route = choose(asked, catalog, policy, cheapest=cheapest, exploration=exploration)
    try:
        return route, passage(asked, route.model, cache_shares)
    except InvalidRequest as untranslatable:
        speakers = catalog.speaking(asked.api)
        if len(speakers) == 0 or not catalog.leaves_choice(asked.model):
            raise
        try:
            route = choose(asked, speakers, policy, cheapest=cheapest)
        except InvalidRequest:
            raise untranslatable from None
        if route.verdict is not None and exploration.share:
            # Whether it comes to this depended on what was drawn before.
            route = replace(route, verdict=replace(route.verdict, propensity=None))
        return route, passage(asked, route.model, cache_shares)


def _most(worst: WorstCase, max_cost: Decimal | None, min_tokens: int) -> Decimal:
    """What a call may cost at most, USD.

    :raises RequestTooDear: where `max_cost` affords no answer of `min_tokens`
    """
    if max_cost is None or worst.cost <= max_cost:
        return worst.cost
    if worst.least(min_tokens) > max_cost:
        least, left = worst.least(min_tokens), max(max_cost, Decimal(0))
        raise RequestTooDear(
            f"Even with a short answer this request can cost {least:.9f} USD, more than its limit leaves, "
            f"{left:.9f} USD.",
            param=MAX_COST,
        )
    return max_cost
