"""What `flask router` tells of replays and models, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.ledger.model_store import Models
from gateway.routing.decision import Decision
from gateway.routing.estimates import Estimate
from gateway.routing.replay import Replay
from gateway.routing.trained_model import TrainedModel

FLIPS_SHOWN = 10


def replay_view(found: Replay) -> dict[str, Any]:
    return {
        "requests": found.requests,
        "without_signals": found.without_signals,
        "scored": found.scored,
        "share": _rounded(found.share),
        "cost_usd": estimate_view(found.cost, 12),
        "quality": estimate_view(found.quality),
        "quality_by_weights": estimate_view(found.quality_by_weights),
        "never_tried": _rounded(found.quality.never_tried),
        "clipped": found.quality.clipped,
        "logged": {
            "share": _rounded(found.logged_share),
            "cost_usd": _rounded(found.logged_cost, 12),
            "quality": _rounded(found.logged_quality),
        },
        "flipped": list(found.flipped),
    }


def estimate_view(estimate: Estimate, digits: int = 4) -> dict[str, Any]:
    """`low` and `high` bound the true value with 95 %; null where it cannot be told."""
    return {
        "value": _rounded(estimate.value, digits),
        "low": _rounded(estimate.low, digits),
        "high": _rounded(estimate.high, digits),
        "answers": round(estimate.answers, 1),
    }


def gain_view(estimate: Estimate) -> dict[str, Any]:
    return {**estimate_view(estimate), "never_tried": _rounded(estimate.never_tried)}


def replay_text(view: dict[str, Any]) -> str:
    logged, quality, cost = view["logged"], view["quality"], view["cost_usd"]
    lines = [
        f"requests       {view['requests']}, of which {view['scored']} with feedback",
        f"share          {view['share']:.1%} to the dearer model; {logged['share']:.1%} went there",
        f"cost           {_cost(cost)} USD a request; it was {logged['cost_usd']:.9f}",
        f"quality        {_between(quality)}; it was {_number(logged['quality'])}",
        f"  by weights   {_between(view['quality_by_weights'])}",
    ]
    if view["without_signals"]:
        lines.append(f"left out       {view['without_signals']} requests, of which the log has no signals")
    if view["never_tried"]:
        lines.append(
            f"never tried    {view['never_tried']:.1%} of the requests would go where none like them went, "
            "so that nothing can be said of them; ROUTING_EXPLORE tries"
        )
    if view["clipped"]:
        lines.append(f"clipped        the weights of {view['clipped']} answers")
    flipped = view["flipped"]
    lines.append(f"would flip     {len(flipped)} requests" + (":" if flipped else ""))
    lines += [f"  {request_id}" for request_id in flipped[:FLIPS_SHOWN]]
    if len(flipped) > FLIPS_SHOWN:
        lines.append(f"  and {len(flipped) - FLIPS_SHOWN} more, which --json lists")
    return "\n".join(lines)


def models_view(models: Models, decisions: Sequence[Decision]) -> dict[str, Any]:
    return {
        "live": _model_view(models.live) or {"version": "bundled"},
        "candidate": _model_view(models.candidate),
        "can_roll_back": models.has_previous,
        "log": {
            "decisions": len(decisions),
            "with_signals": sum(bool(each.signals) for each in decisions),
            "with_feedback": sum(each.feedback is not None for each in decisions),
            "explored": sum(each.propensity is not None and each.propensity < 0.5 for each in decisions),
        },
    }


def models_text(view: dict[str, Any]) -> str:
    log, candidate = view["log"], view["candidate"]
    return "\n".join(
        [
            f"live           {_model_text(view['live'])}",
            f"candidate      {_model_text(candidate) if candidate else 'none'}",
            f"back           {'one step' if view['can_roll_back'] else 'nothing to go back to'}",
            f"log            {log['decisions']} decisions, {log['with_signals']} with signals, "
            f"{log['with_feedback']} with feedback, {log['explored']} explored",
        ]
    )


def _model_view(model: TrainedModel | None) -> dict[str, Any] | None:
    if model is None:
        return None
    return {
        "version": model.version,
        "trained_at": datetime.fromtimestamp(model.trained_at, UTC).isoformat(timespec="seconds"),
        "trained_on": model.trained_on,
        "share": _rounded(model.share),
        "threshold": _rounded(model.whole.threshold, 6),
    }


def _model_text(view: dict[str, Any]) -> str:
    if "trained_on" not in view:
        return str(view["version"])
    return (
        f"{view['version']}, {view['trained_at']}, from {view['trained_on']} scores, for {view['share']:.1%}"
    )


def _between(view: dict[str, Any]) -> str:
    if view["value"] is None:
        return f"cannot be told, between {view['low']:.3f} and {view['high']:.3f}"
    return f"{view['value']:.3f}, between {view['low']:.3f} and {view['high']:.3f}"


def _cost(view: dict[str, Any]) -> str:
    if view["value"] is None:
        return "cannot be told,"
    return f"{view['value']:.9f} ({view['low']:.9f} to {view['high']:.9f})"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
