"""What is remembered of a policy's decision when its request is answered."""

from __future__ import annotations

import time
from decimal import Decimal

from gateway.billing import Usage
from gateway.config import Settings
from gateway.keys.virtual_key import Tenant
from gateway.router import Route
from gateway.routing.decision import Remembered, name_of, record_of


class Choice:
    """A policy's choice between two models, before it is known what the answer takes."""

    __slots__ = ("_name", "_route", "_with_signals")

    def __init__(self, route: Route, name: str, *, with_signals: bool) -> None:
        self._route = route
        self._name = name
        self._with_signals = with_signals

    @classmethod
    def of(cls, route: Route, request_id: str, tenant: Tenant, settings: Settings) -> Choice | None:
        """That which led to a call, where it is one and is to be remembered."""
        verdict = route.verdict
        if verdict is None or not settings.routing_log_size or verdict.model is verdict.other:
            return None
        name = name_of(request_id, None if tenant.key is None else tenant.key.id)
        return cls(route, name, with_signals=settings.routing_log == "features")

    def remembered(self, cost: Decimal, usage: Usage) -> Remembered | None:
        """The same with what the answer took."""
        route, now = self._route, time.time()
        verdict = route.verdict
        if verdict is None:
            return None
        features = verdict.features
        record = record_of(
            now,
            route.policy,
            features.characters,
            verdict.score,
            verdict.threshold,
            route.model.name,
            verdict.other.name,
            verdict.model is route.baseline,
            # A fallback says nothing of the model that was chosen.
            verdict.propensity if route.model is verdict.model else None,
            features.signals if self._with_signals else features.known_signals,
            cost,
            usage.input_tokens,
            usage.output_tokens,
        )
        return Remembered(self._name, record, now)
