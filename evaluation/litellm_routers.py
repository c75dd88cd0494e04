"""LiteLLM's complexity routers that need no model call, from its own package, as policies.

Both sort prompts into tiers. The tier of a prompt follows from a number and a bound that one can set; between
two models that number is the score. `heuristic` adds weighted keywords, `heuristic_v2` predicts how often a
model of the lowest tier succeeds with prompts of that kind and length.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

from evaluation.policies import Policy, by_prompt

SIMPLE = "SIMPLE"


def litellm_routers() -> list[Policy]:
    """Both versions with their default settings."""
    first = ComplexityRouter("routed", None)
    second = ComplexityRouter("routed", None, {"classifier_type": "heuristic_v2"})
    loop = asyncio.Runner()

    def weighted(prompt: str) -> float:
        return float(loop.run(first.aclassify(prompt)).score)

    def doubted(prompt: str) -> float:
        forecast = loop.run(second.aclassify(prompt)).heuristic_v2_forecast
        return 1 - float(forecast["probabilities"][SIMPLE])

    note = f"litellm {version('litellm')}"
    return [
        Policy("LiteLLM heuristic", by_prompt(weighted), note),
        Policy("LiteLLM heuristic_v2", by_prompt(doubted), note),
    ]
