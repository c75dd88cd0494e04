"""Curves of quality over cost as SVG, for light and for dark pages."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "routing", "font.family": "sans-serif"})

INK = "#6e7781"
COLOURS = ("#57606a", "#0969da", "#1a7f37", "#cf222e", "#9a6700", "#8250df", "#bf3989")
PANEL = (4.2, 3.4)
# Matplotlib writes one colour; a page may be dark.
STYLE = """<style>
text { fill: #1f2328 !important } .tick text, #legend text { fill: #57606a !important }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 !important } }
</style>
"""


@dataclass(frozen=True)
class Curve:
    """A named line, or single points where `is_line` is not set: (cost, quality), as parts of those of always
    asking the expensive model."""

    name: str
    points: Sequence[tuple[float, float]]
    is_line: bool = True


@dataclass(frozen=True)
class Panel:
    """One of several charts beside each other."""

    title: str
    curves: Sequence[Curve]


def panels_svg(title: str, panels: Sequence[Panel], columns: int = 3) -> str:
    """The panels in rows; the same name has the same colour in all of them."""
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + 0.6), layout="constrained")
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    shown: dict[str, Line2D] = {}
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_title(panel.title, fontsize=11)
        for curve in panel.curves:
            costs, qualities = zip(*curve.points, strict=True)
            form = {"linewidth": 1.6} if curve.is_line else {"linestyle": "", "marker": "o", "markersize": 6}
            (drawn,) = axes.plot(
                [100 * cost for cost in costs],
                [100 * quality for quality in qualities],
                color=colours[curve.name],
                **form,
            )
            shown.setdefault(curve.name, drawn)
        _grey(axes)
    figure.supxlabel("cost, % of always asking the expensive model", fontsize=10)
    figure.supylabel("quality, % of the expensive model's", fontsize=10)
    figure.legend(
        shown.values(), shown.keys(), loc="outside upper center", ncols=4, frameon=False, fontsize=10
    )
    file = io.StringIO()
    figure.savefig(
        file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Title": title}
    )
    _, opening, rest = file.getvalue().partition("<svg ")
    attributes, end, body = rest.partition(">")
    return (
        "\n".join(line.rstrip() for line in f"{opening}{attributes}{end}\n{STYLE}{body}".splitlines()) + "\n"
    )


def _grey(axes: matplotlib.axes.Axes) -> None:
    """Axes, marks and grid in a grey that is seen on white as on black."""
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    axes.tick_params(colors=INK, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ("left", "bottom"))
