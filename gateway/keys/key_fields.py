"""What may be said of a virtual key, read alike from a request's body and from a command's options."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypedDict, TypeVar

from gateway.budget import MOST_BUDGET_USD, Budget, OnBudget, Period
from gateway.routing.policy import POLICIES

LONGEST_NAME = 100
MOST_PER_MINUTE = 10**12
FINEST_USD = Decimal("1e-12")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
DURATION = re.compile(rf"([1-9][0-9]{{0,8}})([{''.join(UNIT_SECONDS)}])")
LAST_SECOND = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
FIELDS = ("name", "owner", "budget_usd", "period", "on_budget", "rpm", "tpm", "models", "policy", "expires")

Choice = TypeVar("Choice", bound=StrEnum)
Value = TypeVar("Value")


class KeyFields(TypedDict, total=False):
    """Some of a key's fields, as `VirtualKey` has them."""

    name: str
    owner: str | None
    budget: Budget | None
    on_budget: OnBudget
    rpm: int | None
    tpm: int | None
    models: frozenset[str] | None
    policy: str | None
    expires_at: int | None


class InvalidField(ValueError):
    """`field` has no value that it can have; the text says what it must be."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field


def read_new_key(values: Mapping[str, object], models: Collection[str], now: float) -> KeyFields:
    """The fields of a key that is to be created; `models` are those that it can be limited to.

    :raises InvalidField:
    """
    if values.get("name") is None:
        raise InvalidField("name", "must be given")
    return read_changes(values, None, models, now)


def read_changes(
    values: Mapping[str, object], budget: Budget | None, models: Collection[str], now: float
) -> KeyFields:
    """The fields of a key that `values` change, where None takes a limit away. `budget` is what it has.

    :raises InvalidField:
    """
    _refuse_unknown(values, FIELDS)
    fields = KeyFields()
    if "name" in values:
        fields["name"] = read_name("name", values["name"])
    if "owner" in values:
        fields["owner"] = _optional(values["owner"], lambda owner: read_name("owner", owner))
    if "budget_usd" in values or values.get("period") is not None:
        fields["budget"] = _budget(values, budget)
    if "on_budget" in values:
        chosen = _optional(values["on_budget"], lambda value: _choice("on_budget", value, OnBudget))
        fields["on_budget"] = chosen or OnBudget.CLAMP
    if "rpm" in values:
        fields["rpm"] = _optional(values["rpm"], lambda value: _positive("rpm", value))
    if "tpm" in values:
        fields["tpm"] = _optional(values["tpm"], lambda value: _positive("tpm", value))
    if "models" in values:
        fields["models"] = _optional(values["models"], lambda value: _models(value, models))
    if "policy" in values:
        fields["policy"] = _optional(values["policy"], _policy)
    if "expires" in values:
        fields["expires_at"] = _optional(values["expires"], lambda value: _expiry(value, now))
    return fields


def read_owner_budget(values: Mapping[str, object]) -> Budget:
    """
    :raises InvalidField:
    """
    _refuse_unknown(values, ("budget_usd", "period"))
    budget = _budget(values, None)
    if budget is None:
        raise InvalidField("budget_usd", "must be given")
    return budget


def read_name(field: str, value: object) -> str:
    """
    :raises InvalidField:
    """
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_NAME:
        raise InvalidField(field, f"must be a text of 1 to {LONGEST_NAME} characters")
    if not value.isprintable() or value.isspace():
        raise InvalidField(field, "must be made of printable characters")
    return value


def _budget(values: Mapping[str, object], budget: Budget | None) -> Budget | None:
    """The budget after `values` have changed it."""
    usd = None if budget is None else budget.usd
    if "budget_usd" in values:
        usd = _optional(values["budget_usd"], _usd)
    period = _optional(values.get("period"), lambda value: _choice("period", value, Period))
    if usd is None:
        if period is not None:
            raise InvalidField("period", "needs a budget_usd")
        return None
    return Budget(usd, period or (Period.TOTAL if budget is None else budget.period))


def _usd(value: object) -> Decimal:
    """An amount as it was written; a float would no longer be that."""
    wanted = InvalidField(
        "budget_usd", f"must be USD from 0 to {MOST_BUDGET_USD} with at most 12 decimal places"
    )
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise wanted
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,30})?", value, re.ASCII):
        raise wanted
    try:
        usd = Decimal(value)
    except InvalidOperation:
        raise wanted from None
    if not usd.is_finite() or not 0 <= usd <= MOST_BUDGET_USD or usd != usd.quantize(FINEST_USD):
        raise wanted
    return abs(usd.quantize(FINEST_USD).normalize())


def _positive(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_PER_MINUTE:
        raise InvalidField(field, f"must be a whole number from 1 to {MOST_PER_MINUTE}")
    return value


def _choice(field: str, value: object, choices: type[Choice]) -> Choice:
    if not isinstance(value, str) or value not in list(choices):
        raise InvalidField(field, f"must be one of: {', '.join(choices)}")
    return choices(value)


def _models(value: object, models: Collection[str]) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise InvalidField("models", "must be a list of at least one model's name")
    for name in value:
        if name not in models:
            raise InvalidField("models", f"can hold only models that are configured: {', '.join(models)}")
    return frozenset(value)


def _policy(value: object) -> str:
    if not isinstance(value, str) or value not in POLICIES:
        raise InvalidField("policy", f"must be one of: {', '.join(POLICIES)}")
    return value


def _expiry(value: object, now: float) -> int:
    """The time at which the key expires, seconds since 1970."""
    wanted = InvalidField(
        "expires", "must be a time such as 2030-01-31T12:00:00Z, or as long from now as 30d, 12h or 90m"
    )
    if not isinstance(value, str):
        raise wanted
    if duration := DURATION.fullmatch(value):
        expiry = int(now) + int(duration[1]) * UNIT_SECONDS[duration[2]]
    else:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise wanted from None
        if moment.tzinfo is None:
            raise InvalidField("expires", "must name its time zone, such as the Z of 2030-01-31T12:00:00Z")
        expiry = int(moment.timestamp())
    if not now < expiry <= LAST_SECOND:
        raise InvalidField("expires", "must lie in the future, and before the year 10000")
    return expiry


def _optional(value: object, read: Callable[[object], Value]) -> Value | None:
    return None if value is None else read(value)


def _refuse_unknown(values: Mapping[str, object], known: Collection[str]) -> None:
    for name in values:
        if name not in known:
            raise InvalidField(name[:64], f"is unknown; there are: {', '.join(known)}")
