"""The command line: `flask router`, by which a policy is run again over what was, and learns from it."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
from flask.cli import AppGroup

from gateway.config import Settings
from gateway.keys.commands import REDIS_TIMEOUT_SECONDS, as_json_option, in_clear_words
from gateway.ledger.connection import connect
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.model_store import Models, ModelStore
from gateway.ledger.names import Names
from gateway.replay_text import gain_view, models_text, models_view, replay_text, replay_view
from gateway.routing.decision import Decision
from gateway.routing.difficulty import bundled
from gateway.routing.estimates import Estimate
from gateway.routing.learning import TooLittleFeedback, train
from gateway.routing.replay import Replayed, at_share, by_difficulty, by_length, by_trained, gain, replay
from gateway.routing.trained_model import TrainedModel

SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
POLICIES = ("prompt_length", "difficulty")  # that can be run again without a call of a model

router_commands = AppGroup(
    "router", help="What another way of routing would have done, and one that learns from your own traffic."
)


class Since(click.ParamType):  # type: ignore[type-arg]
    """A time so long ago, such as `7d`."""

    name = "7d"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"([0-9]{1,6})([mhdw])", str(value))
        if match is None:
            self.fail("say how long ago, such as 90m, 12h, 7d or 2w", param, ctx)
        return time.time() - int(match[1]) * SECONDS[match[2]]


since_option = click.option(
    "--since", type=Since(), default="30d", metavar="7d", help="Only decisions of so long ago at most."
)


@dataclass(frozen=True)
class Desk:
    """What the commands work on."""

    settings: Settings
    log: DecisionLog
    store: ModelStore

    @classmethod
    def from_env(cls) -> Desk:
        settings = Settings.from_env()
        client, names = (
            connect(settings.redis_url, REDIS_TIMEOUT_SECONDS),
            Names(settings.redis_key_prefix),
        )
        return cls(settings, DecisionLog(client, names), ModelStore(client, names))

    def decisions(self, since: float) -> list[Decision]:
        """
        :raises click.ClickException: where there are none
        """
        decisions = self.log.read(since)
        if not decisions:
            raise click.ClickException("There are no decisions of that time; see ROUTING_LOG_SIZE.")
        return decisions

    def usual(self, models: Models) -> tuple[str, Replayed]:
        """The policy that routes where nobody says otherwise, with its name."""
        if self.settings.routing_policy == "difficulty":
            return "difficulty", difficulty(models, "live", self.settings.routing_threshold_difficulty)
        return "prompt_length", by_length(self.settings.routing_threshold_chars)


@router_commands.command("show", with_appcontext=False)
@as_json_option
@in_clear_words
def show(as_json: bool) -> None:
    """Show what the log has, and which model of difficulty is live, which could be."""
    desk = Desk.from_env()
    view = models_view(desk.store.models(), desk.log.read())
    click.echo(json.dumps(view, indent=2) if as_json else models_text(view))


@router_commands.command("replay", with_appcontext=False)
@click.option("--policy", type=click.Choice(POLICIES), required=True, help="Which policy to run again.")
@click.option("--threshold", type=float, help="By default its own.")
@click.option(
    "--model",
    type=click.Choice(["live", "candidate", "bundled"]),
    help="Which model of difficulty; by default the live one.",
)
@since_option
@as_json_option
@in_clear_words
def replay_policy(
    policy: str, threshold: float | None, model: str | None, since: float, as_json: bool
) -> None:
    """Run a policy again over the log, for no calls of a model: its share of the dearer model, what that
    would have cost and been worth, and which requests would have gone elsewhere."""
    if threshold is not None and not math.isfinite(threshold):
        raise click.BadParameter("must be a number", param_hint="'--threshold'")
    if policy == "prompt_length" and model is not None:
        raise click.UsageError("'--model' is for the policy difficulty.")
    desk = Desk.from_env()
    decisions = desk.decisions(since)
    if policy == "prompt_length":
        replayed = by_length(desk.settings.routing_threshold_chars if threshold is None else threshold)
    else:
        if threshold is None and model != "candidate":
            threshold = desk.settings.routing_threshold_difficulty
        replayed = difficulty(desk.store.models(), model or "live", threshold)
    found = replay(decisions, replayed)
    if not found.requests:
        raise click.ClickException(NO_SIGNALS)
    view = replay_view(found)
    click.echo(json.dumps(view, indent=2) if as_json else replay_text(view))


@router_commands.command("train", with_appcontext=False)
@since_option
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    help="Of requests for the dearer model; by default that of the policy which routes now.",
)
@as_json_option
@in_clear_words
def train_candidate(since: float, share: float | None, as_json: bool) -> None:
    """Fit a model of difficulty to the feedback in the log, as the candidate that `promote` can put live. It
    takes some seconds for every thousand scores."""
    desk = Desk.from_env()
    decisions, models = desk.decisions(since), desk.store.models()
    name, usual = desk.usual(models)
    judged = [decision for decision in decisions if decision.signals]
    if not judged:
        raise click.ClickException(NO_SIGNALS)
    if share is None:
        share = replay(judged, usual).share or 0.0
    try:
        candidate = train(decisions, bundled(), share)
    except TooLittleFeedback as error:
        raise click.ClickException(f"Nothing can be learned yet: {error}.") from error
    desk.store.put_candidate(candidate)
    better = gain_of(decisions, candidate, usual)
    view = {
        "version": candidate.version,
        "trained_on": candidate.trained_on,
        "share": round(share, 4),
        "against": name,
        "gain": gain_view(better),
    }
    if as_json:
        click.echo(json.dumps(view, indent=2))
    else:
        click.echo(f"candidate {candidate.version}, learned from {candidate.trained_on} scores")
        click.echo(f"{share:.1%} of requests like these go to the dearer model")
        click.echo(f"against {name}: {in_words(better.low, better.high)}")


@router_commands.command("promote", with_appcontext=False)
@since_option
@as_json_option
@in_clear_words
def promote(since: float, as_json: bool) -> None:
    """Put the candidate live, if it is better than what routes now at the same share of the dearer model.

    The whole interval of the difference must be above zero. Of each decision it is judged by what it learned
    from others.
    """
    desk = Desk.from_env()
    models = desk.store.models()
    if models.candidate is None:
        raise click.ClickException("There is no candidate; train one first.")
    name, usual = desk.usual(models)
    better = gain_of(desk.decisions(since), models.candidate, usual)
    if better.value is None:
        raise click.ClickException(
            f"Not promoted: {better.never_tried:.1%} of the requests would go where none like them went, "
            "or nothing was scored. Set ROUTING_EXPLORE, and have answers scored."
        )
    if better.low is None or better.low <= 0:
        raise click.ClickException(f"Not promoted: against {name}, {in_words(better.low, better.high)}.")
    if not desk.store.promote(models.candidate, models.version):
        raise click.ClickException("Not promoted: the candidate or what is live has changed meanwhile.")
    view = {"live": models.candidate.version, "against": name, "gain": gain_view(better)}
    if as_json:
        click.echo(json.dumps(view, indent=2))
    else:
        click.echo(f"{models.candidate.version} is live: against {name} {in_words(better.low, better.high)}")
        if name != "difficulty":
            click.echo("Requests go by it where ROUTING_POLICY, a key or the request says difficulty.")


@router_commands.command("rollback", with_appcontext=False)
@as_json_option
@in_clear_words
def roll_back(as_json: bool) -> None:
    """Put live again what was before the last promotion."""
    desk = Desk.from_env()
    if not desk.store.roll_back():
        raise click.ClickException("There is nothing to go back to.")
    live = desk.store.models().live
    version = "bundled" if live is None else live.version
    click.echo(json.dumps({"live": version}) if as_json else f"{version} is live again")


NO_SIGNALS = (
    "The log has no signals, by which this policy goes: they are logged where the policy difficulty routes, "
    "and for all with ROUTING_LOG=features."
)


def difficulty(models: Models, which: str, threshold: float | None) -> Replayed:
    """The policy difficulty by one of the models.

    :raises click.ClickException: where there is no such model
    """
    if which == "candidate" and models.candidate is None:
        raise click.ClickException("There is no candidate; train one first.")
    trained = {"candidate": models.candidate, "live": models.live}.get(which)
    if trained is not None:
        return by_trained(trained, threshold)
    return by_difficulty(bundled(), bundled().threshold if threshold is None else threshold)


def gain_of(decisions: Sequence[Decision], candidate: TrainedModel, usual: Replayed) -> Estimate:
    """How much better the candidate would be than the usual policy, each with the share that it was trained
    for."""
    judged = [decision for decision in decisions if decision.signals]
    one, other = (at_share(judged, policy, candidate.share) for policy in (by_trained(candidate), usual))
    return gain(judged, one, other)


def in_words(low: float | None, high: float | None) -> str:
    """A difference between mean scores."""
    if low is None or high is None:
        return "the difference cannot be told"
    return f"{low:+.3f} to {high:+.3f} of the mean score"
