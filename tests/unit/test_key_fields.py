"""What may be said of a virtual key, in a request's body or a command's options."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.budget import Budget, Period
from gateway.keys.key_fields import (
    InvalidField,
    KeyFields,
    read_changes,
    read_name,
    read_new_key,
    read_owner_budget,
)

MODELS = ["CheapModel", "ExpensiveModel"]
NOW = 1_800_000_000.0


def read(**values: Any) -> KeyFields:
    return read_new_key({"name": "n", **values}, MODELS, NOW)


def refused(**values: Any) -> InvalidField:
    with pytest.raises(InvalidField) as error:
        read(**values)
    return error.value


def test_a_key_can_be_given_no_more_than_a_name() -> None:
    assert read() == {"name": "n"}
    assert read(owner=None, budget_usd=None, period=None, rpm=None, tpm=None, models=None, expires=None) == {
        "name": "n",
        "owner": None,
        "budget": None,
        "rpm": None,
        "tpm": None,
        "models": None,
        "expires_at": None,
    }


@pytest.mark.parametrize(
    ("value", "usd"),
    [
        (0, "0"),
        (1, "1"),
        (Decimal("0.1"), "0.1"),
        (Decimal("1e-12"), "0.000000000001"),
        (Decimal("-0.0"), "0"),
        (Decimal("1E+9"), "1000000000"),
        (Decimal("0.100000000000000000000000"), "0.1"),
        ("0.30", "0.3"),
        ("123456789.123456789012", "123456789.123456789012"),
        ("1000000000", "1000000000"),
    ],
    ids=str,
)
def test_a_budget_is_taken_as_it_is_written(value: object, usd: str) -> None:
    budget = read(budget_usd=value)["budget"]
    assert budget == Budget(Decimal(usd), Period.TOTAL)
    assert budget is not None
    assert f"{budget.usd:f}" == usd


@pytest.mark.parametrize(
    "value",
    [
        -1, 10**9 + 1, 10**4000, 1.5, True, [], {}, "", "-1", "+1", "1e3", "1,5", " 1", "1_0", "$1", "NaN",
        "1000000000.1", "0.0000000000001", "٣", Decimal("NaN"), Decimal("Infinity"), Decimal("-1"),
        Decimal("1e-13"), Decimal("1e-999999"), Decimal("0." + "1" * 40), Decimal("1e999999"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_any_other_budget_is_refused(value: object) -> None:
    assert refused(budget_usd=value).field == "budget_usd"


@pytest.mark.parametrize(
    ("before", "values", "after"),
    [
        (None, {"budget_usd": 5}, Budget(Decimal(5))),
        (None, {"budget_usd": 5, "period": "week"}, Budget(Decimal(5), Period.WEEK)),
        (Budget(Decimal(5), Period.DAY), {"budget_usd": 6}, Budget(Decimal(6), Period.DAY)),
        (Budget(Decimal(5), Period.DAY), {"period": "month"}, Budget(Decimal(5), Period.MONTH)),
        (Budget(Decimal(5), Period.DAY), {"budget_usd": None}, None),
        (Budget(Decimal(5), Period.DAY), {"budget_usd": None, "period": None}, None),
        (Budget(Decimal(5), Period.DAY), {"budget_usd": 6, "period": None}, Budget(Decimal(6), Period.DAY)),
    ],
)
def test_a_budget_and_its_period_change_apart(
    before: Budget | None, values: dict[str, object], after: Budget | None
) -> None:
    assert read_changes(values, before, MODELS, NOW) == {"budget": after}


def test_a_period_alone_changes_nothing_where_it_is_null() -> None:
    assert read_changes({"period": None}, Budget(Decimal(5), Period.DAY), MODELS, NOW) == {}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"period": "day"}, "period"),
        ({"period": "day", "budget_usd": None}, "period"),
        ({"period": "year", "budget_usd": 1}, "period"),
        ({"period": "DAY", "budget_usd": 1}, "period"),
        ({"period": 1, "budget_usd": 1}, "period"),
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "\x1b[31m"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": 1}, "name"),
        ({"owner": ""}, "owner"),
        ({"owner": "a\0"}, "owner"),
        ({"owner": ["a"]}, "owner"),
        ({"rpm": 0}, "rpm"),
        ({"rpm": -1}, "rpm"),
        ({"rpm": 1.0}, "rpm"),
        ({"rpm": "1"}, "rpm"),
        ({"rpm": True}, "rpm"),
        ({"tpm": 0}, "tpm"),
        ({"tpm": 10**13}, "tpm"),
        ({"models": []}, "models"),
        ({"models": "CheapModel"}, "models"),
        ({"models": ["NoModel"]}, "models"),
        ({"models": ["auto"]}, "models"),
        ({"models": [1]}, "models"),
        ({"models": {"CheapModel": 1}}, "models"),
        ({"on_budget": "pay"}, "on_budget"),
        ({"on_budget": 1}, "on_budget"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": "2030-01-31T12:00:00"}, "expires"),
        ({"expires": "2030-01-31"}, "expires"),
        ({"expires": "2000-01-01T00:00:00Z"}, "expires"),
        ({"expires": "30"}, "expires"),
        ({"expires": "0d"}, "expires"),
        ({"expires": "-1d"}, "expires"),
        ({"expires": "1.5h"}, "expires"),
        ({"expires": "999999999w"}, "expires"),
        ({"expires": "9999-12-31T23:59:59-23:59"}, "expires"),
        ({"expires": 1_900_000_000}, "expires"),
        ({"budget": 1}, "budget"),
        ({"id": "0123456789ab"}, "id"),
        ({"x" * 100: 1}, "x" * 64),
    ],
    ids=str,
)
def test_what_cannot_be_said_of_a_key_is_refused_by_its_field(values: dict[str, Any], field: str) -> None:
    error = refused(**values)
    assert error.field == field
    assert str(error)


def test_a_key_needs_a_name() -> None:
    with pytest.raises(InvalidField) as error:
        read_new_key({}, MODELS, NOW)
    assert error.value.field == "name"


@pytest.mark.parametrize(
    ("text", "expiry"),
    [
        ("1s", NOW + 1),
        ("90m", NOW + 90 * 60),
        ("12h", NOW + 12 * 3600),
        ("30d", NOW + 30 * 86400),
        ("2w", NOW + 14 * 86400),
        ("2030-01-31T12:00:00Z", 1896091200),
        ("2030-01-31T12:00:00+00:00", 1896091200),
        ("2030-01-31T14:00:00.999+02:00", 1896091200),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_a_key_expires_after_a_while_or_at_a_time_with_its_zone(text: str, expiry: float) -> None:
    assert read(expires=text)["expires_at"] == expiry


def test_names_are_any_printable_characters() -> None:
    for name in ("a", "é ü", "名前", "a/b:{c}", "x" * 100):
        assert read_name("name", name) == name


def test_an_owner_s_budget_must_be_given() -> None:
    assert read_owner_budget({"budget_usd": 1, "period": "day"}) == Budget(Decimal(1), Period.DAY)
    for values in ({}, {"budget_usd": None}, {"period": "day"}, {"budget_usd": 1, "rpm": 1}):
        with pytest.raises(InvalidField):
            read_owner_budget(values)
