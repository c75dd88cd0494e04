"""The fault matrix of docs/reliability.md: what is promised there of each fault, cell by cell."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from tests.support.stack import LONG, SHORT

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEADING = "| fault | asked | times | broken | calls | the client gets | bill | seconds |"
REFUSED = "connection refused"
TIMES = ("1", "2", "always")
BROKEN = {"cheap": "CheapModel", "dear": "ExpensiveModel", "both": None}
LETTERS = {"C": "CheapModel", "E": "ExpensiveModel"}
OWN_WORDS = "✗ in the provider's words"


@dataclass(frozen=True)
class Promise:
    """What has to come of a request: its calls as pairs of model and status, the status and the error code
    that the client gets (the latter in an event where the former is 200), millionths of a dollar and seconds,
    each from the least to the most."""

    calls: tuple[tuple[str, int], ...]
    status: int
    code: str | None
    in_providers_words: bool
    bill: tuple[Decimal, Decimal]
    seconds: tuple[float, float]

    @property
    def is_gateways_error(self) -> bool:
        """Whether the client gets an error status of the gateway's own."""
        return self.status != 200 and not self.in_providers_words

    @property
    def retries(self) -> int:
        """How many of the calls are further ones of the same model."""
        return len(self.calls) - len({model for model, _ in self.calls})


@dataclass(frozen=True)
class Cell:
    """A fault that meets the first, the first two or all calls of a request at one model or at both."""

    fault: str
    streamed: bool
    times: str
    broken: str
    promise: Promise

    @property
    def id(self) -> str:
        asked = "streamed" if self.streamed else "plain"
        return re.sub(r"[^A-Za-z0-9=_-]+", "_", f"{self.fault}-{asked}-{self.times}-{self.broken}")

    @property
    def content(self) -> str:
        """A prompt that goes to the broken model first."""
        return LONG if self.broken == "dear" else SHORT

    def fault_header(self, request_id: str) -> str | None:
        """`X-Mock-Fault`, unlike that of any other request, so that each has a count of its own."""
        if self.fault == REFUSED:
            return None
        items = [self.fault, f"id={request_id}"]
        if self.times != "always":
            items.append(f"count={self.times}")
        if model := BROKEN[self.broken]:
            items.append(f"model={model}")
        return ",".join(items)


def read_matrix(page: str) -> list[Cell]:
    """All cells of the table on the page."""
    table = page.partition(HEADING)[2].partition("\n\n")[0]
    return [cell for line in table.strip().splitlines()[1:] for cell in _cells_of(line)]


def _cells_of(line: str) -> list[Cell]:
    faults, asked, times, broken, calls, gets, bill, seconds = (
        part.strip() for part in line.strip("|").split(" | ")
    )
    return [
        Cell(fault, way == "streamed", each, at, _promise(fault, calls, gets, bill, seconds))
        for fault, way, each, at in itertools.product(
            [REFUSED] if faults == REFUSED else re.findall(r"`([^`]+)`", faults),
            asked.split(", "),
            times.split(", "),
            broken.split(", "),
        )
    ]


def _promise(fault: str, calls: str, gets: str, bill: str, seconds: str) -> Promise:
    """✗ is the status that the fault names, 502 where it names none."""
    named = re.match(r"status=(\d+)", fault)
    own = named[1] if named else "502"
    status, _, code = gets.replace("✗", own).partition(" ")
    words = gets == OWN_WORDS
    usd, within = bill.split(" to "), seconds.split(" to ")
    return Promise(
        calls=tuple(call for text in calls.split(", ") for call in _calls(text.replace("✗", own))),
        status=int(status.strip(",")),
        code=None if words or not code else code.removeprefix("then ").strip("`"),
        in_providers_words=words,
        bill=(Decimal(usd[0]), Decimal(usd[-1])),
        seconds=(float(within[0]), float(within[-1])),
    )


def _calls(text: str) -> list[tuple[str, int]]:
    match = re.fullmatch(r"(?:(\d) x )?([CE]) (\d{3})", text)
    assert match is not None, text
    return [(LETTERS[match[2]], int(match[3]))] * int(match[1] or 1)
