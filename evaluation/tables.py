"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evaluation.cascade_figures import Outcome
from evaluation.cascades import MODELS, Triple
from evaluation.data import TRAINABLE
from evaluation.figures import MACRO, Figures, Point, difference
from evaluation.metrics import Interval
from evaluation.prices import price_of
from tests.benchmarks.page import table

# A policy's figures by benchmark, by policy.
ByPolicy = Mapping[str, Mapping[str, Figures]]
COLUMNS = (*TRAINABLE, MACRO, "alpaca-eval")
# RouteLLM's, from its paper: CPT50, CPT80 and APGR on all of MMLU and all of GSM8K.
PUBLISHED = {
    "RouteLLM, BERT": ((41, 72, 0.572), (45, 79, 0.531)),
    "RouteLLM, causal LLM": ((35, 70, 0.600), (34, 63, 0.622)),
    "RouteLLM, matrix factorisation": ((35, 71, 0.597), (39, 73, 0.565)),
    "RouteLLM, similarity ranking": ((35, 72, 0.603), (41, 72, 0.568)),
}


def policy_tables(figures: ByPolicy) -> str:
    """APGR, CPT, and quality with cost, of every policy on every benchmark."""
    return "\n\n".join(
        [
            "APGR, with the 95 % interval of a bootstrap over the questions:",
            _of_policies(figures, lambda each: _with_interval(each.apgr)),
            "The same area over the share of the extra money instead of that of the calls:",
            _of_policies(figures, lambda each: f"{each.by_cost:.3f}"),
            "CPT50 / CPT80, the share of expensive calls, in %, that recovers so much of the gap:",
            _of_policies(figures, lambda each: f"{100 * each.cpt50:.0f} / {100 * each.cpt80:.0f}"),
            "With half of the calls to the cheap model, quality / cost in % of the expensive model's:",
            _of_policies(figures, lambda each: _point(each.half)),
        ]
    )


def difference_table(figures: ByPolicy, policy: str) -> str:
    """By how much a policy's macro APGR is above that of each other one."""
    own = figures[policy][MACRO]
    rows = [
        [name, _signed(difference(own, others[MACRO]))] for name, others in figures.items() if name != policy
    ]
    return table([f"macro APGR of `{policy}` less that of", "difference"], rows)


def pair_table(figures: Mapping[str, Mapping[str, Figures]]) -> str:
    """APGR of the policies on each pair of models: `figures` by "benchmark: pair", then by policy."""
    policies = list(next(iter(figures.values())))
    rows = [
        [name, *(_with_interval(each[policy].apgr) for policy in policies)] for name, each in figures.items()
    ]
    return table(["APGR by pair of models", *policies], rows)


def published_table(figures: ByPolicy) -> str:
    """Ours on the labels that RouteLLM published, under its own figures."""
    head = ["CPT50 / CPT80 / APGR", "MMLU", "GSM8K"]
    rows = [
        [name, *(f"{cpt50} / {cpt80} / {apgr:.3f}" for cpt50, cpt80, apgr in each)]
        for name, each in PUBLISHED.items()
    ]
    for name, each in figures.items():
        if {"mmlu", "gsm8k"} <= set(each):
            both = (each["mmlu"], each["gsm8k"])
            rows.append(
                [
                    name,
                    *(
                        f"{100 * one.cpt50:.0f} / {100 * one.cpt80:.0f} / {_with_interval(one.apgr)}"
                        for one in both
                    ),
                ]
            )
    return table(head, rows)


def cascade_table(
    triple: Triple, singles: Mapping[str, tuple[float, float]], outcomes: Sequence[Outcome]
) -> str:
    """The rules on one triple of cheap models, below its single models."""
    head = [
        f"{triple.benchmark}, {triple.name}: {', '.join(triple.cheap)} → {triple.expensive}",
        "quality",
        "cost",
        "calls",
        "asks the expensive one",
        "cost of a random mix as good",
        "pays",
    ]
    rows = [
        [f"{model} alone", f"{100 * good:.1f}", f"{100 * cost:.1f}", "1", "", "", ""]
        for model, (cost, good) in singles.items()
    ]
    rows += [
        [
            each.name,
            _percent(each.quality),
            _percent(each.cost),
            f"{each.calls:.2f}",
            f"{each.escalated:.1%}",
            "none is" if each.mix_cost == float("inf") else f"{100 * each.mix_cost:.1f}",
            each.verdict,
        ]
        for each in outcomes
    ]
    return table(head, rows)


def price_table(models: Sequence[str]) -> str:
    """USD per million tokens."""
    rows = [
        [model, f"{price_of(model).input:g}", f"{price_of(model).output:g}"]
        for model in sorted({model.removeprefix("meta-") for model in (*MODELS, *models)})
    ]
    return table(["USD per million tokens, September 2024", "input", "output"], rows)


def _of_policies(figures: ByPolicy, shown: Callable[[Figures], str]) -> str:
    rows = [
        [name, *(shown(each[column]) if column in each else "" for column in COLUMNS)]
        for name, each in figures.items()
    ]
    return table(["", *COLUMNS], rows)


def _with_interval(figure: Interval) -> str:
    if figure.low == figure.high:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _signed(figure: Interval) -> str:
    return f"{figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f})"


def _percent(figure: Interval) -> str:
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def _point(point: Point) -> str:
    return f"{100 * point.quality:.1f} / {100 * point.cost:.1f}"
