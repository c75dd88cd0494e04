"""What a request can cost at most, so that a budget can put that much aside before the call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from gateway.apis import Api
from gateway.billing import MOST_TOKENS, OTHER_TIERS, Usage
from gateway.passage import Passage
from gateway.prices import Price
from gateway.schema.base import ModelRequest
from gateway.schema.whole_prompt import tokens_of_all_text

DEAR_TIERS = frozenset(OTHER_TIERS) - {"flex"}
MANY_TOKENS = 1_000_000  # by which the price of one is found out
# A cache's time to live as a JSON string, in each of its spellings.
AN_HOUR = re.compile(rb'"(?:1|\\u0031)(?:h|\\u0068)"')


@dataclass(slots=True)
class WorstCase:
    """The most that a request can cost in USD: its whole prompt, and `choices` answers of up to
    `max_output_tokens` each."""

    input_cost: Decimal
    usd_per_output_token: Decimal
    choices: int
    max_output_tokens: int

    @property
    def cost(self) -> Decimal:
        """With answers as long as they can be."""
        return self.cost_of(self.max_output_tokens)

    def cost_of(self, max_output_tokens: int) -> Decimal:
        """With answers of so many tokens each."""
        return self.input_cost + self.choices * max_output_tokens * self.usd_per_output_token

    def least(self, min_tokens: int) -> Decimal:
        """With answers of at least `min_tokens` each, or as long as they can be where that is less."""
        return self.cost_of(min(min_tokens, self.max_output_tokens))

    def affordable_tokens(self, usd: Decimal) -> int:
        """The most tokens that each answer can have for the whole to cost no more than `usd`; zero where even
        the prompt costs more."""
        if self.cost <= usd:
            return self.max_output_tokens
        left = usd - self.input_cost
        # Nothing but the prompt costs anything where the output is free, and that costs too much.
        return int(left // (self.choices * self.usd_per_output_token)) if left > 0 else 0


def worst_case(asked: ModelRequest, way: Passage) -> WorstCase:
    """What `asked` can cost at most on this way, at the price of now.

    The prompt counts as many tokens as the gateway estimates, or as all text in the body has where that is
    more, all of them in the dearest class that they can be charged in; each answer as many as the client or
    else the model allows. What cannot be bounded beforehand is not in it: the prompt's tokens beyond that (of
    large images, of audio, of files, of what the provider has kept of a conversation), searches and other
    tools that the provider runs and charges for, a tier of service that the provider's own settings choose,
    and charges that it states in dollars.
    """
    price, tier = way.model.price, _dear_tier(asked)
    whole_prompt = Usage(_most_prompt_tokens(way), 0, 0, service_tier=tier)
    uncached = price.cost(whole_prompt)
    if asked.api is Api.EMBEDDINGS:
        return WorstCase(uncached, Decimal(0), choices=1, max_output_tokens=0)
    with_audio = "audio" in asked.capabilities
    dearer = (
        price.cost(usage) for usage in _dearer_prompts(asked, whole_prompt.input_tokens, tier, with_audio)
    )
    limit = way.model.output_limit(way.prompt_tokens)  # the fewer, the longer the answer
    return WorstCase(
        input_cost=max(uncached, *dearer),
        usd_per_output_token=_usd_per_output_token(price, whole_prompt, uncached, with_audio),
        choices=min(asked.generated_choices, MOST_TOKENS),
        max_output_tokens=limit if asked.max_output_tokens is None else min(limit, asked.max_output_tokens),
    )


def _most_prompt_tokens(way: Passage) -> int:
    likely, text = way.prompt_tokens, tokens_of_all_text(way.prompt_values)
    window = way.model.context_window
    return max(likely, text if window is None else min(text, window))


def _dear_tier(asked: ModelRequest) -> str | None:
    """The tier of service that the client asks for, where that is dearer than the usual one."""
    tier = asked.body.values.get("service_tier")
    if isinstance(tier, str) and tier in DEAR_TIERS:
        return tier
    return "fast" if asked.body.values.get("speed") == "fast" else None


def _dearer_prompts(asked: ModelRequest, tokens: int, tier: str | None, with_audio: bool) -> Iterator[Usage]:
    """The whole prompt in each class that it may be charged in and that can be dearer than uncached text;
    what is read from a cache never is. Some providers write to their caches, and charge for it, unasked."""
    yield Usage(tokens, 0, 0, cache_write_tokens=tokens, service_tier=tier)
    if AN_HOUR.search(asked.body.raw):
        yield Usage(tokens, 0, 0, cache_write_tokens=tokens, cache_write_1h_tokens=tokens, service_tier=tier)
    if with_audio:
        yield Usage(tokens, 0, 0, input_audio_tokens=tokens, service_tier=tier)


def _usd_per_output_token(price: Price, whole_prompt: Usage, uncached: Decimal, with_audio: bool) -> Decimal:
    """Behind this prompt, since a long one can make also the answer dearer."""
    tokens, tier = whole_prompt.input_tokens, whole_prompt.service_tier
    answers = [Usage(tokens, 0, MANY_TOKENS, service_tier=tier)]
    if with_audio:
        answers.append(Usage(tokens, 0, MANY_TOKENS, output_audio_tokens=MANY_TOKENS, service_tier=tier))
    return (max(map(price.cost, answers)) - uncached) / MANY_TOKENS
