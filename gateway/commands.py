"""The command line: `flask models`."""

from __future__ import annotations

import json

import click
from flask.cli import AppGroup
from tabulate import tabulate

from gateway.catalog import Catalog
from gateway.config import Settings
from gateway.models_file import load_catalog

WIDEST_LIST = 24  # characters
ONLY_IN_JSON = ("max_concurrency", "slow_seconds", "timeouts")  # a table would be too wide

models_commands = AppGroup("models", help="The models that the gateway can route to.")


@models_commands.command("list", with_appcontext=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_models(as_json: bool) -> None:
    """Show every model with its provider, what it can do and what it costs, from the cheapest to the dearest.

    It is what the models file and the environment say now. Prices are USD per million tokens, in tiers the
    lowest tier.
    """
    catalog = load_catalog(Settings.from_env())
    click.echo(_as_json(catalog) if as_json else _as_table(catalog))


def _as_json(catalog: Catalog) -> str:
    return json.dumps([model.row() for model in catalog], indent=2)


def _as_table(catalog: Catalog) -> str:
    rows = []
    for model in catalog:
        row = model.row()
        prices = row.pop("usd_per_million_tokens")
        assert isinstance(prices, dict)  # noqa: S101 - tells the type checker what a row has
        for name in ONLY_IN_JSON:
            del row[name]
        rows.append({name: _cell(value) for name, value in (row | prices).items()})
    widths = [WIDEST_LIST if name in ("apis", "capabilities") else None for name in rows[0]]
    return tabulate(rows, headers="keys", disable_numparse=True, maxcolwidths=widths)


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(value)
        case float():
            return f"{value:.10g}"
        case _:
            return str(value)
