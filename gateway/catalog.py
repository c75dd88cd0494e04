"""The models that the gateway can route to. How they are listed: `models_file.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from gateway.apis import TRANSLATED, Api
from gateway.errors import ModelNotFound
from gateway.prices import TYPICAL_CALL, Price, usd_per_million_tokens
from gateway.providers import ProviderHabits, habits_of

AUTO = "auto"
CAPABILITIES = frozenset({"images", "audio", "files", "tools", "json_schema", "streaming", "reasoning"})
# What a model is taken to be capable of where nothing is said. Not every model accepts an effort of
# reasoning, and only a translated request asks one for it unasked.
ASSUMED_CAPABILITIES = CAPABILITIES - {"reasoning"}


@dataclass(frozen=True)
class Model:
    """One model as clients name it (`name`) and as its provider does (`upstream_name`).

    `context_window` counts tokens of prompt and answer together, None where it is unknown. A model that is
    not `auto` answers only those who name it.
    """

    name: str
    base_url: str
    upstream_name: str
    api_key: str | None = field(repr=False)
    price: Price
    apis: frozenset[Api] = frozenset({Api.CHAT_COMPLETIONS})
    capabilities: frozenset[str] = ASSUMED_CAPABILITIES
    context_window: int | None = None
    auto: bool = True

    @property
    def habits(self) -> ProviderHabits:
        return habits_of(self.base_url)

    def answers(self, api: Api) -> bool:
        """Whether it can be asked by `api`, through a translation if need be."""
        return api in self.apis or (api in TRANSLATED and Api.CHAT_COMPLETIONS in self.apis)

    def row(self) -> dict[str, object]:
        """What may be shown of it: all but its key."""
        return {
            "model": self.name,
            "upstream_name": self.upstream_name,
            "host": urlsplit(self.base_url).netloc,
            "key": "set" if self.api_key else "none",
            "apis": sorted(self.apis),
            "capabilities": sorted(self.capabilities),
            "context_window": self.context_window,
            "auto": self.auto,
            "price": self.price.source,
            "usd_per_million_tokens": usd_per_million_tokens(self.price),
        }


class Catalog:
    """All models, from the cheapest to the dearest by the price of a typical call; equally dear ones in the
    order given. `auto_aliases` are patterns of names by which clients mean `auto`."""

    def __init__(self, *models: Model, auto_aliases: Sequence[str] = ()) -> None:
        self._models = sorted(models, key=lambda model: model.price.cost(TYPICAL_CALL))
        self._auto_aliases = auto_aliases

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @property
    def names(self) -> list[str]:
        return [model.name for model in self]

    def speaking(self, api: Api) -> Catalog:
        """The part whose providers serve `api` themselves."""
        models = [model for model in self if api in model.apis]
        return Catalog(*models, auto_aliases=self._auto_aliases)

    def leaves_choice(self, name: str) -> bool:
        """Whether a client that asks for this name leaves the choice to the gateway."""
        if name == AUTO:
            return True
        return name not in self.names and any(fnmatchcase(name, alias) for alias in self._auto_aliases)

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
