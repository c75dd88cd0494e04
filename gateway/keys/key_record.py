"""Virtual keys and budgets as fields of plain text, which is how Redis and the local copy keep them.
What has no value has no field."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from gateway.budget import Budget, OnBudget, Period
from gateway.keys.virtual_key import VirtualKey


class UnreadableRecord(ValueError):
    """The fields are not those of a key or a budget: somebody else has changed them."""


def record_of(key: VirtualKey) -> dict[str, str]:
    """The fields of a key, without its id."""
    fields = {
        "name": key.name,
        "secret_hash": key.secret_hash,
        "created_at": key.created_at,
        "owner": key.owner,
        "on_budget": key.on_budget,
        "rpm": key.rpm,
        "tpm": key.tpm,
        "models": None if key.models is None else ",".join(sorted(key.models)),
        "policy": key.policy,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }
    record = {name: str(value) for name, value in fields.items() if value is not None}
    return record | budget_record(key.budget)


def budget_record(budget: Budget | None) -> dict[str, str]:
    """The fields of a budget."""
    return {} if budget is None else {"budget_usd": f"{budget.usd:f}", "period": str(budget.period)}


def key_of(key_id: str, record: Mapping[str, str]) -> VirtualKey:
    """
    :raises UnreadableRecord:
    """
    try:
        record["secret_hash"].encode("ascii")  # else it could not be compared in constant time
        return VirtualKey(
            id=key_id,
            name=record["name"],
            secret_hash=record["secret_hash"],
            created_at=int(record["created_at"]),
            owner=record.get("owner"),
            budget=budget_of(record),
            on_budget=OnBudget(record.get("on_budget", OnBudget.CLAMP)),
            rpm=_integer(record, "rpm"),
            tpm=_integer(record, "tpm"),
            models=frozenset(record["models"].split(",")) if "models" in record else None,
            policy=record.get("policy"),
            expires_at=_integer(record, "expires_at"),
            revoked_at=_integer(record, "revoked_at"),
        )
    except (KeyError, ValueError) as error:
        raise UnreadableRecord(f"the record of the virtual key {key_id} cannot be read") from error


def budget_of(record: Mapping[str, str]) -> Budget | None:
    """
    :raises UnreadableRecord:
    """
    if "budget_usd" not in record:
        return None
    try:
        usd = Decimal(record["budget_usd"])
        period = Period(record.get("period", Period.TOTAL))
    except (InvalidOperation, ValueError) as error:
        raise UnreadableRecord("the record of a budget cannot be read") from error
    if not usd.is_finite():
        raise UnreadableRecord("the record of a budget cannot be read")
    return Budget(usd, period)


def _integer(record: Mapping[str, str], name: str) -> int | None:
    return int(record[name]) if name in record else None
