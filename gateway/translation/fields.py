"""The fields of a request that is translated, each read once, by name and type. What nobody reads is
refused by name, so that no wish of a client is lost in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from gateway.errors import InvalidRequest

CALLED = {str: "a string", bool: "a boolean", int: "an integer", dict: "an object", list: "a list"}
LONGEST_NAME = 64

T = TypeVar("T")


class Fields:
    """One object of a request, found at the path `at`; null counts as absent.

    :raises InvalidRequest: for what is no object; each method likewise, naming the field in `param`
    """

    def __init__(self, values: object, at: str = "") -> None:
        if not isinstance(values, Mapping):
            raise InvalidRequest(f"'{at}' must be an object.", param=at)
        self._left: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        self._at = at

    def path(self, name: str) -> str:
        """Where the field `name` of this object is found in the request."""
        return f"{self._at}.{name}" if self._at else name

    def take(self, name: str, kind: type[T]) -> T | None:
        """The field's value, or None where it is absent."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.ill_typed(name, CALLED[kind])
        return value

    def need(self, name: str, kind: type[T]) -> T:
        """The value of a field that must be there."""
        value = self.take(name, kind)
        if value is None:
            raise InvalidRequest(f"'{self.path(name)}' is missing.", param=self.path(name))
        return value

    def number(self, name: str) -> int | float | None:
        value = self._left.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise self.ill_typed(name, "a number")
        return value

    def one_of(self, name: str, choices: tuple[str, ...]) -> str | None:
        """A string out of `choices`, or None where it is absent."""
        value = self.take(name, str)
        if value is not None and value not in choices:
            raise self.ill_typed(name, f"one of: {', '.join(choices)}")
        return value

    def child(self, name: str) -> Fields | None:
        """The fields of an object in a field, or None where it is absent."""
        value = self.take(name, dict)
        return None if value is None else Fields(value, self.path(name))

    def children(self, name: str) -> list[Fields] | None:
        """The fields of each object of a list, or None where that is absent."""
        items = self.take(name, list)
        if items is None:
            return None
        return [Fields(item, f"{self.path(name)}[{index}]") for index, item in enumerate(items)]

    def content(self, name: str) -> str | list[Fields] | None:
        """A string, the fields of each block of a list, or None where neither is there."""
        value = self._left.get(name)
        if isinstance(value, str):
            return self.take(name, str)
        if value is not None and not isinstance(value, list):
            raise self.ill_typed(name, "a string or a list of blocks")
        return self.children(name)

    def drop(self, *names: str) -> None:
        """Leave out what the answer does not depend on."""
        for name in names:
            self._left.pop(name, None)

    def close(self) -> None:
        """Refuse the fields that have not been read."""
        for name in self._left:
            raise self.untranslatable(name)

    def ill_typed(self, name: str, called: str) -> InvalidRequest:
        return InvalidRequest(f"'{self.path(name)}' must be {called}.", param=self.path(name))

    def untranslatable(self, name: str, value: str | None = None) -> InvalidRequest:
        """The refusal of a field, or of the `value` that it has."""
        if not name.isprintable():
            return InvalidRequest("A field of the request is not known.", param=self._at or None)
        path = self.path(name[:LONGEST_NAME])
        what = f"'{path}'"
        if value is not None and value.isprintable():
            what = f"'{value[:LONGEST_NAME]}' as {what}"
        return InvalidRequest(
            f"{what} cannot be translated for this model's provider, which speaks chat completions only.",
            param=path,
        )
