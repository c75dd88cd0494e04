"""What is remembered of a policy's decision when its request is answered."""

from __future__ import annotations

import time

from gateway.admission import Admission
from gateway.exchange import Exchange
from gateway.routing.decision import Decision
from gateway.wiring import Gateway


def decision_of(gateway: Gateway, exchange: Exchange, admission: Admission) -> Decision | None:
    """The decision that led to a call, where one is to be kept: a policy had a choice of two models."""
    settings, route = gateway.settings, admission.route
    verdict = route.verdict
    if verdict is None or not settings.routing_log_size or verdict.model is verdict.other:
        return None
    features = verdict.features
    signals = features.signals if settings.routing_log == "features" else features.known_signals
    key = exchange.tenant.key
    return Decision(
        request_id=exchange.request_id,
        key_id=None if key is None else key.id,
        time=time.time(),
        policy=route.policy,
        characters=features.characters,
        score=verdict.score.value,
        threshold=verdict.threshold,
        abstained=verdict.score.abstains,
        model=route.model.name,
        other=verdict.other.name,
        is_dear=verdict.model is route.baseline,
        # A fallback says nothing of the model that was chosen.
        propensity=verdict.propensity if route.model is verdict.model else None,
        signals=signals,
    )
