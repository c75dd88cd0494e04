"""The command line: `flask keys`."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar

import click
from flask.cli import AppGroup

from gateway.budget import OnBudget, Period
from gateway.config import Settings
from gateway.errors import GatewayError, LedgerUnavailable
from gateway.keys.key_fields import InvalidField, read_changes, read_name, read_new_key, read_owner_budget
from gateway.keys.key_text import key_text, keys_table, owner_text
from gateway.keys.key_view import Owner, key_view, key_views, new_key_view, owner_view
from gateway.keys.virtual_key import VirtualKey, id_of
from gateway.ledger.connection import connect
from gateway.ledger.key_store import KeyStore
from gateway.ledger.names import Names
from gateway.models_file import load_catalog
from gateway.routing.policy import POLICIES

REDIS_TIMEOUT_SECONDS = 5.0  # a person waits, and no request
PAGE = 1000
PERIODS = [period.value for period in Period]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

keys_commands = AppGroup("keys", help="Virtual keys, by which clients are told apart, limited and billed.")


def in_clear_words(command: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Tell what went wrong in one line: bad values as errors of usage, all else with exit code 1."""

    @functools.wraps(command)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except InvalidField as error:
            option = f"--{error.field.replace('_', '-')}"
            raise click.BadParameter(str(error), param_hint=f"'{option}'") from error
        except LedgerUnavailable as error:
            raise click.ClickException("Redis cannot be reached now; see REDIS_URL.") from error
        except GatewayError as error:
            raise click.ClickException(error.message) from error

    return run


def field_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options for what may be said of a key; each is None where it is not given."""
    for option in reversed(
        (
            click.option("--owner", help="Who has the key; an owner's keys can share a budget."),
            click.option("--budget-usd", metavar="USD", help="What the key may spend in each period."),
            click.option("--period", type=click.Choice(PERIODS), help="By default total, in UTC."),
            click.option(
                "--on-budget",
                type=click.Choice([choice.value for choice in OnBudget]),
                help="What a budget that is nearly spent does: shorten answers, or ask the cheapest model.",
            ),
            click.option("--rpm", type=int, help="Requests per minute."),
            click.option("--tpm", type=int, help="Tokens per minute."),
            click.option("--models", multiple=True, metavar="A,B", help="The only models for this key."),
            click.option(
                "--policy", type=click.Choice(POLICIES), help="What chooses the model; else as set."
            ),
            click.option("--expires", metavar="30d|TIME", help="As long from now, or a time in ISO 8601."),
        )
    ):
        command = option(command)
    return command


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@keys_commands.command("create", with_appcontext=False)
@click.option("--name", required=True, help="What the key is for.")
@field_options
@as_json_option
@in_clear_words
def create(as_json: bool, **options: Any) -> None:
    """Create a key. Its text, on the last line, is shown only now."""
    fields = read_new_key(_values(options), _model_names(), time.time())
    key, text = _store().create(**fields)
    _show_once(new_key_view(key), text, as_json)


@keys_commands.command("list", with_appcontext=False)
@click.option("--limit", type=click.IntRange(1), help="At most so many; by default all.")
@click.option("--after", metavar="ID", help="Those created after this one.")
@as_json_option
@in_clear_words
def list_keys(limit: int | None, after: str | None, as_json: bool) -> None:
    """List keys in the order of their creation, those revoked and expired among them."""
    store, first = _store(), True
    with _list_brackets(as_json):
        for page in _pages(store, after, limit):
            views = key_views(store, page)
            if as_json:
                for view in views:
                    click.echo(("" if first else ",\n") + json.dumps(view, ensure_ascii=False), nl=False)
                    first = False
            else:
                click.echo(keys_table(views))
                first = False
    if first and not as_json:
        click.echo("There are no keys here.", err=True)


@keys_commands.command("show", with_appcontext=False)
@click.argument("ref")
@as_json_option
@in_clear_words
def show(ref: str, as_json: bool) -> None:
    """Show a key, which REF names by its id, its text or, where no other has it, its name."""
    store = _store()
    _show(key_view(store, _referred(store, ref)), as_json)


@keys_commands.command("rotate", with_appcontext=False)
@click.argument("ref")
@as_json_option
@in_clear_words
def rotate(ref: str, as_json: bool) -> None:
    """Give a key a new text, on the last line, shown only now; the old one is refused from now on."""
    store = _store()
    key = _referred(store, ref)
    view = key_view(store, key)
    _, text = store.rotate(key.id)  # last, so that nothing can fail once there is a text to show
    _show_once(view, text, as_json)


@keys_commands.command("revoke", with_appcontext=False)
@click.argument("ref")
@as_json_option
@in_clear_words
def revoke(ref: str, as_json: bool) -> None:
    """Refuse a key for ever. It stays in the list."""
    store = _store()
    _show(key_view(store, store.revoke(_referred(store, ref).id)), as_json)


@keys_commands.command("update", with_appcontext=False)
@click.argument("ref")
@click.option("--name", help="What the key is for.")
@field_options
@click.option("--no-owner", is_flag=True, help="It belongs to nobody.")
@click.option("--no-budget", "no_budget_usd", is_flag=True, help="It may spend what it likes.")
@click.option("--no-rpm", is_flag=True, help="No limit of requests.")
@click.option("--no-tpm", is_flag=True, help="No limit of tokens.")
@click.option("--no-models", is_flag=True, help="All models are for it.")
@click.option("--no-policy", is_flag=True, help="The usual policy chooses.")
@click.option("--no-expires", is_flag=True, help="It does not expire.")
@as_json_option
@in_clear_words
def update(ref: str, as_json: bool, **options: Any) -> None:
    """Change what the options say of a key, and nothing else."""
    values = _values(options)
    if not values:
        raise click.UsageError("Nothing to change: no option is given.")
    store = _store()
    key = _referred(store, ref)
    fields = read_changes(values, key.budget, _model_names() if "models" in values else (), time.time())
    _show(key_view(store, store.update(key, replace(key, **fields))), as_json)


@keys_commands.command("owner", with_appcontext=False)
@click.argument("name")
@click.option("--budget-usd", metavar="USD", help="What all keys of the owner may spend in each period.")
@click.option("--period", type=click.Choice(PERIODS), help="By default total, in UTC.")
@click.option("--no-budget", is_flag=True, help="They may spend what they like together.")
@as_json_option
@in_clear_words
def owner_of_keys(
    name: str, budget_usd: str | None, period: str | None, no_budget: bool, as_json: bool
) -> None:
    """Show an owner's budget, or set it where options say so."""
    values = _values({"budget_usd": budget_usd, "period": period, "no_budget_usd": no_budget})
    try:
        read_name("name", name)
    except InvalidField as error:
        raise click.BadParameter(str(error), param_hint="'NAME'") from error
    store = _store()
    if no_budget:
        store.set_owner_budget(name, None)
    elif values:
        store.set_owner_budget(name, read_owner_budget(values))
    view = owner_view(store, Owner(name, store.owner_budget(name)))
    click.echo(_as_json(view) if as_json else owner_text(view))


def _store() -> KeyStore:
    settings = Settings.from_env()
    return KeyStore(connect(settings.redis_url, REDIS_TIMEOUT_SECONDS), Names(settings.redis_key_prefix))


def _model_names() -> list[str]:
    return load_catalog(Settings.from_env()).names


def _values(options: dict[str, Any]) -> dict[str, Any]:
    """The fields that the options set, those of a `--no-` to None."""
    values: dict[str, Any] = {}
    for name, value in options.items():
        field = name.removeprefix("no_")
        if field == name and value not in (None, ()):
            values[field] = value
        elif field != name and value:
            if options.get(field) not in (None, ()):
                raise click.UsageError(f"'--{field.replace('_', '-')}' and its opposite exclude each other.")
            values[field] = None
    if values.get("models"):
        names = [name.strip() for part in values["models"] for name in part.split(",")]
        values["models"] = [name for name in names if name]
    return values


def _referred(store: KeyStore, ref: str) -> VirtualKey:
    """The key that a person means."""
    if key := store.find(id_of(ref) or ref):
        return key
    named = [key for page in _pages(store) for key in page if key.name == ref and key.revoked_at is None]
    if len(named) > 1:
        ids = ", ".join(key.id for key in named)
        raise click.ClickException(f"Several keys have this name; say which by its id: {ids}.")
    if not named:
        raise click.ClickException(
            "There is no virtual key with this id or text, nor one of this name that is not revoked."
        )
    return named[0]


def _pages(store: KeyStore, after: str | None = None, limit: int | None = None) -> Iterator[list[VirtualKey]]:
    """All keys behind `after`, at most `limit`, by pages."""
    left = limit
    has_more = True
    while has_more and left != 0:
        keys, has_more = store.page(after, PAGE if left is None else min(PAGE, left))
        if not keys:
            return
        yield keys
        after = keys[-1].id
        left = None if left is None else left - len(keys)


@contextmanager
def _list_brackets(as_json: bool) -> Iterator[None]:
    if as_json:
        click.echo("[", nl=False)
    yield
    if as_json:
        click.echo("]")


def _show(view: dict[str, Any], as_json: bool) -> None:
    click.echo(_as_json(view) if as_json else key_text(view))


def _show_once(view: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        click.echo(_as_json({**view, "key": text}))
    else:
        click.echo(f"{key_text(view)}\n\nThe key itself, which is not shown again:\n{text}")


def _as_json(view: dict[str, Any]) -> str:
    return json.dumps(view, indent=2, ensure_ascii=False)
