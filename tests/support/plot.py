"""Charts as SVG, for dark and for light pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 880, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 44, 48
BAR_LEFT, BAR_STEP = 210, 30
COLOURS = ("#0969da", "#1a7f37", "#9a6700", "#cf222e", "#8250df", "#57606a")
ROUND = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
STYLE = """<style>
    text { fill: #1f2328 } .small { font-size: 12px; fill: #57606a }
    .grid { stroke: #d0d7de } .mark { fill: #eaeef2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .small { fill: #9ea7b3 } .grid { stroke: #30363d } .mark { fill: #161b22 }
    }
  </style>"""


@dataclass(frozen=True)
class Line:
    """One line: its name, and its points from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(
    title: str, x_name: str, y_name: str, lines: Sequence[Line], *, shaded_until: float = 0
) -> str:
    """The chart's SVG. Both axes begin at 0; what is left of `shaded_until` is shaded."""
    x_top = _round_up(max((x for line in lines for x, _ in line.points), default=1))
    y_top = _round_up(max((y for line in lines for _, y in line.points), default=1))

    def x_at(x: float) -> float:
        return LEFT + x / x_top * (WIDTH - LEFT - RIGHT)

    def y_at(y: float) -> float:
        return HEIGHT - BOTTOM - y / y_top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="14" role="img" aria-label="{escape(title)}">',
        f"  {STYLE}",
        f'  <rect class="mark" x="{LEFT}" y="{TOP}" width="{x_at(shaded_until) - LEFT:.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}"/>',
        f'  <text x="{LEFT}" y="22" font-weight="600">{escape(title)}</text>',
    ]
    for step in range(6):
        x, y = x_top * step / 5, y_top * step / 5
        below = f'x="{x_at(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle"'
        beside = f'x="{LEFT - 8}" y="{y_at(y) + 4:.1f}" text-anchor="end"'
        parts += [
            f'  <path class="grid" d="M{LEFT} {y_at(y):.1f}H{WIDTH - RIGHT}"/>',
            f'  <text class="small" {beside}>{y:,.4g}</text>',
            f'  <text class="small" {below}>{x:,.5g}</text>',
        ]
    corner = f'x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end"'
    parts += [
        f'  <text class="small" x="{LEFT}" y="{TOP - 8}">{escape(y_name)}</text>',
        f'  <text class="small" {corner}>{escape(x_name)}</text>',
    ]
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        drawn = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in line.points)
        place = TOP + 12 + 20 * number
        parts += [
            f'  <polyline fill="none" stroke="{colour}" stroke-width="2" points="{drawn}"/>',
            f'  <path stroke="{colour}" stroke-width="3" d="M{WIDTH - RIGHT + 16} {place - 4}h20"/>',
            f'  <text x="{WIDTH - RIGHT + 42}" y="{place}">{escape(line.name)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _round_up(number: float) -> float:
    """The next round number."""
    if number <= 0:
        return 1
    size = 10.0 ** math.floor(math.log10(number))
    return next(size * step for step in ROUND if size * step >= number)


@dataclass(frozen=True)
class Bar:
    """One bar: its name, and how long it is."""

    name: str
    value: float


def bar_chart(title: str, unit: str, bars: Sequence[Bar]) -> str:
    """The SVG of bars below each other, each with its value; they begin at 0."""
    top = max((bar.value for bar in bars), default=0) or 1
    height = TOP + BAR_STEP * len(bars) + 12
    said = f"{title}, {unit}: " + ", ".join(f"{bar.name} {bar.value:,.0f}" for bar in bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" font-size="14" role="img" aria-label="{escape(said)}">',
        f"  {STYLE}",
        f'  <text x="12" y="22" font-weight="600">{escape(title)}</text>',
        f'  <text class="small" x="{WIDTH - 12}" y="22" text-anchor="end">{escape(unit)}</text>',
    ]
    for number, bar in enumerate(bars):
        y, length = TOP + BAR_STEP * number, bar.value / top * (WIDTH - BAR_LEFT - 80)
        parts += [
            f'  <text x="{BAR_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(bar.name)}</text>',
            f'  <rect x="{BAR_LEFT}" y="{y}" width="{length:.1f}" height="20" fill="{COLOURS[0]}"/>',
            f'  <text class="small" x="{BAR_LEFT + length + 8:.1f}" y="{y + 15}">{bar.value:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
