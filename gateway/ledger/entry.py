"""What one call of a model adds to the counters."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

from gateway.billing import Usage
from gateway.ledger.names import Names
from gateway.ledger.tally import Place, Tally
from gateway.routing.decision import Remembered


@dataclass(slots=True)
class Entry:
    """One call: whether a model answered it, and whether it failed. Costs are USD, exact. `decision` is that
    of the routing policy which led to the answer, where it is to be kept."""

    model: str
    answered: bool
    failed: bool
    usage: Usage
    cost: Decimal
    baseline_cost: Decimal
    decision: Remembered | None = None


# What is counted of a call both for its model and for its key, in this order.
OF_KEYS = ("requests", "input_tokens", "output_tokens", "cached_input_tokens")


def tally_of(entry: Entry, names: Names, key_id: str | None = None, decisions_kept: int = 0) -> Tally:
    """The increments of all counters that a call changes, those of the key it was made with among them, and
    the decision that led to it where any are kept."""
    tally, usage = Tally(), entry.usage
    counters, charges = _places_of(names.prefix, entry.model)
    requests = int(entry.answered)
    tokens = usage.input_tokens, usage.output_tokens, usage.cached_input_tokens
    tally.amounts.update(zip(counters, (requests, requests, *tokens, int(entry.failed)), strict=True))
    tally.costs.update(zip(charges, (entry.cost, entry.cost, entry.baseline_cost), strict=True))
    if key_id is not None:
        key = names.key_usage(key_id)
        tally.amounts.update(
            ((key, name), amount) for name, amount in zip(OF_KEYS, (requests, *tokens), strict=True)
        )
        tally.costs[key, "cost_usd"] = entry.cost
    if usage.estimated:
        tally.count(names.model(entry.model, "estimated_calls"), 1)
        tally.charge(names.model(entry.model, "estimated_cost_usd"), entry.cost)
    if entry.decision is not None and entry.answered and decisions_kept:
        tally.decide(names, *entry.decision, decisions_kept)
    return tally


@lru_cache(maxsize=1024)  # one for each model
def _places_of(prefix: str, model: str) -> tuple[list[Place], list[Place]]:
    """The counters of every call of a model: of amounts, and of USD."""
    names = Names(prefix)
    counters = [names.total("requests"), *(names.model(model, name) for name in (*OF_KEYS, "errors"))]
    charges = [names.model(model, "cost_usd"), names.total("cost_usd"), names.total("baseline_cost_usd")]
    return [(key, None) for key in counters], [(key, None) for key in charges]
