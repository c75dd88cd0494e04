"""A worker's routing: which policy has a request's choice, and what it chooses."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.apis import Api
from gateway.catalog import Catalog, policy_named_by
from gateway.config import Settings
from gateway.keys.virtual_key import Tenant
from gateway.router import Route, choose
from gateway.routing.policy import AskFirst, Policy, PromptLength
from gateway.schema.base import ModelRequest


class Routing:
    """`policies` by their names; that of a request is the one that its model names (`auto:POLICY`), else its
    key's, else `usual`."""

    def __init__(self, policies: Iterable[Policy], usual: str) -> None:
        self._policies = {policy.name: policy for policy in policies}
        self._usual = self._policies[usual]

    @classmethod
    def of(cls, settings: Settings) -> Routing:
        """As the settings say."""
        policies: list[Policy] = [PromptLength(settings.routing_threshold_chars), AskFirst()]
        return cls(policies, settings.routing_policy)

    def policy_of(self, request: ModelRequest, tenant: Tenant, *, cascades: bool = True) -> Policy:
        """Which policy chooses where the client leaves the choice. Where it wants no cascade, and for
        embeddings, of which nothing can be checked, the length of the prompt takes that one's place."""
        named = policy_named_by(request.model) or (tenant.key.policy if tenant.key else None)
        # A key may have been given a policy that another version of the gateway has.
        policy = self._usual if named is None else self._policies.get(named, self._usual)
        if policy.name == AskFirst.name and (not cascades or request.api is Api.EMBEDDINGS):
            return self._policies[PromptLength.name]
        return policy

    def choose(
        self, request: ModelRequest, catalog: Catalog, tenant: Tenant, *, cheapest: bool = False
    ) -> Route:
        """See `choose`.

        :raises GatewayError: where no model can answer, or not the one that the client named
        """
        return choose(request, catalog, self.policy_of(request, tenant), cheapest=cheapest)
