"""The header X-Mock-Fault: which failure the caller asks for, and whether it is due.

A standing fault serves every request that has no such header by the same words.

    X-Mock-Fault: ITEM [, ITEM]...        (`;` separates as well)

A failure, at most one:

    status=400..599            that status; `retry_after=SECONDS` adds the header, and alone means 429
    connect_reset              the connection is reset, nothing is sent
    stall_before_first_byte    nothing is sent, then the connection closes
    stall_midstream            half of the answer, then silence, then the connection closes
    cut_midstream              half of the answer, then the connection closes
    cut_before_content         a 200 of which nothing comes but what a stream sends before its first token
    malformed_json             a 200 whose JSON is broken; in a stream, that of the middle event
    no_usage                   a whole answer that does not say its usage; it is billed all the same

The stalls last until the client leaves, at most 300 seconds or `=SECONDS`.

And, alone or beside it:

    slow=SECONDS               so much longer until the first token
    probability=0..1, p=0..1   how often the fault happens
    count=N                    only to the first N requests that carry this same header value
    id=TEXT                    nothing, but makes the header value another one for `count`
    model=NAME                 only at the mock of this name
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from model_server.errors import InvalidRequest

HEADER = "X-Mock-Fault"
MAX_SECONDS = 300.0
MAX_COUNTED_HEADERS = 1024


class Kind(StrEnum):
    """The failures that the mock can act out."""

    NONE = "none"
    STATUS = "status"
    RESET = "connect_reset"
    STALL_FIRST = "stall_before_first_byte"
    STALL_MIDSTREAM = "stall_midstream"
    CUT_MIDSTREAM = "cut_midstream"
    CUT_BEFORE_CONTENT = "cut_before_content"
    MALFORMED_JSON = "malformed_json"
    NO_USAGE = "no_usage"


FLAGS = {Kind.RESET, Kind.CUT_MIDSTREAM, Kind.CUT_BEFORE_CONTENT, Kind.MALFORMED_JSON, Kind.NO_USAGE}
STALLS = {Kind.STALL_FIRST, Kind.STALL_MIDSTREAM}


@dataclass(frozen=True)
class Fault:
    """What a request's header asks for; times are in seconds."""

    kind: Kind = Kind.NONE
    status: int = 429
    retry_after: int | None = None
    stall_seconds: float = MAX_SECONDS
    slow_seconds: float = 0.0
    probability: float = 1.0
    count: int | None = None
    model: str | None = None


NO_FAULT = Fault()


@dataclass
class StandingFault:
    """The fault of all requests that ask for none: its text, and how many came so far and were failed."""

    text: str
    fault: Fault
    seen: int = 0
    failed: int = 0


class Faults:
    """Decides for each request to `model` whether its fault is due; `random` gives numbers in [0, 1)."""

    def __init__(self, random: Callable[[], float], model: str = "") -> None:
        self._random = random
        self._model = model
        self._seen: OrderedDict[str, int] = OrderedDict()
        self.standing: StandingFault | None = None

    def stand(self, text: str) -> None:
        """Serve every request without a header of its own by this one, in place of an earlier one, its count
        begun anew; raise `InvalidRequest` if it is ill-formed."""
        self.standing = StandingFault(text, parse_fault(text))

    @property
    def standing_text(self) -> str | None:
        """The standing fault as it was set, None where there is none."""
        return None if self.standing is None else self.standing.text

    def end_standing(self) -> None:
        """Serve such requests without a fault again."""
        self.standing = None

    def draw(self, header: str | None) -> Fault:
        """The fault that a request with this header gets; raise `InvalidRequest` if it is ill-formed."""
        if header is not None and header.strip():
            fault = parse_fault(header)
            return fault if self._is_due(fault, lambda: self._times_seen(header)) else NO_FAULT
        if (standing := self.standing) is None:
            return NO_FAULT
        standing.seen += 1
        if not self._is_due(standing.fault, lambda: standing.seen):
            return NO_FAULT
        standing.failed += 1
        return standing.fault

    def _is_due(self, fault: Fault, times_seen: Callable[[], int]) -> bool:
        if fault.model not in (None, self._model):
            return False
        if fault.count is not None and times_seen() > fault.count:
            return False
        return self._random() < fault.probability

    def _times_seen(self, header: str) -> int:
        times = self._seen.pop(header, 0) + 1
        self._seen[header] = times
        if len(self._seen) > MAX_COUNTED_HEADERS:
            self._seen.popitem(last=False)
        return times


def parse_fault(header: str) -> Fault:
    """Read a header's value; raise `InvalidRequest` naming the item that is not understood."""
    fault = NO_FAULT
    for item in header.replace(";", ",").split(","):
        name, given, value = (part.strip() for part in item.partition("="))
        fault = _apply(fault, name, value if given else None, item.strip())
    if fault.retry_after is not None and fault.kind is Kind.NONE:
        fault = replace(fault, kind=Kind.STATUS)
    if fault.retry_after is not None and fault.kind is not Kind.STATUS:
        raise _refusal("retry_after", "goes with a status only")
    return fault


def _apply(fault: Fault, name: str, value: str | None, item: str) -> Fault:
    match name:
        case "status":
            return replace(_fail_with(fault, Kind.STATUS, item), status=_integer(value, item, 400, 599))
        case "retry_after":
            return replace(fault, retry_after=_integer(value, item, 0, 86_400))
        case "slow":
            return replace(fault, slow_seconds=_number(value, item, MAX_SECONDS))
        case "probability" | "p":
            return replace(fault, probability=_number(value, item, 1.0))
        case "count":
            return replace(fault, count=_integer(value, item, 0, 1_000_000_000))
        case "id" if value is not None:
            return fault
        case "model" if value:
            return replace(fault, model=value)
        case _ if name in FLAGS and value is None:
            return _fail_with(fault, Kind(name), item)
        case _ if name in STALLS:
            seconds = MAX_SECONDS if value is None else _number(value, item, MAX_SECONDS)
            return replace(_fail_with(fault, Kind(name), item), stall_seconds=seconds)
    raise _refusal(item, "is not a fault")


def _fail_with(fault: Fault, kind: Kind, item: str) -> Fault:
    if fault.kind is not Kind.NONE:
        raise _refusal(item, "comes on top of another failure")
    return replace(fault, kind=kind)


def _integer(value: str | None, item: str, low: int, high: int) -> int:
    if value is None or not (
        value.isascii() and value.isdigit() and len(value) <= 10 and low <= int(value) <= high
    ):
        raise _refusal(item, f"needs a whole number from {low} to {high}")
    return int(value)


def _number(value: str | None, item: str, high: float) -> float:
    try:
        number = float(value or "")
    except ValueError:
        number = math.nan
    if not 0 <= number <= high:
        raise _refusal(item, f"needs a number from 0 to {high:g}")
    return number


def _refusal(item: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{HEADER}: '{item}' {reason}.", HEADER)
