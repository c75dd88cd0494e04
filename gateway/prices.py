"""What models cost.

Money is `Decimal` USD and exact until it reaches Redis or a client's JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from gateway.billing import NO_USAGE, Usage

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
    """What the provider will bill in USD: its own figure where it states one, else by its price; nothing
    for a call that gave nothing, also where each request has a price."""
    if usage.stated_cost is not None:
        return usage.stated_cost
    is_nothing = not usage.input_tokens and usage == NO_USAGE
    return Decimal(0) if is_nothing else price.cost(usage)


def usd_per_million_tokens(price: Price) -> dict[str, float]:
    """A price by its classes of tokens, without what each request costs; of tiers the first."""
    thousand = {
        "input": Usage(1000, 0, 0),
        "cached_input": Usage(1000, 1000, 0),
        "cache_write": Usage(1000, 0, 0, cache_write_tokens=1000),
        "output": Usage(0, 0, 1000),
    }
    request = price.cost(NO_USAGE)
    return {name: float((price.cost(usage) - request) * 1000) for name, usage in thousand.items()}


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
        cost = usage.uncached_input_tokens * self.input + usage.output_tokens * self.output
        if usage.cached_input_tokens:
            cost += usage.cached_input_tokens * self.cached_input
        if usage.cache_write_tokens:
            cache_write = self.input if self.cache_write is None else self.cache_write
            cache_write_1h = cache_write if self.cache_write_1h is None else self.cache_write_1h
            cost += (usage.cache_write_tokens - usage.cache_write_1h_tokens) * cache_write
            cost += usage.cache_write_1h_tokens * cache_write_1h
        return cost / MILLION


FREE = TokenPrice(Decimal(0), Decimal(0), Decimal(0), source="free")


# What `genai-prices` calls the classes of `models.toml`.
PUBLISHED_NAMES = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
}


class PublishedPrice:
    """The price that a provider publishes, tiers included, from the `genai-prices` data; `listed` has those
    of the classes that the models file sets instead, in USD per million tokens."""

    def __init__(
        self, model: ModelInfo, provider: Provider, listed: Mapping[str, Decimal] | None = None
    ) -> None:
        self._model = model
        self._provider = provider
        self._listed = dict(listed or {})

    @property
    def source(self) -> str:
        published = f"published by {self._provider.name} for {self._model.id}"
        return (
            f"{', '.join(sorted(self._listed))} by models.toml, else {published}"
            if self._listed
            else published
        )

    @property
    def context_window(self) -> int | None:
        """Tokens of prompt and answer together, where that is published."""
        return self._model.context_window

    def cost(self, usage: Usage) -> Decimal:
        """The charge in USD for `usage`, at the price of now."""
        from genai_prices import Usage as PricedUsage
        from genai_prices.types import ModelPrice

        tier = {"service_tier": usage.service_tier} if usage.service_tier else None
        price = self._model.get_prices(datetime.now(tz=UTC), tier)
        if self._listed:
            price = ModelPrice(**self._with_listed(vars(price)))
        amounts = {
            "input_tokens": usage.input_tokens,
            "cache_read_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "cache_write_1h_tokens": usage.cache_write_1h_tokens,
            "output_tokens": usage.output_tokens,
            "web_searches": usage.web_searches,
        }
        if usage.input_audio_tokens or usage.output_audio_tokens:
            amounts["input_audio_tokens"] = usage.input_audio_tokens
            amounts["cache_audio_read_tokens"] = usage.cached_audio_tokens
            amounts["output_audio_tokens"] = usage.output_audio_tokens
        return price.calc_price(PricedUsage(**amounts))["total_price"]

    def _with_listed(self, published: Mapping[str, Any]) -> dict[str, Any]:
        """The published prices with ours in their place, completed to what `genai-prices` takes for a whole:
        a price of input, and where audio or images have one of their own, one for each use of the cache."""
        prices = {name: price for name, price in published.items() if price is not None}
        prices |= {PUBLISHED_NAMES[name]: usd for name, usd in self._listed.items()}
        prices.setdefault("input_mtok", Decimal(0))
        for medium in ("audio", "image", "video", "text"):
            if f"input_{medium}_mtok" in prices:
                for use in ("read", "write", "write_1h"):
                    if f"cache_{use}_mtok" in prices:
                        prices.setdefault(f"cache_{medium}_{use}_mtok", prices[f"cache_{use}_mtok"])
        return prices

    def but_listed(self, listed: Mapping[str, Decimal]) -> PublishedPrice:
        """The same with other prices for some classes."""
        return PublishedPrice(self._model, self._provider, listed)


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
