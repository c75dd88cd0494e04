"""What is shown of a virtual key and of an owner: all but secrets, in JSON's types, amounts in USD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gateway.budget import Budget, Scope
from gateway.keys.virtual_key import VirtualKey
from gateway.ledger.key_accounts import BudgetState, KeyUsage
from gateway.ledger.key_store import KEY_MEMBER, OWNER_MEMBER, KeyStore


@dataclass(frozen=True)
class Owner:
    """Who may have several keys, and a budget for all of them."""

    name: str
    budget: Budget | None


def key_views(store: KeyStore, keys: Sequence[VirtualKey]) -> list[dict[str, Any]]:
    """Each key with what it has used.

    :raises LedgerUnavailable:
    """
    now = datetime.now(UTC)
    with_budget = [key for key in keys if key.budget is not None]
    states = store.budget_states([_scope(KEY_MEMBER + key.id, key.budget) for key in with_budget], now)
    state_of = {key.id: state for key, state in zip(with_budget, states, strict=True)}
    usages = store.usages(keys)
    return [
        _key_view(key, usage, state_of.get(key.id), now.timestamp())
        for key, usage in zip(keys, usages, strict=True)
    ]


def key_view(store: KeyStore, key: VirtualKey) -> dict[str, Any]:
    """The key with what it has used.

    :raises LedgerUnavailable:
    """
    (view,) = key_views(store, [key])
    return view


def new_key_view(key: VirtualKey) -> dict[str, Any]:
    """A key that was created just now, without a look at Redis, which could fail."""
    now = datetime.now(UTC)
    unused = None if key.budget is None else BudgetState(Decimal(0), Decimal(0), key.budget.window(now).ends)
    return _key_view(key, KeyUsage(), unused, now.timestamp())


def owner_view(store: KeyStore, owner: Owner) -> dict[str, Any]:
    """An owner's budget and what is gone of it.

    :raises LedgerUnavailable:
    """
    state = None
    if owner.budget is not None:
        (state,) = store.budget_states([Scope(OWNER_MEMBER + owner.name, owner.budget)])
    return {"name": owner.name, **_budget_view(owner.budget, state)}


def status_of(key: VirtualKey, now: float) -> str:
    """`active`, `revoked` or `expired`."""
    if key.revoked_at is not None:
        return "revoked"
    return "active" if key.is_valid(now) else "expired"


def _key_view(key: VirtualKey, usage: KeyUsage, state: BudgetState | None, now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "status": status_of(key, now),
        **_budget_view(key.budget, state),
        "on_budget": str(key.on_budget),
        "rpm": key.rpm,
        "tpm": key.tpm,
        "models": None if key.models is None else sorted(key.models),
        "policy": key.policy,
        "created_at": _time(key.created_at),
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
        "usage": {
            "requests": usage.requests,
            "cost_usd": _usd(usage.cost_usd),
            "input_tokens": usage.input_tokens,
            "cached_input_tokens": usage.cached_input_tokens,
            "output_tokens": usage.output_tokens,
        },
    }


def _budget_view(budget: Budget | None, state: BudgetState | None) -> dict[str, Any]:
    resets_at = state.resets_at if state else None
    return {
        "budget_usd": _usd(budget.usd) if budget else None,
        "period": str(budget.period) if budget else None,
        "budget_spent_usd": _usd(state.spent) if state else None,
        "budget_held_usd": _usd(state.held) if state else None,
        "budget_resets_at": _time(resets_at.timestamp()) if resets_at else None,
    }


def _scope(name: str, budget: Budget | None) -> Scope:
    assert budget is not None  # noqa: S101 - tells the type checker what the caller chose by
    return Scope(name, budget)


def _usd(amount: Decimal) -> float:
    return float(amount)


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
