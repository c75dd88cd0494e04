"""The command line: `flask route`."""

from __future__ import annotations

import json
from typing import Any

import click
from tabulate import tabulate

from gateway.admission import find_way
from gateway.config import Settings
from gateway.errors import GatewayError, LedgerUnavailable
from gateway.ids import new_id
from gateway.keys.virtual_key import ANYBODY
from gateway.ledger.connection import connect
from gateway.ledger.model_store import ModelStore
from gateway.ledger.names import Names
from gateway.models_file import load_catalog
from gateway.routing.explanation import explanation
from gateway.routing.model_watch import ModelWatch
from gateway.routing.routing import Routing
from gateway.routing.share_board import ShareBoard
from gateway.schema.chat import parse_chat_request


@click.command("route")
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@click.option("--model", default="auto", help="What the client would name: auto, auto:POLICY, or a model.")
@click.option("--max-tokens", type=click.IntRange(1), help="The longest answer that it would allow.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as POST /v1/route answers.")
def route_command(prompts: tuple[str, ...], model: str, max_tokens: int | None, as_json: bool) -> None:
    """Show which model would answer PROMPT, why, and what it would cost; no model is called.

    Several prompts are the turns of one conversation, the oldest first.
    """
    settings = Settings.from_env()
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt} for prompt in prompts],
    }
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    routing = Routing.of(settings)
    _go_by_what_workers_know(settings, routing)
    try:
        asked = parse_chat_request(json.dumps(body).encode())
        policy = routing.policy_of(asked, ANYBODY, new_id())
        route, way = find_way(asked, load_catalog(settings), policy)
    except GatewayError as error:
        raise click.ClickException(error.message) from error
    told = explanation(asked, route, way.prompt_tokens)
    click.echo(json.dumps(told, indent=2) if as_json else _in_lines(told))


def _go_by_what_workers_know(settings: Settings, routing: Routing) -> None:
    """Score by the model that is live, and draw the lines as the workers do now."""
    client, names = (
        connect(settings.redis_url, settings.redis_timeout),
        Names(settings.redis_key_prefix),
    )
    try:
        ModelWatch(ModelStore(client, names), routing).poll()
        if routing.shares:
            ShareBoard(client, names, routing.shares, settings.routing_dollars_per_day).exchange()
    except LedgerUnavailable:
        click.echo("Redis cannot be reached: the gateway's own model and lines may differ.", err=True)


def _in_lines(told: dict[str, Any]) -> str:
    score, alternative = told["score"], told["alternative"]
    uncertainty = f" ± {told['uncertainty']:.2g}" if told["uncertainty"] is not None else ""
    facts = {
        "model": told["model"],
        "policy": told["policy"],
        "reason": told["reason"],
        "score": None if score is None else f"{score:.10g}{uncertainty}",
        "threshold": None if score is None else f"{told['threshold']:.10g}",
        "factors": "\n".join(f"{each['name']} {each['weight']:+.3f}" for each in told["factors"]) or None,
        "estimated cost": _usd(told["estimated_cost_usd"]),
        "for": f"{told['prompt_tokens']} tokens and {told['assumed_output_tokens']} of the answer",
        "instead": alternative and f"{alternative['model']}, {_usd(alternative['estimated_cost_usd'])}",
        "flips with": told["flips"],
    }
    rows = [(name, value) for name, value in facts.items() if value is not None]
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def _usd(amount: float) -> str:
    return "$" + f"{amount:.9f}".rstrip("0").rstrip(".")
