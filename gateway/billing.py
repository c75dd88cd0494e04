"""From a provider's `usage` to tokens and money.

Money is `Decimal` USD and exact until it reaches Redis or a client's JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeGuard

MILLION = Decimal(1_000_000)
MOST_TOKENS = 10**12  # no call has more; a larger figure is nonsense
MOST_USD = 10**6
CHARACTERS_PER_TOKEN = 4
# What a chat template adds, from OpenAI's cookbook "How to count tokens with tiktoken":
TOKENS_PER_MESSAGE = 3
TOKENS_PER_REPLY = 3


@dataclass(frozen=True)
class Usage:
    """Tokens of one call.

    `input_tokens` counts the whole prompt; `cached_input_tokens` is the part of it that the provider read
    from its cache, `cache_write_tokens` the part that it wrote there, `uncached_input_tokens` the rest.
    `output_tokens` counts all that was generated; `reasoning_tokens` is the part of it that the client does
    not see. `stated_cost` is the provider's own
    figure in USD, where it gives one. `estimated` says that the provider gave no figures and the tokens
    were counted from the characters sent and received.
    """

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cache_write_tokens: int = 0
    stated_cost: Decimal | None = None
    estimated: bool = False
    reasoning_tokens: int = 0

    @property
    def uncached_input_tokens(self) -> int:
        return self.input_tokens - self.cached_input_tokens - self.cache_write_tokens


class Price(Protocol):
    """What a provider charges."""

    def cost(self, usage: Usage) -> Decimal:
        """The charge in USD for the tokens of `usage`, exact."""
        ...


@dataclass(frozen=True)
class TokenPrice:
    """A price in USD per million tokens of each class; each token is in exactly one."""

    input: Decimal
    cached_input: Decimal
    output: Decimal
    cache_write: Decimal | None = None  # None: as dear as uncached input

    def cost(self, usage: Usage) -> Decimal:
        """The sum over the classes of tokens x price, over a million."""
        cache_write = self.input if self.cache_write is None else self.cache_write
        return (
            usage.uncached_input_tokens * self.input
            + usage.cached_input_tokens * self.cached_input
            + usage.cache_write_tokens * cache_write
            + usage.output_tokens * self.output
        ) / MILLION


def charge(price: Price, usage: Usage) -> Decimal:
    """What the provider will bill in USD: its own figure where it states one, else by its price."""
    return price.cost(usage) if usage.stated_cost is None else usage.stated_cost


def usage_stated(answer: Mapping[str, Any]) -> Usage | None:
    """The usage that a completion or chunk states, or None where it states none that makes sense.

    Providers differ in where they say it and in what their figures include:

    - OpenAI, Mistral, vLLM, Ollama, Azure: `usage`; cached tokens within `prompt_tokens`, reasoning within
      `completion_tokens`
    - DeepSeek: `prompt_cache_hit_tokens`; Moonshot: `cached_tokens` beside `prompt_tokens`
    - Groq: `x_groq.usage` in the last chunk; Moonshot: `choices[0].usage` there
    - xAI, Gemini: reasoning beside `completion_tokens`, told by a `total_tokens` larger than their sum
    - OpenRouter: `cost` in USD, with one's own key at the provider that provider's charge apart;
      Perplexity: `cost.total_cost`
    - OpenRouter and LiteLLM: tokens written to a cache
    """
    usage = _usage_object(answer)
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    details = _object(usage.get("prompt_tokens_details"))
    cached = _first_given(
        details.get("cached_tokens"),
        usage.get("prompt_cache_hit_tokens"),
        usage.get("cached_tokens"),
        usage.get("cache_read_input_tokens"),
    )
    written = _first_given(
        details.get("cache_write_tokens"),
        details.get("cache_creation_tokens"),
        usage.get("cache_creation_input_tokens"),
    )
    if not (_is_count(prompt) and _is_count(completion) and _is_count(cached) and _is_count(written)):
        return None
    cached = min(cached, prompt)
    total = usage.get("total_tokens")
    beside = total - prompt - completion if _is_count(total) else 0
    return Usage(
        input_tokens=prompt,
        cached_input_tokens=cached,
        output_tokens=completion + max(0, beside),
        cache_write_tokens=min(written, prompt - cached),
        stated_cost=_stated_cost(usage),
    )


def usage_estimated(prompt_texts: Sequence[str], output_characters: int) -> Usage:
    """The likely usage of a call whose provider stated none.

    `prompt_texts` holds the text of each message.
    """
    prompt = sum(TOKENS_PER_MESSAGE + estimated_tokens(len(text)) for text in prompt_texts)
    return Usage(prompt + TOKENS_PER_REPLY, 0, estimated_tokens(output_characters), estimated=True)


def estimated_tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def output_characters(choices: object) -> int:
    """Characters that were generated, in the `choices` of a completion or of a chunk."""
    total = 0
    for choice in choices if isinstance(choices, list) else ():
        content = choice.get("delta") or choice.get("message") if isinstance(choice, dict) else None
        if isinstance(content, dict):
            total += sum(len(text) for text in _generated_texts(content))
    return total


def _generated_texts(content: Mapping[str, Any]) -> list[str]:
    texts = [content.get(name) for name in ("content", "refusal", "reasoning_content")]
    calls = content.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            texts += [function.get("name"), function.get("arguments")]
    return [text for text in texts if isinstance(text, str)]


def _usage_object(answer: Mapping[str, Any]) -> dict[str, Any]:
    usage = _object(answer.get("usage")) or _object(_object(answer.get("x_groq")).get("usage"))
    if usage:
        return usage
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return _object(_object(first).get("usage"))


def _stated_cost(usage: Mapping[str, Any]) -> Decimal | None:
    cost = _money(usage.get("cost"))
    if cost is None:
        cost = _money(_object(usage.get("cost")).get("total_cost"))
    if cost is not None and usage.get("is_byok") is True:
        cost += _money(_object(usage.get("cost_details")).get("upstream_inference_cost")) or 0
    return cost


def _money(value: object) -> Decimal | None:
    """A JSON number as the decimal that it was written as."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_USD:
        return None
    return Decimal(str(value))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_given(*values: object) -> object:
    return next((value for value in values if value is not None), 0)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
