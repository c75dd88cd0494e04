"""The models that the gateway can route to. How they are listed: `models_file.py`."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from urllib.parse import urlsplit

from gateway.apis import TRANSLATED, Api
from gateway.errors import ModelNotAllowed, ModelNotFound
from gateway.prices import TYPICAL_CALL, Price, usd_per_million_tokens
from gateway.providers import ProviderHabits, habits_of
from gateway.routing.policy import POLICIES
from gateway.timeouts import USUAL, Timeouts

AUTO = "auto"
CAPABILITIES = frozenset({"images", "audio", "files", "tools", "json_schema", "streaming", "reasoning"})
# What a model is taken to be capable of where nothing is said. Not every model accepts an effort of
# reasoning, and only a translated request asks one for it unasked.
ASSUMED_CAPABILITIES = CAPABILITIES - {"reasoning"}
# How long the longest answer is taken to be where neither the model's limit nor its context window is known.
ASSUMED_OUTPUT_TOKENS = 16_384
MOST_PARTS = 1000


def policy_named_by(name: str) -> str | None:
    """The policy of `auto:POLICY`, None where the name of a model says none."""
    auto, _, policy = name.partition(":")
    return policy if auto == AUTO and policy in POLICIES else None


@dataclass(frozen=True)
class Model:
    """One model as clients name it (`name`) and as its provider does (`upstream_name`).

    `context_window` counts tokens of prompt and answer together, `max_output_tokens` those of the longest
    answer; None where they are unknown. A model that is not `auto` answers only those who name it.
    `bill_path` is the path at its provider, `{call_id}` in it, that tells what was billed for one call.
    `fallbacks` names the models to ask when it fails, the first one first; None for those that the prices
    suggest. Answers that begin later than after `slow_seconds` count as failures; None for the usual bound.
    `max_concurrency` is how many requests each worker may have in work with it; None for no bound of its own.
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
    max_output_tokens: int | None = None
    bill_path: str | None = None
    timeouts: Timeouts = USUAL
    fallbacks: tuple[str, ...] | None = None
    slow_seconds: float | None = None
    max_concurrency: int | None = None

    @property
    def habits(self) -> ProviderHabits:
        return habits_of(self.base_url)

    def answers(self, api: Api) -> bool:
        """Whether it can be asked by `api`, through a translation if need be."""
        return api in self.apis or (api in TRANSLATED and Api.CHAT_COMPLETIONS in self.apis)

    def output_limit(self, prompt_tokens: int) -> int:
        """The most tokens that an answer to such a prompt can have, at least one."""
        limits = [] if self.max_output_tokens is None else [self.max_output_tokens]
        if self.context_window is not None:
            limits.append(self.context_window - prompt_tokens)
        return max(1, min(limits, default=ASSUMED_OUTPUT_TOKENS))

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
            "max_output_tokens": self.max_output_tokens,
            "auto": self.auto,
            "fallbacks": None if self.fallbacks is None else list(self.fallbacks),
            "max_concurrency": self.max_concurrency,
            "slow_seconds": self.slow_seconds,
            "timeouts": asdict(self.timeouts),
            "price": self.price.source,
            "usd_per_million_tokens": usd_per_million_tokens(self.price),
        }


@dataclass(frozen=True)
class Capable:
    """Models from the cheapest to the dearest, and the least context window of theirs, None where none has
    one."""

    models: tuple[Model, ...]
    least_window: int | None


class Catalog:
    """All models, from the cheapest to the dearest by the price of a typical call; equally dear ones in the
    order given. `auto_aliases` are patterns of names by which clients mean `auto`."""

    def __init__(self, *models: Model, auto_aliases: Sequence[str] = ()) -> None:
        self._auto_aliases = auto_aliases
        self._forbidden: frozenset[str] = frozenset()
        self._hold(sorted(models, key=lambda model: model.price.cost(TYPICAL_CALL)))

    def _hold(self, models: list[Model]) -> None:
        self._models = models
        self._places = {model.name: place for place, model in enumerate(models)}
        # What follows from the models alone is worked out once, so that a request costs the same before two
        # of them and before two hundred. Bounded: what keys may use can be said in any number of ways.
        self._parts: OrderedDict[frozenset[str], Catalog] = OrderedDict()
        self._capable: dict[tuple[Api, bool, frozenset[str]], Capable] = {}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @property
    def names(self) -> list[str]:
        return list(self._places)

    def place_of(self, model: Model) -> int:
        """Where the model stands among the others."""
        return self._places[model.name]

    def speaking(self, api: Api) -> Catalog:
        """The part whose providers serve `api` themselves."""
        return self._part(model for model in self if api in model.apis)

    def only(self, names: frozenset[str] | None) -> Catalog:
        """The part that may be used where these names may, of which some may not be configured; all of it for
        None. It remembers the others as forbidden."""
        if names is None:
            return self
        part = self._parts.get(names)
        if part is None:
            part = self._part(model for model in self if model.name in names)
            part._forbidden = self._forbidden | (frozenset(self.names) - names)
            self._parts[names] = part
            if len(self._parts) > MOST_PARTS:
                self._parts.popitem(last=False)
        return part

    def capable(self, api: Api, capabilities: frozenset[str], *, stored: bool) -> Capable:
        """Those that the policy may choose for a request of `api` that needs these capabilities, whatever its
        length; `stored` is one that refers to what its provider keeps."""
        wanted = (api, stored, capabilities)
        found = self._capable.get(wanted)
        if found is None:
            models = tuple(
                model
                for model in self._models
                if model.auto
                and model.answers(api)
                and (not stored or api in model.apis)
                and capabilities <= model.capabilities
            )
            windows = [model.context_window for model in models if model.context_window is not None]
            self._capable[wanted] = found = Capable(models, min(windows, default=None))
        return found

    @cached_property
    def count_of_auto(self) -> int:
        """How many the policy may choose at all."""
        return sum(model.auto for model in self._models)

    def _part(self, models: Iterable[Model]) -> Catalog:
        part = copy.copy(self)
        part.__dict__.pop("count_of_auto", None)
        part._hold(list(models))  # in the same order, which is not worked out again
        return part

    def leaves_choice(self, name: str) -> bool:
        """Whether a client that asks for this name leaves the choice to the gateway."""
        if name == AUTO:
            return True
        if name in self._places or name in self._forbidden:
            return False
        if policy_named_by(name) is not None:
            return True
        return any(fnmatchcase(name, alias) for alias in self._auto_aliases)

    def named(self, name: str) -> Model:
        """
        :raises ModelNotAllowed: when the model with this name is outside of what may be used
        :raises ModelNotFound: when no model has this name
        """
        place = self._places.get(name)
        if place is not None:
            return self._models[place]
        if name in self._forbidden:
            raise ModelNotAllowed("This key may not use the requested model.", param="model")
        raise ModelNotFound(
            "The requested model is not configured; GET /v1/models lists those that are.", param="model"
        )
