"""What is translated to, and what translates back."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from gateway.billing import Usage
from gateway.errors import GatewayError


@dataclass(frozen=True)
class ChatTarget:
    """What a translation has to know of the model that gets the chat completion."""

    reasoning: bool  # takes `reasoning_effort`
    max_tokens_name: str  # `max_tokens` or `max_completion_tokens`


class Translator(Protocol):
    """Turns the answer to one translated request back into the client's dialect.

    `cost` is USD. A stream is one or more calls of `events`, then one of `end` or `error`.
    """

    def whole(self, completion: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        """The JSON body for a whole chat completion.

        :raises UpstreamError: for what cannot be read as one
        """
        ...

    def events(self, chunk: dict[str, Any]) -> bytes:
        """The server-sent events for one chunk; none where it says nothing to this client.

        :raises UpstreamError: for what cannot be read as a chunk
        """
        ...

    def end(self, usage: Usage, cost: Decimal) -> bytes:
        """The events that end a whole answer.

        :raises UpstreamError: where only now it shows that the answer is not whole
        """
        ...

    def error(self, error: GatewayError) -> bytes:
        """The events that end a broken one."""
        ...
