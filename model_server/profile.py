"""What tells one mock model from another."""

from dataclasses import dataclass
from decimal import Decimal

MAX_OUTPUT_TOKENS = 4096


@dataclass(frozen=True)
class Prices:
    """US dollars per million tokens."""

    input: Decimal
    cached_input: Decimal
    output: Decimal


@dataclass(frozen=True)
class ModelProfile:
    """One mock model: its name, its prices, how long its answers are and how fast they come.

    `excerpt_chars` bounds, in characters, how much of the user's text an answer repeats;
    `max_output_tokens` what one choice may cost, whatever the request allows. The two latencies are in
    seconds and hold unless the settings say otherwise.
    """

    name: str
    prices: Prices
    excerpt_chars: int
    first_token_seconds: float
    token_interval_seconds: float
    max_output_tokens: int = MAX_OUTPUT_TOKENS
