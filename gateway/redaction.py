"""Keeps a provider's key out of what comes back from that provider, however it is spelled there."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

PLACEHOLDER = "[key]"
# Encoders for URLs, HTML and JSON change the signs in a key and leave its letters and digits as they are. A
# run of so many of these is no accident.
TELLING_RUN = re.compile(r"[A-Za-z0-9]{12,}")


def holds_key(text: str, key: str | None) -> bool:
    """Whether `text` gives the key away."""
    return any(part in text for part in _parts_of(key))


def text_without_key(text: str, key: str | None) -> str:
    """`text` without the key."""
    for part in _parts_of(key):
        text = text.replace(part, PLACEHOLDER)
    return text


def without_key(body: bytes, values: Any, key: str | None) -> bytes:
    """A JSON text, given also as the values that it has, without the key: byte for byte the same where the
    key is not in it.

    :raises RecursionError: for what is nested too deep to be looked through
    """
    cleaned = _cleaned(values, _parts_of(key))
    # The text can hold it where the values do not: of a field that is there twice only one is a value.
    if cleaned == values and not holds_key(body.decode(errors="replace"), key):
        return body
    return json.dumps(cleaned).encode()


def _cleaned(value: Any, parts: tuple[str, ...]) -> Any:
    match value:
        case str():
            for part in parts:
                value = value.replace(part, PLACEHOLDER)
            return value
        case list():
            return [_cleaned(item, parts) for item in value]
        case dict():
            return {_cleaned(name, parts): _cleaned(item, parts) for name, item in value.items()}
    return value


@lru_cache(maxsize=256)  # one for each provider, and asked for with every answer
def _parts_of(key: str | None) -> tuple[str, ...]:
    """The key itself, and what encoders leave of it."""
    return (key, *TELLING_RUN.findall(key)) if key else ()
