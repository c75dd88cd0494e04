"""The fields of a model's table in the models file, each read with a message that names table and field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway.config import Settings
from gateway.environment import InvalidSetting
from gateway.timeouts import Timeouts

VARIABLE = "MODELS_FILE"
# Without a fragment, which no server would see; a query is welcome.
BILL_PATH = re.compile(r"/[^{}#\s]*\{call_id\}[^{}#\s]*")


def text_of(name: str, table: Mapping[str, Any], key: str) -> str | None:
    text = table.get(key)
    if text is not None and (not isinstance(text, str) or not text or not text.isprintable()):
        raise InvalidSetting(VARIABLE, f"{name}: {key} must be a text")
    return text


def tokens_of(name: str, table: Mapping[str, Any], key: str) -> int | None:
    return number_of(name, table, key, "a number of tokens")


def number_of(name: str, table: Mapping[str, Any], key: str, called: str) -> int | None:
    number = table.get(key)
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise InvalidSetting(VARIABLE, f"{name}: {key} must be {called}")
    return number


def bill_path_of(name: str, table: Mapping[str, Any]) -> str | None:
    path = text_of(name, table, "bill_path")
    if path is not None and not BILL_PATH.fullmatch(path):
        raise InvalidSetting(
            VARIABLE, f"{name}: bill_path must be a path from / with {{call_id}} in it, once"
        )
    return path


def seconds_of(name: str, table: Mapping[str, Any], key: str) -> float | None:
    seconds = table.get(key)
    if seconds is None:
        return None
    is_number = isinstance(seconds, int | Decimal) and not isinstance(seconds, bool)
    if not is_number or not Decimal(seconds).is_finite() or not 0.01 <= seconds <= 86400:
        raise InvalidSetting(VARIABLE, f"{name}: {key} must be a number of seconds from 0.01 to 86400")
    return float(seconds)


def timeouts_of(name: str, table: Mapping[str, Any], settings: Settings) -> Timeouts:
    usual = {
        "connect": settings.upstream_connect_timeout,
        "first_byte": settings.upstream_first_byte_timeout,
        "idle": settings.upstream_idle_timeout,
        "total": settings.request_timeout,
    }
    own = table.get("timeouts", {})
    if not isinstance(own, dict) or not own.keys() <= usual.keys():
        raise InvalidSetting(VARIABLE, f"[{name}.timeouts] can give {', '.join(usual)}, each in seconds")
    return Timeouts(**{key: seconds_of(name, own, key) or seconds for key, seconds in usual.items()})


def fallbacks_of(name: str, table: Mapping[str, Any]) -> tuple[str, ...] | None:
    listed = table.get("fallbacks")
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise InvalidSetting(VARIABLE, f"{name}: fallbacks must be a list of models' names")
    return tuple(dict.fromkeys(listed))


def choices_of(
    name: str, table: Mapping[str, Any], key: str, known: frozenset[str], default: frozenset[str]
) -> frozenset[str]:
    listed = table.get(key)
    if listed is None:
        return frozenset(default)
    if not isinstance(listed, list) or not all(isinstance(item, str) and item in known for item in listed):
        raise InvalidSetting(VARIABLE, f"{name}: {key} must be a list of some of: {', '.join(sorted(known))}")
    return frozenset(listed)
