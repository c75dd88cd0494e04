"""Which model answers a request, and why. Pure: no I/O, no state."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.catalog import Catalog, Model
from gateway.schema import AUTO, ChatRequest


@dataclass(frozen=True)
class Route:
    """A decision, with the policy that took it and its reason in words without any of the prompt."""

    model: Model
    policy: str
    reason: str


def choose(request: ChatRequest, catalog: Catalog, threshold_chars: int) -> Route:
    """The model that the client named, or else the one that the policy `prompt_length` chooses.

    :raises ModelNotFound: when the client named a model that is not configured
    """
    if request.model != AUTO:
        return Route(catalog.named(request.model), "requested", "the client named the model")
    return prompt_length(request.user_characters, catalog, threshold_chars)


def prompt_length(user_characters: int, catalog: Catalog, threshold_chars: int) -> Route:
    """Up to and including the threshold the cheap model, above it the expensive one."""
    if user_characters <= threshold_chars:
        model, reason = catalog.cheap, f"{user_characters} characters, at most {threshold_chars}"
    else:
        model, reason = catalog.expensive, f"{user_characters} characters, more than {threshold_chars}"
    return Route(model, "prompt_length", reason)
