"""Why a request went where it went, and what the other choice would have cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from gateway.billing import MOST_TOKENS, Usage
from gateway.catalog import Model
from gateway.headers import item_named
from gateway.prices import charge
from gateway.router import Route, Verdict
from gateway.routing.policy import AskFirst
from gateway.routing.scores import OUT_OF_REACH
from gateway.schema.base import ModelRequest

ASSUMED_OUTPUT_TOKENS = 500  # of an answer that nobody has seen yet
FACTORS_TOLD = 3
CHECK_FAILS = "an answer that fails its check"


def explanation(request: ModelRequest, route: Route, prompt_tokens: int) -> dict[str, Any]:
    """The decision as JSON, with what it and its alternative would cost in USD: the prompt, and answers as
    long as the client allows, but of no more than `ASSUMED_OUTPUT_TOKENS` each."""
    usage = likely_usage(prompt_tokens, request.max_output_tokens, request.generated_choices)
    told: dict[str, Any] = {
        "object": "route",
        "model": route.model.name,
        "policy": route.policy,
        "reason": route.reason,
        "prompt_tokens": usage.input_tokens,
        "assumed_output_tokens": usage.output_tokens,
        "estimated_cost_usd": _usd(route.model, usage),
        "score": None,
        "threshold": None,
        "uncertainty": None,
        "abstains": False,
        "factors": [],
        "alternative": None,
        "flips": None,
    }
    if (verdict := route.verdict) is None:
        return told
    score = verdict.score
    if route.policy != AskFirst.name:  # whose score says nothing
        told |= {
            "score": score.value,
            "threshold": verdict.threshold,
            "uncertainty": score.uncertainty,
            "abstains": score.abstains,
            "factors": [{"name": each.name, "weight": each.weight} for each in score.factors[:FACTORS_TOLD]],
        }
    if verdict.other is not route.model:
        told["alternative"] = {
            "model": verdict.other.name,
            "estimated_cost_usd": _usd(verdict.other, usage),
        }
        told["flips"] = CHECK_FAILS if route.policy == AskFirst.name else flip_of(verdict)
    return told


def flip_of(verdict: Verdict) -> str:
    """What would have led to the other model, in words."""
    score, threshold = verdict.score, str(verdict.threshold)
    if abs(verdict.threshold) >= OUT_OF_REACH:
        return "nothing of this request: a share is held, which others have"
    if score.abstains and score.is_above(verdict.threshold):
        return f"anything to go by, with a score of at most {threshold}"
    if score.value > verdict.threshold:
        return f"a score of at most {threshold}, or a threshold of at least {score.value}"
    return f"a score above {threshold}, or a threshold below {score.value}"


def likely_usage(prompt_tokens: int, max_output_tokens: int | None, choices: int = 1) -> Usage:
    """The usage of a call that has not been made."""
    each = ASSUMED_OUTPUT_TOKENS
    if max_output_tokens is not None:
        each = min(each, max_output_tokens)
    return Usage(prompt_tokens, 0, min(each * choices, MOST_TOKENS))


def alternative_told(route: Route, usage: Usage) -> str | None:
    """For `X-Gateway-Alternative`: the other model and what it would have cost for `usage`; None where there
    was none to choose."""
    if route.verdict is None or route.verdict.other is route.model:
        return None
    other = route.verdict.other
    return f"{item_named(other.name)};cost_usd={_cost(other, usage):f}"


def _usd(model: Model, usage: Usage) -> float:
    return float(_cost(model, usage))


def _cost(model: Model, usage: Usage) -> Decimal:
    return charge(model.price, usage)
