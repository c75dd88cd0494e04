"""What one call of a model adds to the counters."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from gateway.billing import Usage
from gateway.ledger.names import Names
from gateway.ledger.tally import Tally
from gateway.routing.decision import Remembered


@dataclass(frozen=True)
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


def tally_of(entry: Entry, names: Names, key_id: str | None = None, decisions_kept: int = 0) -> Tally:
    """The increments of all counters that a call changes, those of the key it was made with among them, and
    the decision that led to it where any are kept."""
    tally, usage = Tally(), entry.usage
    tally.count(names.total("requests"), int(entry.answered))
    tally.charge(names.total("cost_usd"), entry.cost)
    tally.charge(names.total("baseline_cost_usd"), entry.baseline_cost)
    for name, amount in (
        ("requests", int(entry.answered)),
        ("errors", int(entry.failed)),
        ("input_tokens", usage.input_tokens),
        ("output_tokens", usage.output_tokens),
        ("cached_input_tokens", usage.cached_input_tokens),
    ):
        tally.count(names.model(entry.model, name), amount)
        if key_id is not None and name != "errors":
            tally.count(names.key_usage(key_id), amount, of=name)
    tally.charge(names.model(entry.model, "cost_usd"), entry.cost)
    if key_id is not None:
        tally.charge(names.key_usage(key_id), entry.cost, of="cost_usd")
    if usage.estimated:
        tally.count(names.model(entry.model, "estimated_calls"), 1)
        tally.charge(names.model(entry.model, "estimated_cost_usd"), entry.cost)
    if entry.decision is not None and entry.answered and decisions_kept:
        tally.decide(names, *entry.decision, decisions_kept)
    return tally
