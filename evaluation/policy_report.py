"""The policies on all benchmarks, as the tables and the plot of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.aims import policy_aims
from evaluation.data import TRAINABLE, Outcome, by_pair
from evaluation.difficulty import NAME, PER_DOLLAR, CrossValidated
from evaluation.figures import CORNERS, MACRO, Figures, figures_of, macro, points
from evaluation.litellm_routers import litellm_routers
from evaluation.plots import Curve, Panel, panels_svg
from evaluation.policies import LENGTH, ORACLE, RANDOM, Policy
from evaluation.tables import (
    difference_table,
    pair_table,
    policy_tables,
    price_table,
    published_table,
)

PICTURE = "routing.svg"
# Policies that are compared by pair of models; a wider table cannot be read.
BY_PAIR = ("prompt_length", NAME, "LiteLLM heuristic", "LiteLLM heuristic_v2")
DRAWN = ("random", "prompt_length", NAME, PER_DOLLAR, "LiteLLM heuristic", "LiteLLM heuristic_v2", "oracle")


def policy_blocks(
    benchmarks: Mapping[str, Sequence[Outcome]], difficulty: CrossValidated, times: int
) -> tuple[dict[str, str], dict[str, str]]:
    """(the page's blocks, its pictures), each by name."""
    policies = [RANDOM, LENGTH, *difficulty.policies, *litellm_routers(), ORACLE]
    figures: dict[str, dict[str, Figures]] = {policy.name: {} for policy in policies}
    for name, outcomes in benchmarks.items():
        for policy_name, found in figures_of(policies, name, outcomes, times).items():
            figures[policy_name][name] = found
    for own in figures.values():
        own[MACRO] = macro([own[name] for name in TRAINABLE])
    compared = [policy for policy in policies if policy.name in BY_PAIR]
    pairs = {
        f"{name}: {pair.cheap} → {pair.expensive}": figures_of(compared, name, outcomes, times)
        for name in TRAINABLE
        for pair, outcomes in by_pair(benchmarks[name]).items()
        if len(by_pair(benchmarks[name])) > 1
    }
    rivals = [policy.name for policy in policies if policy.name.startswith("LiteLLM")]
    tables = [policy_aims(figures, NAME, rivals), policy_tables(figures), difference_table(figures, NAME)]
    models = {
        model
        for outcomes in benchmarks.values()
        for pair in by_pair(outcomes)
        for model in (pair.cheap, pair.expensive)
    }
    blocks = {
        "policies": "\n\n".join([*tables, pair_table(pairs), f"![Quality over cost]({PICTURE})"]),
        "published": published_table({name: figures[name] for name in figures if name in DRAWN}),
        "prices": price_table(sorted(models)),
    }
    drawn = [policy for policy in policies if policy.name in DRAWN]
    panels = [_panel(name, drawn, benchmarks[name]) for name in (*TRAINABLE, "alpaca-eval")]
    return blocks, {PICTURE: panels_svg("Quality over cost of the routing policies", panels)}


def _panel(name: str, policies: Sequence[Policy], outcomes: Sequence[Outcome]) -> Panel:
    shares = [step / CORNERS for step in range(CORNERS + 1)]
    return Panel(
        name,
        [
            Curve(
                policy.name,
                [(point.cost, point.quality) for point in points(policy.scores(outcomes), outcomes, shares)],
            )
            for policy in policies
        ],
    )
