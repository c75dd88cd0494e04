"""What is added to the counters in one go: sums that may be added up themselves, and acts on holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from gateway.ledger.names import Names

# A plain counter, or a field of a hash.
Place: TypeAlias = tuple[str, str | None]
Act: TypeAlias = list[str | int]


@dataclass
class Tally:
    """Increments by the key that they are for, in any number of calls: `amounts` whole ones, `costs` in USD.
    `expiries` are times in seconds since 1970; `acts` are those of `lua/commit.lua` on the keys named in
    them."""

    amounts: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    costs: dict[Place, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    expiries: dict[str, int] = field(default_factory=dict)
    acts: list[tuple[str, list[str], list[str]]] = field(default_factory=list)

    def count(self, key: str, amount: int, *, of: str | None = None) -> None:
        """Add to a counter, or to the field `of` a hash."""
        self.amounts[key, of] += amount

    def charge(self, key: str, usd: Decimal, *, of: str | None = None) -> None:
        """Add USD to a counter, or to the field `of` a hash."""
        self.costs[key, of] += usd

    def expire(self, key: str, time: int) -> None:
        """Let a key go at a time."""
        self.expiries[key] = time

    def free(self, holds: str, budget: str, member: str, usd: str) -> None:
        """Give back a hold of a budget."""
        self.acts.append(("free", [holds, budget], [member, usd]))

    def drop(self, holds: str, budget: str, call: str) -> None:
        """Give back whatever a call holds of a budget."""
        self.acts.append(("drop", [holds, budget], [call]))

    def void(self, key: str, seconds: int) -> None:
        """Mark a reservation as given up, for so long."""
        self.acts.append(("void", [key], [str(seconds)]))

    def correct_tokens(self, key: str, second: int, difference: int) -> None:
        """Correct the tokens that a limit has counted in a second."""
        self.acts.append(("tokens", [key], [str(second), str(difference)]))

    def decide(self, names: Names, decision: str, record: str, time: float, most: int) -> None:
        """Keep the record of a decision, taken at a time in seconds since 1970, among the last `most`."""
        keys = [names.decisions, names.decision_times, names.decision_scores]
        self.acts.append(("decide", keys, [decision, record, f"{time:.3f}", str(most)]))

    def score(self, names: Names, decision: str, score: float) -> None:
        """Note how good the answer was that came of a decision, if that is still kept."""
        self.acts.append(("score", [names.decisions, names.decision_scores], [decision, repr(score)]))

    def script_input(self) -> tuple[list[str], list[Act]]:
        """The keys, and the acts by the index in Lua that a key has behind the first two of
        `lua/commit.lua`."""
        index: dict[str, int] = {}

        def place_of(key: str) -> int:
            return index.setdefault(key, len(index) + 3)

        acts: list[Act] = []
        for (key, of), amount in self.amounts.items():
            acts.append(_increment("incrby", place_of(key), of, str(amount)))
        for (key, of), usd in self.costs.items():
            # As text, since a float would round what Redis can hold.
            acts.append(_increment("incrbyfloat", place_of(key), of, f"{usd:f}"))
        for name, keys, arguments in self.acts:
            acts.append([name, *map(place_of, keys), *arguments])
        for key, time in self.expiries.items():
            acts.append(["expireat", place_of(key), str(time)])
        return list(index), acts

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values, for the journal."""
        return {
            "amounts": [[*place, amount] for place, amount in self.amounts.items()],
            "costs": [[*place, f"{usd:f}"] for place, usd in self.costs.items()],
            "expiries": self.expiries,
            "acts": self.acts,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Tally:
        tally = cls(expiries=values["expiries"])
        for key, of, amount in values["amounts"]:
            tally.amounts[key, of] = amount
        for key, of, usd in values["costs"]:
            tally.costs[key, of] = Decimal(usd)
        tally.acts = [(name, keys, arguments) for name, keys, arguments in values["acts"]]
        return tally


def sum_of(tallies: Sequence[Tally]) -> Tally:
    """All of them as one."""
    total = Tally()
    for tally in tallies:
        for place, amount in tally.amounts.items():
            total.amounts[place] += amount
        for place, usd in tally.costs.items():
            total.costs[place] += usd
        total.expiries |= tally.expiries
        total.acts += tally.acts
    return total


def _increment(name: str, index: int, of: str | None, amount: str) -> Act:
    return [name, index, amount] if of is None else [f"h{name}", index, of, amount]
