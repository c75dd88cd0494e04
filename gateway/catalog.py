"""The models that the gateway can route to, each with its provider and its price."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gateway.billing import Price, TokenPrice, Usage
from gateway.config import InvalidSetting, ModelOverride, Settings
from gateway.errors import ModelNotFound

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, Provider

TYPICAL_CALL = Usage(input_tokens=1000, cached_input_tokens=0, output_tokens=1000)


@dataclass(frozen=True)
class Model:
    """One model as clients name it (`name`) and as its provider does (`upstream_name`)."""

    name: str
    base_url: str
    upstream_name: str
    api_key: str | None = field(repr=False)
    price: Price


class Catalog:
    """The two models, and by `dearest` the one whose price is the baseline of all savings."""

    def __init__(self, cheap: Model, expensive: Model) -> None:
        self.cheap = cheap
        self.expensive = expensive
        self.dearest = max(expensive, cheap, key=lambda model: model.price.cost(TYPICAL_CALL))

    def __iter__(self) -> Iterator[Model]:
        return iter((self.cheap, self.expensive))

    def named(self, name: str) -> Model:
        """
        :raises ModelNotFound: when no model has this name
        """
        for model in self:
            if model.name == name:
                return model
        raise ModelNotFound(
            "The requested model is not configured; GET /v1/models lists those that are.", param="model"
        )


def load_catalog(settings: Settings) -> Catalog:
    """The two models of the settings, priced by the models file or by their published prices.

    :raises InvalidSetting: for a file or a name that gives no price
    """
    listed = _read_models_file(settings)
    return Catalog(
        _model("CheapModel", settings.cheap_model, listed),
        _model("ExpensiveModel", settings.expensive_model, listed),
    )


def _read_models_file(settings: Settings) -> dict[str, Any]:
    try:
        with settings.models_file.open("rb") as file:
            return tomllib.load(file, parse_float=Decimal)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting("MODELS_FILE", f"cannot be read: {error}") from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        # What no parser says in its own words: endless digits, exponents, brackets.
        raise InvalidSetting("MODELS_FILE", "cannot be read: a value is too large or too deep") from error


def _model(name: str, override: ModelOverride, listed: Mapping[str, Any]) -> Model:
    if override.upstream_name:
        price = _published_price(override)
        return Model(name, override.url, override.upstream_name, override.api_key, price)
    entry = listed.get(name)
    if not isinstance(entry, dict):
        raise InvalidSetting("MODELS_FILE", f"has no table [{name}]")
    upstream_name = entry.get("upstream_name", name)
    if not isinstance(upstream_name, str) or not upstream_name:
        raise InvalidSetting("MODELS_FILE", f"{name}: upstream_name must be the provider's name of the model")
    return Model(name, override.url, upstream_name, override.api_key, _listed_price(name, entry))


def _listed_price(name: str, entry: Mapping[str, Any]) -> TokenPrice:
    prices = entry.get("usd_per_million_tokens")
    classes = ("input", "cached_input", "output")
    if not isinstance(prices, dict) or sorted({"cache_write", *prices}) != sorted({"cache_write", *classes}):
        raise InvalidSetting("MODELS_FILE", f"[{name}.usd_per_million_tokens] must give {', '.join(classes)}")
    for token_class in prices:
        amount = prices[token_class]
        if not _is_price(amount):
            raise InvalidSetting("MODELS_FILE", f"{name}: {token_class} must be USD per million tokens")
    return TokenPrice(**{token_class: Decimal(amount) for token_class, amount in prices.items()})


def _is_price(amount: object) -> bool:
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        return False
    return Decimal(amount).is_finite() and 0 <= amount < 10**6


class PublishedPrice:
    """The price that a provider publishes, tiers included, from the `genai-prices` data."""

    def __init__(self, model: ModelInfo, provider: Provider) -> None:
        self._model = model
        self._provider = provider

    def cost(self, usage: Usage) -> Decimal:
        """The charge in USD for `usage`."""
        from genai_prices import Usage as PricedUsage

        return self._model.calc_price(
            PricedUsage(
                input_tokens=usage.input_tokens,
                cache_read_tokens=usage.cached_input_tokens,
                cache_write_tokens=usage.cache_write_tokens,
                output_tokens=usage.output_tokens,
            ),
            self._provider,
        ).total_price


def _published_price(override: ModelOverride) -> PublishedPrice:
    # Imported here because its price data take 0.3 s to load, which the mock models need not pay.
    from genai_prices.data_snapshot import get_snapshot

    assert override.upstream_name is not None  # noqa: S101 - tells the type checker what the caller checked
    snapshot = get_snapshot()
    for url in (override.url, None):
        try:
            provider, model = snapshot.find_provider_model(override.upstream_name, None, None, url)
        except LookupError:
            continue
        return PublishedPrice(model, provider)
    raise InvalidSetting(
        f"{override.variable_prefix}_NAME",
        f"no published price is known for {override.upstream_name!r}; leave it unset and give "
        "upstream_name and the price in gateway/models.toml",
    )
