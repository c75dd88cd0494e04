"""What the provider would bill since it started."""

import json
from decimal import Decimal

from model_server.completion import Usage
from model_server.profile import ModelProfile, Prices

PER_MILLION = -6


def cost_usd(prices: Prices, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> Decimal:
    """The exact price in US dollars; the cached tokens are among the input tokens and cost less."""
    millionths = (
        (input_tokens - cached_input_tokens) * prices.input
        + cached_input_tokens * prices.cached_input
        + output_tokens * prices.output
    )
    return millionths.scaleb(PER_MILLION)


class Ledger:
    """The running totals of one model.

    Plain integers are safe: every request runs in a greenlet of the one worker process, and greenlets only
    change places where one waits, which none does between reading a total and writing it.
    """

    def __init__(self, profile: ModelProfile) -> None:
        self._profile = profile
        self._calls = 0
        self._input_tokens = 0
        self._cached_input_tokens = 0
        self._output_tokens = 0

    def bill(self, usage: Usage) -> None:
        """Book a whole answer."""
        self._calls += 1
        self._book(usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)

    def open_stream(self, usage: Usage) -> "StreamBill":
        """The bill of a stream; it is booked as a call with its first chunk, its tokens when it ends."""
        return StreamBill(self, usage)

    def _book(self, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> None:
        self._input_tokens += input_tokens
        self._cached_input_tokens += cached_input_tokens
        self._output_tokens += output_tokens

    @property
    def cost_usd(self) -> Decimal:
        """The bill so far in US dollars, exact."""
        return cost_usd(
            self._profile.prices, self._input_tokens, self._cached_input_tokens, self._output_tokens
        )

    def to_json(self) -> str:
        """The totals as a JSON object, the cost a number with all its digits."""
        totals = json.dumps(
            {
                "model": self._profile.name,
                "calls": self._calls,
                "input_tokens": self._input_tokens,
                "cached_input_tokens": self._cached_input_tokens,
                "output_tokens": self._output_tokens,
            }
        )
        # `json` writes numbers from floats only, which would round.
        return f'{totals[:-1]}, "cost_usd": {self.cost_usd.normalize():f}}}'


class StreamBill:
    """The tokens of one stream, booked exactly once however it ends."""

    def __init__(self, ledger: Ledger, usage: Usage) -> None:
        self._ledger = ledger
        self._usage = usage
        self._settled = False
        self._begun = False
        self.output_tokens = 0

    def add(self, tokens: int) -> None:
        """Count the output tokens of a chunk that is being sent."""
        if not self._begun:
            self._begun = True
            self._ledger._calls += 1
        self.output_tokens += tokens

    def settle(self) -> None:
        """Book the input and the output so far; later calls change nothing."""
        if self._settled:
            return
        self._settled = True
        self._ledger._book(self._usage.input_tokens, self._usage.cached_input_tokens, self.output_tokens)
