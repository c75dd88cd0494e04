"""What the provider would bill since it started: in all, and for each call that has an id."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal

from model_server.completion import Usage
from model_server.errors import UnknownCall
from model_server.profile import ModelProfile, Prices

PER_MILLION = -6
MAX_REMEMBERED_CALLS = 20_000
MAX_ID_CHARS = 128


def cost_usd(prices: Prices, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> Decimal:
    """The exact price in US dollars; the cached tokens are among the input tokens and cost less."""
    millionths = (
        (input_tokens - cached_input_tokens) * prices.input
        + cached_input_tokens * prices.cached_input
        + output_tokens * prices.output
    )
    return millionths.scaleb(PER_MILLION)


@dataclass
class Totals:
    """Sums of what was booked; `calls` are answers with 2xx."""

    calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0

    def cost_usd(self, prices: Prices) -> Decimal:
        """Their price in US dollars, exact."""
        return cost_usd(prices, self.input_tokens, self.cached_input_tokens, self.output_tokens)

    def to_json(self, head: dict[str, str], prices: Prices) -> str:
        """A JSON object that begins with `head`, the cost a number with all its digits."""
        counts = {
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "cached_input_tokens": self.cached_input_tokens,
            "output_tokens": self.output_tokens,
        }
        # `json` writes numbers from floats only, which would round.
        return f'{json.dumps(head | counts)[:-1]}, "cost_usd": {self.cost_usd(prices).normalize():f}}}'


@dataclass
class CallBill(Totals):
    """What was booked under one id, and how many requests in work may still add to it."""

    running: int = 0

    @property
    def state(self) -> str:
        """`ended` once nothing more will be booked here, else `running`."""
        return "running" if self.running else "ended"


class Ledger:
    """The running totals of one model, and the bills of its latest calls.

    Plain integers are safe: every request runs in a greenlet of the one worker process, and greenlets only
    change places where one waits, which none does between reading a total and writing it.
    """

    def __init__(self, profile: ModelProfile) -> None:
        self._profile = profile
        self._totals = Totals()
        self._bills: OrderedDict[str, CallBill] = OrderedDict()

    def open_call(self, call_id: str | None) -> "Call":
        """A request whose head has come; the bill under its client's id is known from here on.

        An id that is too long or is no printable ASCII is none. The oldest bill is forgotten first.
        """
        if not call_id or len(call_id) > MAX_ID_CHARS or not (call_id.isascii() and call_id.isprintable()):
            return Call(self._totals, CallBill())
        bill = self._bills.setdefault(call_id, CallBill())
        self._bills.move_to_end(call_id)
        if len(self._bills) > MAX_REMEMBERED_CALLS:
            self._bills.popitem(last=False)
        return Call(self._totals, bill)

    def to_json(self) -> str:
        """The totals as a JSON object."""
        return self._totals.to_json({"model": self._profile.name}, self._profile.prices)

    def bill_to_json(self, call_id: str) -> str:
        """What the totals hold of the calls with this id; raise `UnknownCall` where none is remembered."""
        bill = self._bills.get(call_id)
        if bill is None:
            raise UnknownCall(call_id)
        return bill.to_json({"id": call_id, "state": bill.state}, self._profile.prices)


class Call:
    """A request in work. All that it books goes into the totals and into its own bill at once."""

    def __init__(self, totals: Totals, bill: CallBill) -> None:
        self._books = (totals, bill)
        self._bill = bill
        self._ended = False
        bill.running += 1

    def bill(self, usage: Usage) -> None:
        """Book a whole answer."""
        self.count()
        self.book(usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)

    def open_stream(self, usage: Usage) -> "StreamBill":
        """The bill of a stream; it is booked as a call with its first chunk, its tokens when it ends."""
        return StreamBill(self, usage)

    def count(self) -> None:
        """Book that there is an answer."""
        for book in self._books:
            book.calls += 1

    def book(self, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> None:
        """Book tokens."""
        for book in self._books:
            book.input_tokens += input_tokens
            book.cached_input_tokens += cached_input_tokens
            book.output_tokens += output_tokens

    def end(self) -> None:
        """Say that nothing more will be booked; later calls change nothing."""
        if not self._ended:
            self._ended = True
            self._bill.running -= 1


class StreamBill:
    """The tokens of one stream, booked exactly once however it ends."""

    def __init__(self, call: Call, usage: Usage) -> None:
        self._call = call
        self._usage = usage
        self._settled = False
        self._begun = False
        self.output_tokens = 0

    def add(self, tokens: int) -> None:
        """Count the output tokens of a chunk that is being sent."""
        if not self._begun:
            self._begun = True
            self._call.count()
        self.output_tokens += tokens

    def settle(self) -> None:
        """Book the input and the output so far; later calls change nothing."""
        if self._settled:
            return
        self._settled = True
        self._call.book(self._usage.input_tokens, self._usage.cached_input_tokens, self.output_tokens)
