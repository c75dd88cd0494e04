"""What models cost.

Money is `Decimal` USD and exact until it reaches Redis or a client's JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from gateway.billing import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

MILLION = Decimal(1_000_000)
# What orders models by dearness; the proportion of a chat's prompt to its answer matters more than the size.
TYPICAL_CALL = Usage(input_tokens=1000, cached_input_tokens=0, output_tokens=1000)


class Price(Protocol):
    """What a provider charges."""

    @property
    def source(self) -> str:
        """Where the figures come from, in words."""
        ...

    def cost(self, usage: Usage) -> Decimal:
        """The charge in USD for the tokens of `usage`, exact."""
        ...


def charge(price: Price, usage: Usage) -> Decimal:
    """What the provider will bill in USD: its own figure where it states one, else by its price."""
    return price.cost(usage) if usage.stated_cost is None else usage.stated_cost


def usd_per_million_tokens(price: Price) -> dict[str, float]:
    """A price by its classes of tokens; of a price in tiers the first tier."""
    thousand = {
        "input": Usage(1000, 0, 0),
        "cached_input": Usage(1000, 1000, 0),
        "cache_write": Usage(1000, 0, 0, cache_write_tokens=1000),
        "output": Usage(0, 0, 1000),
    }
    return {name: float(price.cost(usage) * 1000) for name, usage in thousand.items()}


@dataclass(frozen=True)
class TokenPrice:
    """A price in USD per million tokens of each class; each token is in exactly one."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    cache_write: Decimal | None = None  # None: as dear as uncached input
    cache_write_1h: Decimal | None = None  # None: as dear as other cache writes
    source: str = "models.toml"

    def cost(self, usage: Usage) -> Decimal:
        """The sum over the classes of tokens x price, over a million."""
        cache_write = self.input if self.cache_write is None else self.cache_write
        cache_write_1h = cache_write if self.cache_write_1h is None else self.cache_write_1h
        return (
            usage.uncached_input_tokens * self.input
            + usage.cached_input_tokens * self.cached_input
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * cache_write
            + usage.cache_write_1h_tokens * cache_write_1h
            + usage.output_tokens * self.output
        ) / MILLION


FREE = TokenPrice(Decimal(0), Decimal(0), Decimal(0), source="free")


class PublishedPrice:
    """The price that a provider publishes, tiers included, from the `genai-prices` data."""

    def __init__(self, model: ModelInfo, provider: Provider) -> None:
        self._model = model
        self._provider = provider

    @property
    def source(self) -> str:
        return f"published by {self._provider.name} for {self._model.id}"

    @property
    def context_window(self) -> int | None:
        """Tokens of prompt and answer together, where that is published."""
        return self._model.context_window

    def cost(self, usage: Usage) -> Decimal:
        """The charge in USD for `usage`."""
        from genai_prices import Usage as PricedUsage

        return self._model.calc_price(
            PricedUsage(
                input_tokens=usage.input_tokens,
                cache_read_tokens=usage.cached_input_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                cache_write_1h_tokens=usage.cache_write_1h_tokens,
                output_tokens=usage.output_tokens,
                web_searches=usage.web_searches,
            ),
            self._provider,
        ).total_price


@dataclass(frozen=True)
class MixedPrice:
    """A published price of which the models file sets some classes: the names in `listed_classes`, whose
    prices `listed` has. What `listed` has for the other classes does not count."""

    listed: TokenPrice
    listed_classes: frozenset[str]
    published: PublishedPrice

    @property
    def source(self) -> str:
        return f"{', '.join(sorted(self.listed_classes))} by models.toml, else {self.published.source}"

    def cost(self, usage: Usage) -> Decimal:
        """The charge in USD: each token by the one of the two prices that sets its class."""
        ours = Usage(
            input_tokens=0,
            cached_input_tokens=usage.cached_input_tokens if "cached_input" in self.listed_classes else 0,
            output_tokens=usage.output_tokens if "output" in self.listed_classes else 0,
            cache_write_tokens=usage.cache_write_tokens if "cache_write" in self.listed_classes else 0,
            cache_write_1h_tokens=usage.cache_write_1h_tokens if "cache_write" in self.listed_classes else 0,
        )
        uncached = usage.uncached_input_tokens if "input" in self.listed_classes else 0
        ours = replace(ours, input_tokens=uncached + ours.cached_input_tokens + ours.cache_write_tokens)
        theirs = replace(
            usage,
            input_tokens=usage.input_tokens - ours.input_tokens,
            cached_input_tokens=usage.cached_input_tokens - ours.cached_input_tokens,
            output_tokens=usage.output_tokens - ours.output_tokens,
            cache_write_tokens=usage.cache_write_tokens - ours.cache_write_tokens,
            cache_write_1h_tokens=usage.cache_write_1h_tokens - ours.cache_write_1h_tokens,
        )
        return self.listed.cost(ours) + self.published.cost(theirs)


def published_price(upstream_name: str, *, provider: str | None, base_url: str) -> PublishedPrice | None:
    """The price that is published for a model, of the provider that is named or else serves `base_url`,
    or else of the one whose model has this name."""
    # Imported here because its price data take 0.3 s to load, which the mock models need not pay.
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    for url in (None,) if provider else (base_url, None):
        try:
            found, model = snapshot.find_provider_model(upstream_name, None, provider, url)
        except LookupError:
            continue
        return PublishedPrice(model, found)
    return None
