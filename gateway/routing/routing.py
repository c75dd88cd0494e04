"""A worker's routing: which policy has a request's choice, and what it chooses."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.catalog import Catalog, policy_named_by
from gateway.config import Settings
from gateway.keys.virtual_key import Tenant
from gateway.router import Route, choose
from gateway.routing.by_difficulty import ByDifficulty
from gateway.routing.difficulty import DifficultyModel
from gateway.routing.exploration import NO_EXPLORATION, Exploration
from gateway.routing.policy import Policy, PromptLength
from gateway.schema.base import ModelRequest


class Routing:
    """`policies` by their names; that of a request is the one that its model names (`auto:POLICY`), else its
    key's, else `usual`. `exploration` is for those who have a request answered, and not only ask where it
    would go."""

    def __init__(
        self, policies: Iterable[Policy], usual: str, exploration: Exploration = NO_EXPLORATION
    ) -> None:
        self._policies = {policy.name: policy for policy in policies}
        self._usual = self._policies[usual]
        self.exploration = exploration

    @classmethod
    def of(cls, settings: Settings) -> Routing:
        """As the settings say."""
        policies: list[Policy] = [
            PromptLength(settings.routing_threshold_chars),
            ByDifficulty(fixed_threshold=settings.routing_threshold_difficulty),
        ]
        return cls(policies, settings.routing_policy, Exploration(settings.routing_explore))

    def set_difficulty_model(self, model: DifficultyModel | None) -> None:
        """Have the policy `difficulty` go by another model from now on; by the bundled one for None."""
        for policy in self._policies.values():
            if isinstance(policy, ByDifficulty):
                policy.model = model

    def policy_of(self, request: ModelRequest, tenant: Tenant) -> Policy:
        """Which policy chooses where the client leaves the choice."""
        named = policy_named_by(request.model) or (tenant.key.policy if tenant.key else None)
        # A key may have been given a policy that another version of the gateway has.
        return self._usual if named is None else self._policies.get(named, self._usual)

    def choose(
        self, request: ModelRequest, catalog: Catalog, tenant: Tenant, *, cheapest: bool = False
    ) -> Route:
        """See `choose`.

        :raises GatewayError: where no model can answer, or not the one that the client named
        """
        return choose(request, catalog, self.policy_of(request, tenant), cheapest=cheapest)
