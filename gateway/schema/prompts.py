"""Requests whose whole input is a prompt: legacy completions and embeddings.

A prompt is a text, a list of texts, a list of token ids, or a list of such lists.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from gateway.apis import Api
from gateway.errors import InvalidRequest
from gateway.schema.base import (
    ModelRequest,
    check_integer,
    check_model_and_stream,
    parse_body,
    require,
    tokens_of_text,
)


@dataclass(frozen=True)
class CompletionRequest(ModelRequest):
    """A legacy completion that a client asked for, checked and ready to route."""

    api: ClassVar[Api] = Api.COMPLETIONS
    limit_names: ClassVar[tuple[str, ...]] = ("max_tokens",)
    prompt_name: ClassVar[str] = "prompt"

    @cached_property
    def user_texts(self) -> list[str]:
        return [prompt for prompt in self._prompts if isinstance(prompt, str)]

    @cached_property
    def prompt_tokens(self) -> int:
        return sum(_tokens_of(prompt) for prompt in self._prompts)

    @property
    def choices(self) -> int:
        return self._of_each_prompt("n")

    @property
    def generated_choices(self) -> int:
        return max(self._of_each_prompt("n"), self._of_each_prompt("best_of"))

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({"streaming"} if self.stream else ())

    def _of_each_prompt(self, name: str) -> int:
        return max(1, len(self._prompts)) * (self.body.values.get(name) or 1)

    @property
    def _prompts(self) -> list[Any]:
        return _prompts_of(self.body.values.get(self.prompt_name))


@dataclass(frozen=True)
class EmbeddingRequest(CompletionRequest):
    """Embeddings that a client asked for, checked and ready to route."""

    api: ClassVar[Api] = Api.EMBEDDINGS
    limit_names: ClassVar[tuple[str, ...]] = ()  # nothing is generated
    prompt_name: ClassVar[str] = "input"

    @property
    def stream(self) -> bool:
        return False

    def _of_each_prompt(self, name: str) -> int:
        return 1  # whatever `n` says: it is none of this API's


def parse_completion_request(body: bytes) -> CompletionRequest:
    """
    :raises InvalidRequest: with the field at fault in `param`
    """
    parsed = parse_body(body)
    _check_prompt(parsed.values.get("prompt"), "prompt")
    check_model_and_stream(parsed.values)
    check_integer(parsed.values, "n", least=1)
    check_integer(parsed.values, "best_of", least=1)
    check_integer(parsed.values, "max_tokens", least=0)  # to have but the prompt's probabilities
    return CompletionRequest(parsed)


def parse_embedding_request(body: bytes) -> EmbeddingRequest:
    """
    :raises InvalidRequest: with the field at fault in `param`
    """
    parsed = parse_body(body)
    require(parsed, "input")
    if parsed.values["input"] in (None, "", []):
        raise InvalidRequest("'input' must not be empty.", param="input")
    _check_prompt(parsed.values["input"], "input")
    check_model_and_stream(parsed.values)
    return EmbeddingRequest(parsed)


def _check_prompt(prompt: object, name: str) -> None:
    if prompt is None or isinstance(prompt, str):
        return
    if not isinstance(prompt, list) or not all(isinstance(item, str | int | list) for item in prompt):
        raise InvalidRequest(f"'{name}' must be a text, token ids, or a list of these.", param=name)


def _prompts_of(prompt: object) -> list[Any]:
    """Each text or list of token ids."""
    if isinstance(prompt, list) and not all(isinstance(item, int) for item in prompt):
        return prompt
    return [] if prompt is None else [prompt]


def _tokens_of(prompt: object) -> int:
    return len(prompt) if isinstance(prompt, list) else tokens_of_text(prompt)
