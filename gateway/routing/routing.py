"""A worker's routing: which policy has a request's choice, and what it chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.apis import Api
from gateway.catalog import Catalog, policy_named_by
from gateway.config import Settings
from gateway.keys.virtual_key import Tenant
from gateway.router import Route, choose
from gateway.routing.by_difficulty import ByDifficulty
from gateway.routing.difficulty import DifficultyModel
from gateway.routing.dollars import FIRST_SHARE
from gateway.routing.exploration import NO_EXPLORATION, Exploration
from gateway.routing.held_policy import HeldPolicy, rank_of
from gateway.routing.policy import AskFirst, Policy, PromptLength
from gateway.routing.share import HeldShare
from gateway.schema.base import ModelRequest


class Routing:
    """`policies` by their names; that of a request is the one that its model names (`auto:POLICY`), else its
    key's, else `usual`. `exploration` is for those who have a request answered, and not only ask where it
    would go; `shares` are those that are held, by the policy."""

    def __init__(
        self,
        policies: Iterable[Policy],
        usual: str,
        exploration: Exploration = NO_EXPLORATION,
        shares: Mapping[str, HeldShare] | None = None,
    ) -> None:
        self.shares = shares or {}
        self._policies = {policy.name: policy for policy in policies}
        self._usual = self._policies[usual]
        self.exploration = exploration

    @classmethod
    def of(cls, settings: Settings) -> Routing:
        """As the settings say."""
        policies: list[Policy] = [
            PromptLength(settings.routing_threshold_chars),
            ByDifficulty(fixed_threshold=settings.routing_threshold_difficulty),
            AskFirst(),
        ]
        share = settings.routing_expensive_share
        if settings.routing_dollars_per_day is not None:
            share = FIRST_SHARE
        shares = {}
        if share is not None:
            shares = {
                policy.name: HeldShare(share, policy.threshold)
                for policy in policies
                # A cascade's calls of the dearest model are no choices: they follow from answers.
                if policy.name != AskFirst.name
            }
        return cls(policies, settings.routing_policy, Exploration(settings.routing_explore), shares)

    def set_difficulty_model(self, model: DifficultyModel | None) -> None:
        """Have the policy `difficulty` go by another model from now on; by the bundled one for None."""
        for policy in self._policies.values():
            if isinstance(policy, ByDifficulty):
                policy.model = model

    def policy_of(
        self, request: ModelRequest, tenant: Tenant, request_id: str = "", *, cascades: bool = True
    ) -> Policy:
        """Which policy chooses where the client leaves the choice; with the threshold for this request where
        a share is held, which for embeddings none is. Where it wants no cascade, and for embeddings, of
        which nothing can be checked, the length of the prompt takes that one's place."""
        named = policy_named_by(request.model) or (tenant.key.policy if tenant.key else None)
        # A key may have been given a policy that another version of the gateway has.
        policy = self._usual if named is None else self._policies.get(named, self._usual)
        if policy.name == AskFirst.name and (not cascades or request.api is Api.EMBEDDINGS):
            policy = self._policies[PromptLength.name]
        share = self.shares.get(policy.name)
        if share is None or request.api is Api.EMBEDDINGS:
            return policy
        return HeldPolicy(policy, share, request_id)

    def exploration_of(self, request: ModelRequest, policy: Policy) -> Exploration:
        """How much a policy's choices are explored. A cascade always asks the cheapest model first, and what
        two models make of a text for embeddings cannot be compared."""
        is_exempt = policy.name == AskFirst.name or request.api is Api.EMBEDDINGS
        return NO_EXPLORATION if is_exempt else self.exploration

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
