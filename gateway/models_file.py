"""Reads the models file, and what the environment says beside it, into a `Catalog`.

Each table of the file is one model; its keys are described in `models.toml` itself. The two models
`CheapModel` and `ExpensiveModel` can also be set by environment variables, which override their tables:
with `…_NAME` the model is another one than the table describes, so that only its published price counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway.apis import Api
from gateway.catalog import ASSUMED_CAPABILITIES, AUTO, CAPABILITIES, Catalog, Model
from gateway.config import KeyOnNetwork, ModelOverride, Settings
from gateway.environment import InvalidSetting, base_url
from gateway.model_fields import (
    VARIABLE,
    bill_path_of,
    choices_of,
    fallbacks_of,
    number_of,
    seconds_of,
    text_of,
    timeouts_of,
    tokens_of,
)
from gateway.prices import FREE, TYPICAL_CALL, Price, TokenPrice, published_price
from gateway.providers import habits_of

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
KEYS = (
    "base_url",
    "upstream_name",
    "provider",
    "api_key_env",
    "apis",
    "capabilities",
    "context_window",
    "max_output_tokens",
    "auto",
    "bill_path",
    "fallbacks",
    "timeouts",
    "slow_seconds",
    "max_concurrency",
    "price",
    "usd_per_million_tokens",
)
NEEDED_CLASSES = frozenset({"input", "cached_input", "output"})
CLASSES = NEEDED_CLASSES | {"cache_write", "cache_write_1h"}


def load_catalog(settings: Settings) -> Catalog:
    """
    :raises InvalidSetting: for a file that cannot be read or gives no usable catalog, and for a provider's
        key that would be served to the network
    """
    return parse_catalog(read_models_file(settings), settings)


def read_models_file(settings: Settings) -> bytes:
    """
    :raises InvalidSetting: where it cannot be read
    """
    try:
        return settings.models_file.read_bytes()
    except OSError as error:
        raise InvalidSetting(VARIABLE, f"cannot be read: {error}") from error


def parse_catalog(text: bytes, settings: Settings) -> Catalog:
    """
    :raises InvalidSetting: see `load_catalog`
    """
    tables = _parse_toml(text)
    aliases = _auto_aliases(tables.pop(AUTO, {}))
    overrides = {override.name: override for override in settings.model_overrides}
    models = []
    for name in [*tables, *(name for name in overrides if name not in tables)]:
        override = overrides.get(name)
        if override is not None and override.upstream_name:
            models.append(_overriding_model(override, tables.get(name), settings))
        elif name in tables:
            models.append(_listed_model(name, tables[name], override, settings))
    if not models:
        raise InvalidSetting(VARIABLE, "lists no model")
    names = {model.name for model in models}
    for model in models:
        for fallback in model.fallbacks or ():
            if fallback not in names or fallback == model.name:
                raise InvalidSetting(
                    VARIABLE, f"{model.name}: {fallback[:64]!r} is no other model to fall back to"
                )
    judge = settings.cascade_rules.judge_model
    if judge is not None and judge not in names:
        raise InvalidSetting("CASCADE_JUDGE_MODEL", f"{judge[:64]!r} is no model of the models file")
    if settings.network_address and any(model.api_key for model in models):
        raise KeyOnNetwork(settings.network_address)
    return Catalog(*models, auto_aliases=aliases)


def _parse_toml(text: bytes) -> dict[str, Any]:
    try:
        tables = tomllib.loads(text.decode("utf-8-sig"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(VARIABLE, f"cannot be read: {error}") from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        # What no parser says in its own words: endless digits, exponents, brackets.
        raise InvalidSetting(VARIABLE, "cannot be read: a value is too large or too deep") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InvalidSetting(VARIABLE, f"{name[:64]!r} must be a table")
        if not MODEL_NAME.fullmatch(name) or name.startswith(f"{AUTO}:"):
            raise InvalidSetting(VARIABLE, f"{name[:64]!r} cannot be a model's name")
    return tables


def _auto_aliases(table: Mapping[str, Any]) -> tuple[str, ...]:
    aliases = table.get("aliases", [])
    if table.keys() - {"aliases"} or not isinstance(aliases, list):
        raise InvalidSetting(VARIABLE, f"[{AUTO}] can only give aliases, a list of patterns of names")
    if not all(isinstance(alias, str) and alias for alias in aliases):
        raise InvalidSetting(VARIABLE, f"[{AUTO}]: aliases must be patterns of names, such as 'claude-*'")
    return tuple(aliases)


def _overriding_model(override: ModelOverride, table: Mapping[str, Any] | None, settings: Settings) -> Model:
    """A model that the environment alone describes; where it gives no URL, that of the table."""
    assert override.upstream_name is not None  # noqa: S101 - tells the type checker what the caller checked
    url = override.url or _base_url(override.name, table or {})
    price = published_price(override.upstream_name, provider=None, base_url=url)
    if price is None:
        raise InvalidSetting(
            f"{override.variable_prefix}_NAME",
            f"no published price is known for {override.upstream_name!r}; leave it unset and give "
            "upstream_name and the price in gateway/models.toml",
        )
    return Model(
        override.name,
        url,
        override.upstream_name,
        override.api_key,
        price,
        apis=habits_of(url).apis,
        context_window=price.context_window,
        timeouts=timeouts_of(override.name, {}, settings),
    )


def _listed_model(
    name: str, table: Mapping[str, Any], override: ModelOverride | None, settings: Settings
) -> Model:
    for key in table:
        if key not in KEYS:
            raise InvalidSetting(VARIABLE, f"{name}: {key[:64]!r} is none of {', '.join(KEYS)}")
    url = override.url if override and override.url else _base_url(name, table)
    upstream_name = text_of(name, table, "upstream_name") or name
    price = _price(name, table, upstream_name, url)
    auto = table.get("auto", True)
    if not isinstance(auto, bool):
        raise InvalidSetting(VARIABLE, f"{name}: auto must be true or false")
    return Model(
        name,
        url,
        upstream_name,
        _api_key(name, table, override, settings),
        price,
        apis=frozenset(map(Api, choices_of(name, table, "apis", frozenset(Api), habits_of(url).apis))),
        capabilities=choices_of(name, table, "capabilities", CAPABILITIES, ASSUMED_CAPABILITIES),
        context_window=tokens_of(name, table, "context_window") or getattr(price, "context_window", None),
        auto=auto,
        max_output_tokens=tokens_of(name, table, "max_output_tokens"),
        bill_path=bill_path_of(name, table),
        timeouts=timeouts_of(name, table, settings),
        fallbacks=fallbacks_of(name, table),
        slow_seconds=seconds_of(name, table, "slow_seconds"),
        max_concurrency=number_of(name, table, "max_concurrency", "a number of requests"),
    )


def _base_url(name: str, table: Mapping[str, Any]) -> str:
    url = text_of(name, table, "base_url")
    if url is None:
        raise InvalidSetting(VARIABLE, f"{name}: base_url is missing")
    return base_url(VARIABLE, url, called=f"{name}: base_url ")


def _api_key(
    name: str, table: Mapping[str, Any], override: ModelOverride | None, settings: Settings
) -> str | None:
    if override is not None and override.api_key:
        return override.api_key
    variable = text_of(name, table, "api_key_env")
    if variable is None:
        return None
    if not VARIABLE_NAME.fullmatch(variable):
        # Its text is not repeated: it is the key itself where somebody misread what belongs here.
        raise InvalidSetting(VARIABLE, f"{name}: api_key_env must be the name of an environment variable")
    return settings.api_key(variable)


def _price(name: str, table: Mapping[str, Any], upstream_name: str, url: str) -> Price:
    price, listed = table.get("price"), table.get("usd_per_million_tokens")
    if price is not None:
        if price != "free" or listed is not None:
            raise InvalidSetting(
                VARIABLE, f'{name}: price can only be "free", without usd_per_million_tokens beside it'
            )
        return FREE
    given = {} if listed is None else _listed_classes(name, listed)
    if given.keys() >= NEEDED_CLASSES:
        return _token_price(given)
    published = published_price(upstream_name, provider=text_of(name, table, "provider"), base_url=url)
    if published is None:
        missing = ", ".join(sorted(NEEDED_CLASSES - given.keys()))
        raise InvalidSetting(
            VARIABLE,
            f"{name}: no price is published for {upstream_name[:64]!r}, so [{name}.usd_per_million_tokens] "
            f'must give {missing}; or say price = "free"',
        )
    price = published.but_listed(given)
    try:
        price.cost(TYPICAL_CALL)
    except (ValueError, ArithmeticError) as error:
        raise InvalidSetting(
            VARIABLE, f"{name}: these prices do not fit the published ones: {error}"
        ) from error
    return price


def _token_price(given: Mapping[str, Decimal]) -> TokenPrice:
    return TokenPrice(
        input=given["input"],
        cached_input=given["cached_input"],
        output=given["output"],
        cache_write=given.get("cache_write"),
        cache_write_1h=given.get("cache_write_1h"),
    )


def _listed_classes(name: str, listed: object) -> dict[str, Decimal]:
    if not isinstance(listed, dict) or not listed.keys() <= CLASSES:
        known = ", ".join(sorted(CLASSES))
        raise InvalidSetting(VARIABLE, f"[{name}.usd_per_million_tokens] can give {known}")
    for token_class, amount in listed.items():
        if not _is_price(amount):
            raise InvalidSetting(VARIABLE, f"{name}: {token_class} must be USD per million tokens")
    if "cache_write_1h" in listed and "cache_write" not in listed:
        raise InvalidSetting(VARIABLE, f"{name}: cache_write_1h needs cache_write beside it")
    return {token_class: Decimal(amount) for token_class, amount in listed.items()}


def _is_price(amount: object) -> bool:
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        return False
    return Decimal(amount).is_finite() and 0 <= amount < 10**6
