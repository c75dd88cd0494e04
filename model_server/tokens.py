"""The mock's tokenizer: four characters (Unicode code points) are one token."""

import json

CHARS_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 3
TOKENS_PER_REQUEST = 3
TOKENS_PER_IMAGE = 85
CACHE_MINIMUM_TOKENS = 1024
CACHE_BLOCK_TOKENS = 128
# A text of more tokens comes in pieces of several, so that its stream takes no longer.
MAX_PIECES = 128


def count_text(text: str) -> int:
    """Tokens of a text, a started token counting whole; 0 for the empty text."""
    return -(-len(text) // CHARS_PER_TOKEN)


def count_json(value: object) -> int:
    """Tokens of a JSON value, written compactly."""
    return count_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def split_text(text: str) -> list[str]:
    """A text in at most `MAX_PIECES` pieces of whole tokens, one token each where that is enough."""
    size = CHARS_PER_TOKEN * max(1, -(-count_text(text) // MAX_PIECES))
    return [text[i : i + size] for i in range(0, len(text), size)]


def cut_text(text: str, limit: int) -> str:
    """The first `limit` tokens of a text."""
    return text[: limit * CHARS_PER_TOKEN]


def warm_prefix(prompt_tokens: int, prefix_tokens: int) -> int:
    """How many prompt tokens a warm cache would hold.

    A stand-in for a provider's prefix cache that does not depend on what came before: prompts below the
    cache's minimum are never cached, of others everything before the last message is, in whole blocks.
    """
    if prompt_tokens < CACHE_MINIMUM_TOKENS:
        return 0
    return prefix_tokens - prefix_tokens % CACHE_BLOCK_TOKENS
