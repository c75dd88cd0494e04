"""The HTTP APIs of models: the dialects that clients speak to the gateway and the gateway to providers."""

from __future__ import annotations

from enum import StrEnum


class Api(StrEnum):
    """One API, by the name that `models.toml` has for it."""

    CHAT_COMPLETIONS = "chat_completions"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
    COMPLETIONS = "completions"

    @property
    def path(self) -> str:
        """Where it is found below a base URL."""
        return "/chat/completions" if self is Api.CHAT_COMPLETIONS else f"/{self.value}"


# A model whose provider does not speak these itself is asked by a chat completion.
TRANSLATED = frozenset({Api.RESPONSES, Api.MESSAGES})
