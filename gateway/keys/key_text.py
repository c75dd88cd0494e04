"""Virtual keys and owners as people read them on a terminal."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

WIDEST_NAME = 30  # characters
COLUMNS = ("id", "name", "owner", "status", "budget", "spent", "requests", "cost", "created", "expires")


def keys_table(views: list[dict[str, Any]]) -> str:
    """A line for each key."""
    rows = []
    for view in views:
        usage = view["usage"]
        row = (
            view["id"],
            _short(view["name"]),
            _short(view["owner"] or "-"),
            view["status"],
            _budget(view),
            _usd(view["budget_spent_usd"]),
            str(usage["requests"]),
            _usd(usage["cost_usd"]),
            view["created_at"][:10],
            (view["expires_at"] or "-")[:10],
        )
        rows.append(row)
    return tabulate(rows, headers=COLUMNS, disable_numparse=True)


def key_text(view: dict[str, Any]) -> str:
    """All about one key, a line for each thing that there is to say."""
    usage = view["usage"]
    facts = {
        "id": view["id"],
        "name": view["name"],
        "owner": view["owner"],
        "status": view["status"],
        **_budget_facts(view),
        "on budget": view["on_budget"] if view["budget_usd"] is not None else None,
        "requests per minute": view["rpm"],
        "tokens per minute": view["tpm"],
        "models": None if view["models"] is None else ", ".join(view["models"]),
        "policy": view["policy"],
        "created": view["created_at"],
        "expires": view["expires_at"],
        "revoked": view["revoked_at"],
        "requests": usage["requests"],
        "cost": _usd(usage["cost_usd"]),
        "input tokens": f"{usage['input_tokens']}, of which cached: {usage['cached_input_tokens']}",
        "output tokens": usage["output_tokens"],
    }
    return _facts(facts)


def owner_text(view: dict[str, Any]) -> str:
    """All about an owner."""
    return _facts({"owner": view["name"], "budget": "none", **_budget_facts(view)})


def _budget_facts(view: dict[str, Any]) -> dict[str, Any]:
    if view["budget_usd"] is None:
        return {}
    return {
        "budget": _budget(view),
        "spent": _usd(view["budget_spent_usd"]),
        "held": _usd(view["budget_held_usd"]),
        "begins anew": view["budget_resets_at"],
    }


def _budget(view: dict[str, Any]) -> str:
    return "-" if view["budget_usd"] is None else f"{_usd(view['budget_usd'])} {view['period']}"


def _usd(amount: float | None) -> str:
    if amount is None:
        return "-"
    return "$" + f"{amount:,.12f}".rstrip("0").rstrip(".")


def _short(text: str) -> str:
    return text if len(text) <= WIDEST_NAME else f"{text[: WIDEST_NAME - 1]}…"


def _facts(facts: dict[str, Any]) -> str:
    rows = [(name, str(value)) for name, value in facts.items() if value is not None]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)
