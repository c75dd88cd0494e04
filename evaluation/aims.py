"""What was wanted of the policies, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.cascade_figures import Outcome
from evaluation.data import TRAINABLE
from evaluation.figures import MACRO, Figures, difference
from tests.benchmarks.page import table

HEAD = ["wanted", "measured", "met"]
LEAST_MACRO = 0.57
LEAST_MMLU = 0.63
LEAST_QUALITY, MOST_COST = 0.99, 0.12


def policy_aims(figures: Mapping[str, Mapping[str, Figures]], policy: str, rivals: Sequence[str]) -> str:
    """Markdown: of one policy beside its rivals."""
    own = figures[policy]
    macro, mmlu = own[MACRO].apgr.value, own["mmlu-clean"].apgr.value
    below = [name for name in TRAINABLE if own[name].apgr.high < 0.5]
    rows = [
        _row(f"`{policy}`: macro APGR of at least {LEAST_MACRO}", f"{macro:.3f}", macro >= LEAST_MACRO),
        _row(f"`{policy}`: mmlu-clean of at least {LEAST_MMLU}", f"{mmlu:.3f}", mmlu >= LEAST_MMLU),
        _row(f"`{policy}`: no benchmark significantly below 0.5", ", ".join(below) or "none is", not below),
    ]
    for rival in rivals:
        above = difference(own[MACRO], figures[rival][MACRO])
        seen = f"{above.value:+.3f} ({above.low:+.3f} to {above.high:+.3f})"
        rows.append(_row(f"`{policy}`: above {rival} on the macro", seen, above.low > 0))
    return table(HEAD, rows)


def cascade_aims(name: str, recommended: Outcome) -> str:
    """Markdown: of the recommended cascade."""
    quality, cost = recommended.quality.value, recommended.cost.value
    wanted = (
        f"{name}: at least {LEAST_QUALITY:.0%} of the quality at no more than {MOST_COST:.0%} of the cost"
    )
    is_met = quality >= LEAST_QUALITY and cost <= MOST_COST
    return table(HEAD, [_row(wanted, f"{quality:.1%} at {cost:.1%}", is_met)])


def _row(wanted: str, seen: str, is_met: bool) -> list[str]:
    return [wanted, seen, "yes" if is_met else "no"]
