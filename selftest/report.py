"""What a run came to, for people as a table and for machines as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from selftest.verdicts import Outcome, Verdict

STYLES = {Outcome.HOLDS: "green", Outcome.BROKEN: "bold red", Outcome.NOT_TRIED: "yellow"}
NAMES = {Outcome.HOLDS: "holds", Outcome.BROKEN: "does_not_hold", Outcome.NOT_TRIED: "not_tried"}
# Where the width of the screen is not known, as in a pipe.
USUAL_WIDTH = 118


def holds(verdicts: Sequence[Verdict]) -> bool:
    """Whether no promise is broken, and one at least was tried."""
    outcomes = [verdict.outcome for verdict in verdicts]
    return Outcome.BROKEN not in outcomes and Outcome.HOLDS in outcomes


def print_table(verdicts: Sequence[Verdict], seconds: float) -> None:
    """Print the table of promises, and one line that sums it up, to standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = USUAL_WIDTH
    table = Table(box=box.HORIZONTALS, show_lines=True, expand=True)
    table.add_column("promise", ratio=5)
    table.add_column("tried", ratio=5)
    table.add_column("times", justify="right")
    table.add_column("seen", ratio=6)
    table.add_column("", no_wrap=True)
    for verdict in verdicts:
        table.add_row(
            Text.assemble((verdict.promise.name, "bold"), f"\n{verdict.promise.text}"),
            verdict.promise.tried,
            str(verdict.times) if verdict.times else "",
            Text(verdict.seen),
            Text(verdict.outcome, style=STYLES[verdict.outcome]),
        )
    console.print(table)
    console.print(Text(summary(verdicts, seconds), style="bold"))


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    """The run in one line."""
    count = {outcome: sum(verdict.outcome is outcome for verdict in verdicts) for outcome in Outcome}
    parts = [f"{count[Outcome.HOLDS]} of {len(verdicts)} promises hold"]
    if broken := [verdict.promise.name for verdict in verdicts if verdict.outcome is Outcome.BROKEN]:
        parts.append(f"{len(broken)} DO NOT HOLD ({', '.join(broken)})")
    if count[Outcome.NOT_TRIED]:
        parts.append(f"{count[Outcome.NOT_TRIED]} not tried")
    return f"{', '.join(parts)}; {seconds:.0f} s."


def as_json(verdicts: Sequence[Verdict], seconds: float) -> str:
    """The same as a JSON object."""
    promises = [
        {
            "name": verdict.promise.name,
            "promise": verdict.promise.text,
            "tried": verdict.promise.tried,
            "times": verdict.times,
            "seen": verdict.seen,
            "verdict": NAMES[verdict.outcome],
            "seconds": round(verdict.seconds, 1),
        }
        for verdict in verdicts
    ]
    return json.dumps(
        {"holds": holds(verdicts), "seconds": round(seconds, 1), "promises": promises}, indent=2
    )
