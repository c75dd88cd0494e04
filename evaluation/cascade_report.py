"""The cascades on all triples, as the tables and the plot of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.aims import cascade_aims
from evaluation.cascade_figures import RULES, curve, filtered_rules, outcomes_of, single_models
from evaluation.cascades import (
    TRIPLES,
    Question,
    answered,
    in_form,
    only,
    two_agree,
    two_of_three_agree,
)
from evaluation.difficulty import NAME, CrossValidated
from evaluation.plots import Curve, Panel, panels_svg
from evaluation.tables import cascade_table

PICTURE = "cascades.svg"
RECOMMENDED = "two of three agree"


def length(question: Question) -> float:
    return len(question.prompt)


def cascade_block(
    known: Mapping[str, Sequence[Question]], difficulty: CrossValidated, times: int
) -> tuple[str, dict[str, str]]:
    """(the page's block, its pictures by name)."""

    def hard(question: Question) -> float:
        return difficulty.score(question.prompt, question.stem)

    tables, panels = [], []
    for triple in TRIPLES:
        questions = answered(known[triple.benchmark], triple)
        singles = single_models(questions, triple)
        rules = RULES | filtered_rules({"length": length, NAME: hard}, questions)
        outcomes = outcomes_of(rules, questions, triple, times)
        if triple == TRIPLES[0]:
            best = next(outcome for outcome in outcomes if outcome.name == RECOMMENDED)
            tables.append(cascade_aims(f"{triple.benchmark}, {triple.name}, {RECOMMENDED}", best))
        tables.append(cascade_table(triple, singles, outcomes))
        first, last = singles[triple.cheap[0]], singles[triple.expensive]
        curves = [
            Curve("random mix", [first, last]),
            Curve("by length", curve(only(0), length, questions, triple)),
            Curve("by difficulty", curve(only(0), hard, questions, triple)),
            Curve("in the form, longest at once", curve(in_form, length, questions, triple)),
            Curve("two agree, longest at once", curve(two_agree, length, questions, triple)),
            Curve("two of three, longest at once", curve(two_of_three_agree, length, questions, triple)),
            Curve("one model alone", list(singles.values()), is_line=False),
        ]
        panels.append(Panel(f"{triple.benchmark}, {triple.name}", curves))
    picture = panels_svg("Quality over cost of the cascades", panels)
    return "\n\n".join([*tables, f"![The cascades' quality over cost]({PICTURE})"]), {PICTURE: picture}
