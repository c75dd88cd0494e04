"""Where CPU goes: sampled call stacks, their shares by layer, and a flame graph of them.

Stacks are text as `py-spy record --format raw` writes it: a line each, the frames from the outermost to the
innermost as `function (file:line)` between semicolons, and then the number of samples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

# By layer, which files belong to it; the first that fits counts.
LAYERS: dict[str, str] = {
    "log": r"gateway/logs\.py|gateway/exchange\.py|^logging/|pythonjsonlogger",
    "ledger": r"gateway/ledger/|^redis/|^hiredis|_tally|outbox",
    "upstream client": r"gateway/(upstream|pool|attempt|transport|retries|headers)\w*\.py|gateway/upstream/"
    r"|^requests/|^urllib3/|^http/client|^geventhttpclient",
    "http server": r"gateway/(worker|master|client|client_socket|http\w*)\.py|gateway/http\w*/|^gunicorn",
    "Flask": r"^flask/|^werkzeug/|^jinja2/",
    "own path": r"^gateway/",
}
EVENT_LOOP = "event loop"
# Waits of idle threads of the pool, which py-spy takes for work.
WAITS = ("acquire_with_timeout (gevent/_threading.py)",)
COLOURS = {
    "log": "#bf8700",
    "ledger": "#8250df",
    "upstream client": "#0969da",
    "http server": "#1a7f37",
    "Flask": "#57606a",
    "own path": "#cf222e",
    EVENT_LOOP: "#6e7781",
}
FRAME = re.compile(r"(?P<function>.*) \((?P<file>.*?)(?::\d+)?\)$")
PACKAGES = re.compile(r".*/(?:site-packages|python3\.\d+)/")
WIDTH, ROW, TOP = 1200, 17, 64
NARROWEST = 1.0
CHARACTER = 6.4
STYLE = """<style>
    text { fill: #1f2328; font-size: 11px } .title { font-size: 15px; font-weight: 600 }
    .frame { fill: #fff } rect { stroke: #fff; stroke-width: 0.5 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } rect { stroke: #0d1117 }
    }
  </style>"""

Stack = tuple[str, ...]


def parsed(text: str, root: str) -> Counter[Stack]:
    """The samples of work by stack, frames as `function (file)`, files as below their package or `root`."""
    stacks: Counter[Stack] = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        stack = tuple(_without_place(frame, root) for frame in frames.split(";"))
        if frames and stack[-1] not in WAITS:
            stacks[stack] += int(count)
    return stacks


def _without_place(frame: str, root: str) -> str:
    found = FRAME.match(frame)
    if found is None:
        return frame
    file = PACKAGES.sub("", found["file"].removeprefix(root.rstrip("/") + "/"))
    return f"{found['function']} ({file})"


def layer_of(stack: Stack) -> str:
    """The layer of the innermost frame that belongs to any."""
    for frame in reversed(stack):
        file = frame.rpartition(" (")[2].rstrip(")")
        for layer, files in LAYERS.items():
            if re.search(files, file):
                return layer
    return EVENT_LOOP


def shares(stacks: Mapping[Stack, int]) -> dict[str, float]:
    """Of all samples, each layer's share, the largest first."""
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        counts[layer_of(stack)] += count
    total = counts.total()
    return {layer: count / total for layer, count in counts.most_common()}


def hottest(stacks: Mapping[Stack, int], count: int) -> list[tuple[str, float]]:
    """The functions in which most samples were taken themselves, with their shares."""
    own: Counter[str] = Counter()
    for stack, samples in stacks.items():
        own[stack[-1]] += samples
    return [(frame, samples / own.total()) for frame, samples in own.most_common(count)]


@dataclass
class Node:
    """A frame below another, and what is above it."""

    frame: str
    stack: Stack
    count: int = 0
    above: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True)
class Box:
    """A frame's place: pixels from the left, pixels wide, rows from the bottom."""

    node: Node
    left: float
    width: float
    row: int


def flame_graph(stacks: Mapping[Stack, int], title: str) -> str:
    """The SVG: what called is below what it called, as wide as the CPU that both took. Frames that all stacks
    begin with are left out."""
    root = _tree(_without_common(stacks))
    boxes = list(_boxes(root, 0, WIDTH / max(1, root.count), 0))
    height = TOP + ROW * (1 + max((box.row for box in boxes), default=0)) + 8
    told = ", ".join(f"{layer} {share:.0%}" for layer, share in shares(stacks).items())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="ui-monospace, monospace" role="img" aria-label="{escape(f"{title}: {told}")}">',
        f"  {STYLE}",
        f'  <text class="title" x="8" y="20">{escape(title)}</text>',
    ]
    left = 8.0
    for layer, share in shares(stacks).items():
        legend = f"{layer} {share:.0%}"
        parts += [
            f'  <rect x="{left:.0f}" y="32" width="12" height="12" fill="{COLOURS[layer]}"/>',
            f'  <text x="{left + 17:.0f}" y="42">{escape(legend)}</text>',
        ]
        left += 40 + CHARACTER * len(legend)
    for box in boxes:
        y = height - 8 - ROW * (box.row + 1)
        name, said = box.node.frame, f"{box.node.frame}, {box.node.count / max(1, root.count):.1%}"
        parts.append(
            f'  <g><title>{escape(said)}</title><rect x="{box.left:.1f}" y="{y}" width="{box.width:.1f}" '
            f'height="{ROW}" rx="1" fill="{COLOURS[layer_of(box.node.stack)]}"/>'
        )
        fitting = int(box.width / CHARACTER) - 1
        if fitting > 3:
            text = escape(name if len(name) <= fitting else name[: fitting - 1] + "…")
            parts.append(f'  <text class="frame" x="{box.left + 3:.1f}" y="{y + 12}">{text}</text>')
        parts.append("  </g>")
    return "\n".join([*parts, "</svg>", ""])


def _without_common(stacks: Mapping[Stack, int]) -> dict[Stack, int]:
    common = 0
    while len({stack[common : common + 1] for stack in stacks}) == 1 and all(
        len(stack) > common + 1 for stack in stacks
    ):
        common += 1
    return {stack[common:]: count for stack, count in stacks.items()}


def _tree(stacks: Mapping[Stack, int]) -> Node:
    root = Node("", ())
    for stack, count in stacks.items():
        root.count += count
        node = root
        for frame in stack:
            node = node.above.setdefault(frame, Node(frame, (*node.stack, frame)))
            node.count += count
    return root


def _boxes(node: Node, left: float, scale: float, row: int) -> Iterator[Box]:
    for child in _sorted(node.above.values()):
        width = child.count * scale
        if width >= NARROWEST:
            yield Box(child, left, width, row)
            yield from _boxes(child, left, scale, row + 1)
        left += width


def _sorted(nodes: Iterable[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: node.frame)
