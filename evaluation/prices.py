"""What the models of the data cost in September 2024, when most of their answers were made.

USD per million input and output tokens. The figures of OpenAI, Anthropic, Google and DeepSeek are their own
(Gemini's from the cut announced on 24 September 2024, below 128,000 tokens of context); open weights have no
list price of their own, so that Together AI's by size of model stands for them, and Azure's for Phi-3.
"""

from __future__ import annotations

from dataclasses import dataclass

CHARACTERS_PER_TOKEN = 4
# An answer whose length the data does not tell: one letter.
LEAST_CHARACTERS = CHARACTERS_PER_TOKEN


@dataclass(frozen=True)
class Price:
    """USD per million tokens."""

    input: float
    output: float

    def of(self, prompt_characters: float, answer_characters: float) -> float:
        """USD for one call, with four characters to a token."""
        dearly = prompt_characters * self.input + answer_characters * self.output
        return dearly / CHARACTERS_PER_TOKEN / 1e6


PRICES = {
    "claude-3-5-sonnet-20240620": Price(3, 15),
    "claude-3-haiku-20240307": Price(0.25, 1.25),
    "claude-instant-1.2": Price(0.80, 2.40),
    "deepseek-v2.5-0908": Price(0.14, 0.28),
    "gemini-1.5-flash": Price(0.075, 0.30),
    "gemini-1.5-flash-002": Price(0.075, 0.30),
    "gemini-1.5-pro-002": Price(1.25, 5),
    "gpt-3.5-turbo-0125": Price(0.50, 1.50),
    "gpt-3.5-turbo-1106": Price(1, 2),
    "gpt-4-1106-preview": Price(10, 30),
    "gpt-4o-2024-05-13": Price(5, 15),
    "gpt-4o-2024-08-06": Price(2.50, 10),
    "gpt-4o-mini-2024-07-18": Price(0.15, 0.60),
    "llama-3.1-8b-instruct": Price(0.18, 0.18),
    "llama-3.1-70b-instruct": Price(0.88, 0.88),
    "mathstral-7b": Price(0.20, 0.20),
    "mixtral-8x7b-instruct-v0.1": Price(0.60, 0.60),
    "phi-3-mini-4k-instruct": Price(0.13, 0.52),
}


def price_of(model: str) -> Price:
    """:raises KeyError: where no price is known"""
    return PRICES[model.removeprefix("meta-")]
