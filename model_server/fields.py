"""Reads single fields of a JSON object, refusing what has the wrong type or lies out of range."""

from collections.abc import Mapping
from typing import Any

from model_server.errors import InvalidRequest

Json = Any
Object = Mapping[str, Json]


def as_object(value: Json, param: str) -> Object:
    """`value`, which must be a JSON object."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"'{param}' must be an object.", param)
    return value


def as_list(value: Json, param: str) -> list[Json]:
    """`value`, which must be a JSON array with at least one item."""
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"'{param}' must be a non-empty array.", param)
    return value


def required_text(owner: Object, name: str, prefix: str = "") -> str:
    """The string field `name`, which must be there; `prefix` is the path of `owner`."""
    value = owner.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"'{prefix}{name}' must be a string.", prefix + name)
    return value


def optional_text(owner: Object, name: str, prefix: str = "") -> str | None:
    """The string field `name`, or `None` where it is absent or null."""
    return None if owner.get(name) is None else required_text(owner, name, prefix)


def optional_flag(owner: Object, name: str, prefix: str = "") -> bool:
    """The boolean field `name`; false where it is absent or null."""
    value = owner.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{prefix}{name}' must be a boolean.", prefix + name)
    return value


def optional_integer(owner: Object, name: str, low: int, high: int | None = None) -> int | None:
    """The whole number `name` within `low`..`high`, or `None` where it is absent or null."""
    value = owner.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"'{name}' must be an integer.", name)
    if value < low or (high is not None and value > high):
        bound = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidRequest(f"'{name}' must be {bound}.", name)
    return value


def check_number(owner: Object, name: str, low: float, high: float) -> None:
    """Refuse the field `name` unless it is absent, null or a number within `low`..`high`."""
    value = owner.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(f"'{name}' must be a number.", name)
    if not low <= value <= high:
        raise InvalidRequest(f"'{name}' must be from {low:g} to {high:g}.", name)


def required_integer(owner: Object, name: str, low: int) -> int:
    """The whole number `name`, which must be there and at least `low`."""
    value = optional_integer(owner, name, low)
    if value is None:
        raise InvalidRequest(f"'{name}' is required.", name)
    return value


def required_object(owner: Object, name: str, prefix: str = "") -> Object:
    """The object `name`, which must be there; `prefix` is the path of `owner`."""
    return as_object(owner.get(name), prefix + name)
