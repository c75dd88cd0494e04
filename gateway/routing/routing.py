"""A worker's routing: which policy has a request's choice, and what it chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.catalog import Catalog, policy_named_by
from gateway.config import Settings
from gateway.keys.virtual_key import Tenant
from gateway.router import Route, choose
from gateway.routing.by_difficulty import ByDifficulty
from gateway.routing.dollars import FIRST_SHARE
from gateway.routing.held_policy import HeldPolicy, rank_of
from gateway.routing.policy import Policy, PromptLength
from gateway.routing.share import HeldShare
from gateway.schema.base import ModelRequest

# Whose calls of the dearest model are no choices, but what became of the cheaper one's answers.
SHARED_BY_NOBODY = ("cascade",)


class Routing:
    """`policies` by their names; that of a request is the one that its model names (`auto:POLICY`), else its
    key's, else `usual`. `shares` are those that are held, by the policy."""

    def __init__(
        self, policies: Iterable[Policy], usual: str, shares: Mapping[str, HeldShare] | None = None
    ) -> None:
        self.shares = shares or {}
        self._policies = {policy.name: policy for policy in policies}
        self._usual = self._policies[usual]

    @classmethod
    def of(cls, settings: Settings) -> Routing:
        """As the settings say."""
        policies: list[Policy] = [
            PromptLength(settings.routing_threshold_chars),
            ByDifficulty(fixed_threshold=settings.routing_threshold_difficulty),
        ]
        share = settings.routing_expensive_share
        if settings.routing_dollars_per_day is not None:
            share = FIRST_SHARE
        shares = {}
        if share is not None:
            shares = {
                policy.name: HeldShare(share, policy.threshold)
                for policy in policies
                if policy.name not in SHARED_BY_NOBODY
            }
        return cls(policies, settings.routing_policy, shares)

    def policy_of(self, request: ModelRequest, tenant: Tenant, request_id: str = "") -> Policy:
        """Which policy chooses where the client leaves the choice; with the threshold for this request where
        a share is held."""
        named = policy_named_by(request.model) or (tenant.key.policy if tenant.key else None)
        # A key may have been given a policy that another version of the gateway has.
        policy = self._usual if named is None else self._policies.get(named, self._usual)
        share = self.shares.get(policy.name)
        return policy if share is None else HeldPolicy(policy, share, request_id)

    def note(self, route: Route) -> None:
        """Count what has been chosen towards a share that is held: only where there was a choice."""
        share, verdict = self.shares.get(route.policy), route.verdict
        if share is not None and verdict is not None and verdict.other is not route.model:
            share.saw(rank_of(verdict.score), expensive=route.model is route.baseline)

    def choose(
        self,
        request: ModelRequest,
        catalog: Catalog,
        tenant: Tenant,
        request_id: str = "",
        *,
        cheapest: bool = False,
    ) -> Route:
        """See `choose`.

        :raises GatewayError: where no model can answer, or not the one that the client named
        """
        return choose(request, catalog, self.policy_of(request, tenant, request_id), cheapest=cheapest)
