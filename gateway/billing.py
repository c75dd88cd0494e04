"""From a provider's `usage` to tokens and money: the one place that computes either.

Money is `Decimal` USD throughout and exact; it becomes a float only inside Redis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeGuard

MILLION = Decimal(1_000_000)
MOST_TOKENS = 10**12  # no call has more; a larger figure is nonsense
CHARACTERS_PER_TOKEN = 4
# What a chat template adds, from OpenAI's cookbook "How to count tokens with tiktoken":
TOKENS_PER_MESSAGE = 3
TOKENS_PER_REPLY = 3


@dataclass(frozen=True)
class Usage:
    """Tokens of one call.

    `input_tokens` counts the whole prompt, `cached_input_tokens` the part of it that the provider
    read from its cache, `output_tokens` all that it generated. `estimated` says that the provider
    gave no figures and they were counted from the characters sent and received.
    """

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    estimated: bool = False


class Price(Protocol):
    """What a provider charges."""

    def cost(self, usage: Usage) -> Decimal:
        """The charge in USD for `usage`, exact."""
        ...


@dataclass(frozen=True)
class TokenPrice:
    """A price in USD per million tokens of each class."""

    input: Decimal
    cached_input: Decimal
    output: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """uncached input x input + cached input x cached_input + output x output, over a million."""
        uncached = usage.input_tokens - usage.cached_input_tokens
        return (
            uncached * self.input
            + usage.cached_input_tokens * self.cached_input
            + usage.output_tokens * self.output
        ) / MILLION


def usage_stated(answer: Mapping[str, Any]) -> Usage | None:
    """The usage that a completion or chunk states, or None where it states none that makes sense."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    input_tokens, output_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    cached = 0 if cached is None else cached
    if not (_is_count(input_tokens) and _is_count(output_tokens) and _is_count(cached)):
        return None
    return Usage(input_tokens, min(cached, input_tokens), output_tokens)


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


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS
