"""What is known of providers by the hosts that they serve from; `models.toml` overrides it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.apis import Api

AUTHORIZATION = "Authorization"


@dataclass(frozen=True)
class ProviderHabits:
    """How a provider differs from a plain server of chat completions.

    `messages_key_header` is the header that carries its key in Anthropic's Messages, elsewhere always
    `Authorization`; `max_tokens_name` the field of a chat completion that bounds the answer.
    """

    apis: frozenset[Api] = frozenset({Api.CHAT_COMPLETIONS})
    messages_key_header: str = AUTHORIZATION
    max_tokens_name: str = "max_tokens"


PLAIN = ProviderHabits()
OPENAI = ProviderHabits(
    apis=frozenset({Api.CHAT_COMPLETIONS, Api.RESPONSES}), max_tokens_name="max_completion_tokens"
)
ANTHROPIC = ProviderHabits(
    apis=frozenset({Api.CHAT_COMPLETIONS, Api.MESSAGES}), messages_key_header="x-api-key"
)
BY_DOMAIN = {
    "api.openai.com": OPENAI,
    "openai.azure.com": OPENAI,
    "services.ai.azure.com": OPENAI,
    "api.anthropic.com": ANTHROPIC,
}


def habits_of(base_url: str) -> ProviderHabits:
    """The habits of the provider at this URL; those of a plain server where nothing else is known."""
    host = urlsplit(base_url).hostname or ""
    for domain, habits in BY_DOMAIN.items():
        if host == domain or host.endswith("." + domain):
            return habits
    return PLAIN
