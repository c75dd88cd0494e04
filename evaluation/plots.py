"""Curves of quality over cost as SVG, for light and for dark pages."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "routing"})

INK = "#6e7781"
COLOURS = ("#57606a", "#0969da", "#1a7f37", "#cf222e", "#9a6700", "#8250df", "#bf3989")
PANEL = (4.2, 3.4)  # inches
POINT_SIZE = 7
# Matplotlib writes one colour; a page may be dark.
STYLE = """<style>
text { fill: #1f2328 !important }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 !important } }
</style>"""


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
            shown.setdefault(curve.name, _drawn(axes, curve, colours[curve.name]))
        _make_grey(axes)
    figure.supxlabel("cost, % of always asking the expensive model", fontsize=10)
    figure.supylabel("quality, % of the expensive model's", fontsize=10)
    figure.legend(
        shown.values(), shown.keys(), loc="outside upper center", ncols=4, frameon=False, fontsize=10
    )
    said = (
        f"{title}, in % of always asking the expensive model, for {', '.join(names)}; one panel for each of: "
    )
    return _standalone(figure, said + "; ".join(panel.title for panel in panels))


def _drawn(axes: Axes, curve: Curve, colour: str) -> Line2D:
    """The curve's first line, for the legend."""
    points = [(100 * cost, 100 * quality) for cost, quality in curve.points]
    if curve.is_line:
        costs, qualities = zip(*points, strict=True)
        return axes.plot(costs, qualities, color=colour, linewidth=1.6)[0]
    # Lines of no length with round ends: Matplotlib's markers refer to each other, which some viewers forbid.
    dots = [
        axes.plot([x, x], [y, y], color=colour, linewidth=POINT_SIZE, solid_capstyle="round")[0]
        for x, y in points
    ]
    return dots[0]


def _make_grey(axes: Axes) -> None:
    """Axes and grid in a grey that is seen on white as on black; no marks, for the same reason as above."""
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    axes.tick_params(left=False, bottom=False, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_color(INK)
        spine.set_visible(side in ("left", "bottom"))


def _standalone(figure: Figure, said: str) -> str:
    """The figure as SVG that says in words what it shows, the same for the same figure."""
    file = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    _, _, attributes = file.getvalue().partition("<svg ")
    text = f'<svg role="img" aria-label={quoteattr(said)} {attributes}'.replace(">", f">\n{STYLE}", 1)
    text = re.sub(r"font-family: 'DejaVu[^;\"]*", "font-family: system-ui, sans-serif", text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
