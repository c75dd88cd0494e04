"""What a policy may know of a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from gateway.routing.signals import signals_of


@dataclass(frozen=True)
class Features:
    """`characters` are the Unicode code points of all that the user wrote; `texts` are the user's turns, the
    oldest first, without system text and without what tools gave back."""

    characters: int
    texts: Sequence[str] = field(default=(), repr=False)

    @cached_property
    def signals(self) -> Mapping[str, float]:
        """The texts as numbers by name, none of which tells what was written; worked out when first asked
        for."""
        return signals_of(self.texts)

    @property
    def known_signals(self) -> Mapping[str, float]:
        """The signals where somebody has asked for them before, else none: they take their time."""
        known: Mapping[str, float] = self.__dict__.get("signals", {})
        return known
