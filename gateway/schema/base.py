"""What every request to a model has in common, in whichever API it comes.

Only what the gateway itself uses is checked; every other parameter is the provider's to judge, or the
translation's.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from gateway.apis import Api
from gateway.billing import estimated_tokens
from gateway.catalog import AUTO
from gateway.errors import InvalidRequest
from gateway.jsontext import JsonObject, NotJson, parse_object
from gateway.routing.features import Features

LEAST_THINKING_TOKENS = 1024  # that Anthropic's API takes as a budget


@dataclass(frozen=True)
class ModelRequest(ABC):
    """What the gateway has to know of a request in any API to route it, to pass it on and to bill it."""

    api: ClassVar[Api]
    # The fields by which a client bounds each answer; the first is the API's own.
    limit_names: ClassVar[tuple[str, ...]]

    body: JsonObject

    @property
    def model(self) -> str:
        """The model that the client named, or `AUTO`."""
        model: str | None = self.body.values.get("model")
        return AUTO if model is None else model

    @property
    def stream(self) -> bool:
        return self.body.values.get("stream") is True

    @property
    def include_usage(self) -> bool:
        """Whether the client expects the usage in a stream."""
        return (self.body.values.get("stream_options") or {}).get("include_usage") is True

    @property
    def stored(self) -> bool:
        """Whether it refers to what only a provider that serves this API itself has kept."""
        return False

    @property
    def choices(self) -> int:
        """How many answers the client wants to the one prompt."""
        return 1

    @property
    def generated_choices(self) -> int:
        """How many answers the provider generates and bills, of which the client may get only the best."""
        return self.choices

    @property
    @abstractmethod
    def user_texts(self) -> Sequence[str]:
        """What the user wrote, the oldest first: no system text, and not what tools gave back."""

    @cached_property
    def user_characters(self) -> int:
        """Unicode code points of the text that the user wrote."""
        return sum(map(len, self.user_texts))

    @property
    @abstractmethod
    def prompt_tokens(self) -> int:
        """The likely tokens of the whole prompt."""

    @cached_property
    def features(self) -> Features:
        """What a routing policy may know of it."""
        return Features(self.user_characters, self.user_texts)

    @property
    def max_output_tokens(self) -> int | None:
        """The most tokens that the client wants in each answer, where it says so; of several limits the
        highest, since it is the provider's to choose one. At some servers zero or less stands for none."""
        values = self.body.values
        limits = [values[name] for name in self.limit_names if values.get(name) is not None]
        return max(limits) if limits and min(limits) > 0 else None

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[str]:
        """What a model must be capable of to answer; the names are those of `models.toml`."""

    def body_for(self, upstream_name: str, limits: Mapping[str, Any] | None = None) -> bytes:
        """The body for a provider that serves this API: byte for byte the client's but for the model's name,
        the `limits` (see `output_limits`) or other values to set and, on a stream, the wish for usage,
        without which no bill could be written."""
        changes: dict[str, Any] = {"model": upstream_name, **(limits or {})}
        if changes.get("stream", self.stream) and not self.include_usage:
            options = self.body.values.get("stream_options") or {}
            changes["stream_options"] = options | {"include_usage": True}
        return self.body.with_values(changes)

    def output_limits(self, max_output_tokens: int, own_name: str | None = None) -> dict[str, Any]:
        """The top-level values of the body to set so that each answer has at most so many tokens: those of
        the client's own limits that allow more, or else the limit by `own_name`, by default the API's."""
        if not self.limit_names:
            return {}
        values = self.body.values
        used = [name for name in self.limit_names if values.get(name) is not None]
        names = used or [own_name or self.limit_names[0]]
        limits = {
            name: max_output_tokens for name in names if not _is_within(values.get(name), max_output_tokens)
        }
        return limits | _thinking_within(values.get("thinking"), max_output_tokens) if limits else {}


def parse_body(body: bytes) -> JsonObject:
    """
    :raises InvalidRequest: for what is no JSON object, or one that programs read differently
    """
    try:
        return parse_object(body)
    except NotJson as error:
        raise InvalidRequest(str(error), param=error.param) from error


def require(body: JsonObject, name: str) -> None:
    """
    :raises InvalidRequest: where the body does not have the field
    """
    if name not in body.values:
        raise InvalidRequest(f"Missing required parameter: '{name}'.", param=name)


def check_model_and_stream(values: Mapping[str, Any]) -> None:
    """
    :raises InvalidRequest: where the fields that choose a model and a stream are ill-typed
    """
    check_optional(values, "model", str, "a string")
    check_optional(values, "stream", bool, "a boolean")
    check_optional(values, "stream_options", dict, "an object")
    options = values.get("stream_options") or {}
    check_optional(options, "include_usage", bool, "a boolean", "stream_options.include_usage")


def tokens_of_json(value: object) -> int:
    """The likely tokens of a JSON value, written compactly; none where there is no value."""
    if value is None:
        return 0
    return estimated_tokens(len(json.dumps(value, ensure_ascii=False, separators=(",", ":"))))


def tokens_of_text(text: object) -> int:
    """The likely tokens of a text; none where it is no text."""
    return estimated_tokens(len(text)) if isinstance(text, str) else 0


def _is_within(limit: int | None, max_output_tokens: int) -> bool:
    """Whether a client's limit is one and allows no more; at some servers zero or less stands for none."""
    return limit is not None and 0 < limit <= max_output_tokens


def _thinking_within(thinking: object, max_output_tokens: int) -> dict[str, Any]:
    """What Anthropic's API needs beside a lower limit: thinking that leaves a token for the answer, or none
    where that is less than the least that can be asked for."""
    if not isinstance(thinking, dict) or not isinstance(thinking.get("budget_tokens"), int):
        return {}
    if thinking["budget_tokens"] < max_output_tokens:
        return {}
    if max_output_tokens <= LEAST_THINKING_TOKENS:
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {**thinking, "budget_tokens": max_output_tokens - 1}}


def objects_of(value: object) -> list[dict[str, Any]]:
    """The objects of a list; none where it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def check_optional(
    values: Mapping[str, Any], name: str, wanted: type, called: str, param: str | None = None
) -> None:
    """
    :raises InvalidRequest: where a field is neither absent, nor null, nor of the type that is wanted
    """
    value = values.get(name)
    # A boolean is an int to Python alone.
    if value is not None and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        raise InvalidRequest(f"'{param or name}' must be {called}.", param=param or name)


def check_integer(values: Mapping[str, Any], name: str, least: int | None = None) -> None:
    """
    :raises InvalidRequest: where a field is neither absent, nor null, nor an integer of at least `least`.
        Programs differ in what they make of "10" and 10.0, and so in what a call costs.
    """
    check_optional(values, name, int, "an integer")
    value = values.get(name)
    if value is not None and least is not None and value < least:
        raise InvalidRequest(f"'{name}' must be at least {least}.", param=name)
