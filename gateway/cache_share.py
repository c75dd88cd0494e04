"""How much of a long prompt a model is likely to read from its provider's cache, by what has been stated of
others lately. It is for the bills that must be estimated: a long conversation costs a fraction of its full
price, and a stream that breaks off has not said so yet."""

from __future__ import annotations

from gateway.billing import Usage

SHORTEST_CACHED_PROMPT = 1024  # tokens; what is shorter no provider keeps
MEMORY = 0.98  # of each share at the next one, so that some fifty prompts count


class CacheShares:
    """The shares of all models of one worker, each by its provider's name for it."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[float, float]] = {}

    def note(self, upstream_name: str, usage: Usage) -> None:
        """Take note of a usage that a provider has stated; estimates teach nothing."""
        if usage.estimated or usage.input_tokens < SHORTEST_CACHED_PROMPT:
            return
        cached, prompt = self._tokens.get(upstream_name, (0.0, 0.0))
        self._tokens[upstream_name] = (
            cached * MEMORY + usage.cached_input_tokens,
            prompt * MEMORY + usage.input_tokens,
        )

    def likely_cached(self, upstream_name: str, prompt_tokens: int) -> int:
        """The tokens of a prompt that the model is likely to read from its cache; none as long as nothing has
        been stated of it."""
        cached, prompt = self._tokens.get(upstream_name, (0.0, 0.0))
        if not prompt or prompt_tokens < SHORTEST_CACHED_PROMPT:
            return 0
        return int(prompt_tokens * cached / prompt)
