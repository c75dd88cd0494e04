"""How a request reaches a model's provider and how the answer comes back: unchanged where the provider
serves the client's API, translated to a chat completion and back where it does not."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from gateway.answers import StreamReader
from gateway.apis import Api
from gateway.billing import Usage, usage_estimated
from gateway.cache_share import CacheShares
from gateway.catalog import Model
from gateway.error_shapes import error_event
from gateway.errors import GatewayError, UpstreamError
from gateway.jsontext import JsonObject
from gateway.prices import charge
from gateway.redaction import holds_key
from gateway.schema.base import ModelRequest
from gateway.schema.chat import ChatRequest
from gateway.sse import DONE, Event, event_of
from gateway.translation.messages_answer import MessagesTranslator
from gateway.translation.messages_request import chat_from_messages
from gateway.translation.responses_answer import ResponsesTranslator
from gateway.translation.responses_request import LOGPROBS, chat_from_responses
from gateway.translation.target import ChatTarget, Translator
from gateway.usage_cost import place_of_usage, with_cost
from gateway.whole_events import events_of_message, events_of_response


class Passage(ABC):
    """One request to one model. `api` is what its provider is asked by, `body` what it is sent."""

    api: Api
    body: bytes
    choices = 1  # that a whole answer has

    def __init__(self, model: Model, cache_shares: CacheShares, *, stream: bool) -> None:
        self.model = model
        self.stream = stream  # whether the provider is asked for one
        self.is_held = False  # whether the answer is to be checked before the client gets it
        self.is_limited = False  # the answer, to fewer tokens than the client wants
        self.hides_probabilities = False  # which the client has not asked for
        self.spent_before = Decimal(0)  # USD, for other calls of the same request
        self._cache_shares = cache_shares

    def estimate(self, output_characters: int) -> Usage:
        """The likely usage of this call, so many characters having been generated for it."""
        prompt_tokens = self.prompt_tokens
        cached = self._cache_shares.likely_cached(self.model.upstream_name, prompt_tokens)
        return usage_estimated(prompt_tokens, output_characters, cached)

    def limit_output(self, max_output_tokens: int) -> None:
        """Have `body` ask the provider for at most so many tokens in each answer; a lower limit of the
        client's stays."""
        self.is_limited = True
        self._limit_output(max_output_tokens)

    @abstractmethod
    def _limit_output(self, max_output_tokens: int) -> None: ...

    def hold(self) -> None:
        """Have `body` ask for a whole answer, also where the client wants a stream, since it is to be checked
        before the client gets it."""
        self.stream, self.is_held = False, True

    @abstractmethod
    def ask_probabilities(self) -> None:
        """Have `body` ask for the probabilities of the answer's tokens, unless the client does so itself, or
        the API has none. The client is not to get them."""

    def learn(self, usage: Usage) -> None:
        """Take note of what this call was billed for, for later estimates."""
        self._cache_shares.note(self.model.upstream_name, usage)

    @property
    @abstractmethod
    def prompt_tokens(self) -> int:
        """The likely tokens of what the provider is sent."""

    @property
    @abstractmethod
    def prompt_values(self) -> Mapping[str, Any]:
        """The values of the body that the provider is sent, as far as they can be part of its prompt."""

    @abstractmethod
    def whole(self, body: bytes, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        """The client's body for a whole answer, given as its bytes and their values.

        :raises UpstreamError: for an answer that cannot be translated
        """

    @abstractmethod
    def streamed(self, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        """The client's events for a whole answer, which the provider gave although a stream was asked for.

        :raises UpstreamError: where that cannot be told by events
        """

    @abstractmethod
    def pass_on(self, event: Event, reader: StreamReader) -> bytes:
        """What the client gets for one event of the provider, which `reader` has just read.

        :raises UpstreamError: for an event that cannot be translated
        """

    @abstractmethod
    def end(self, usage: Usage, cost: Decimal) -> bytes:
        """What the client gets behind the last event of a whole answer.

        :raises UpstreamError: where the answer turns out not to be whole after all
        """

    @abstractmethod
    def error(self, error: GatewayError) -> bytes:
        """The event that ends a stream whose status line has already been sent."""


def passage(request: ModelRequest, model: Model, cache_shares: CacheShares | None = None) -> Passage:
    """The way of `request` to `model`.

    :raises InvalidRequest: for what the translation that it takes cannot translate
    """
    shares = CacheShares() if cache_shares is None else cache_shares
    if request.api in model.apis:
        return PassThrough(request, model, shares)
    return Translated(request, model, shares)


class PassThrough(Passage):
    """Both sides speak the same API: the bytes are the other side's."""

    def __init__(self, request: ModelRequest, model: Model, cache_shares: CacheShares) -> None:
        super().__init__(model, cache_shares, stream=request.stream)
        self.api = request.api
        self.body = request.body_for(model.upstream_name)
        self._request = request
        self._changes: dict[str, Any] = {}
        self._include_usage = request.include_usage
        self._events = 0
        self.choices = request.choices

    @property
    def prompt_tokens(self) -> int:
        return self._request.prompt_tokens

    @property
    def prompt_values(self) -> Mapping[str, Any]:
        return self._request.body.values

    def _limit_output(self, max_output_tokens: int) -> None:
        habit = self.model.habits.max_tokens_name if self.api is Api.CHAT_COMPLETIONS else None
        self._change(self._request.output_limits(max_output_tokens, habit))

    def hold(self) -> None:
        super().hold()
        if self._request.stream:
            options = {"stream_options": None} if "stream_options" in self._request.body.values else {}
            self._change({"stream": False, **options})

    def ask_probabilities(self) -> None:
        values = self._request.body.values
        include = values.get("include") or []
        if self.api is Api.CHAT_COMPLETIONS and not values.get("logprobs"):
            self._change({"logprobs": True})
            self.hides_probabilities = True
        elif self.api is Api.RESPONSES and isinstance(include, list) and LOGPROBS not in include:
            self._change({"include": [*include, LOGPROBS]})
            self.hides_probabilities = True

    def _change(self, values: dict[str, Any]) -> None:
        self._changes |= values
        self.body = self._request.body_for(self.model.upstream_name, self._changes)

    def whole(self, body: bytes, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        return body

    def streamed(self, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        if self.api is Api.MESSAGES:
            return events_of_message(values, cost)
        if self.api is Api.RESPONSES:
            return events_of_response(values, cost)
        told = values.get("usage")
        told = told if isinstance(told, dict) else {}
        chunks = [chunk_of(values) if self.api is Api.CHAT_COMPLETIONS else {**values, "usage": None}]
        if self._include_usage:
            chunks.append(chunks[0] | {"choices": [], "usage": {**told, "cost": float(cost)}})
        return b"".join(map(event_of, chunks)) + DONE

    def pass_on(self, event: Event, reader: StreamReader) -> bytes:
        self._events += event.text is not None or event.chunk is not None
        if reader.failed and holds_key(event.raw.decode(errors="replace"), self.model.api_key):
            raise UpstreamError("The provider reported an error instead of the rest of its answer.")
        if not self._include_usage:
            return b"" if event.is_usage_only else event.raw
        if (
            event.text is not None
            or reader.usage is None
            or (place := place_of_usage(self.api, event)) is None
        ):
            return event.raw
        cost = self.spent_before + charge(self.model.price, reader.usage)
        return with_cost(event, place, cost)

    def end(self, usage: Usage, cost: Decimal) -> bytes:
        return b""

    def error(self, error: GatewayError) -> bytes:
        return error_event(self.api, error, self._events)


class Translated(Passage):
    """The provider speaks chat completions only, the client does not."""

    api = Api.CHAT_COMPLETIONS

    _translator: Translator

    def __init__(self, request: ModelRequest, model: Model, cache_shares: CacheShares) -> None:
        super().__init__(model, cache_shares, stream=request.stream)
        values = request.body.values
        target = ChatTarget(
            reasoning="reasoning" in model.capabilities, max_tokens_name=model.habits.max_tokens_name
        )
        if request.api is Api.MESSAGES:
            chat = chat_from_messages(values, target)
            self._translator = MessagesTranslator(request.prompt_tokens)
        else:
            chat = chat_from_responses(values, target)
            self._translator = ResponsesTranslator(values)
        self._chat = chat
        self.body = self._chat_body()

    def _chat_body(self) -> bytes:
        return json.dumps({"model": self.model.upstream_name, **self._chat}, ensure_ascii=False).encode()

    @property
    def prompt_tokens(self) -> int:
        return ChatRequest(JsonObject(b"", self._chat)).prompt_tokens

    @property
    def prompt_values(self) -> Mapping[str, Any]:
        return self._chat

    def _limit_output(self, max_output_tokens: int) -> None:
        chat = ChatRequest(JsonObject(b"", self._chat))
        self._chat |= chat.output_limits(max_output_tokens, self.model.habits.max_tokens_name)
        self.body = self._chat_body()

    def hold(self) -> None:
        super().hold()
        self._chat = {n: v for n, v in self._chat.items() if n not in ("stream", "stream_options")}
        self.body = self._chat_body()

    def ask_probabilities(self) -> None:
        if not self._chat.get("logprobs"):
            self._chat |= {"logprobs": True}
            self.body = self._chat_body()
            self.hides_probabilities = True

    def whole(self, body: bytes, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        return self._translator.whole(values, usage, cost)

    def streamed(self, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        return self._translator.events(chunk_of(values)) + self._translator.end(usage, cost)

    def pass_on(self, event: Event, reader: StreamReader) -> bytes:
        return b"" if event.chunk is None else self._translator.events(event.chunk)

    def end(self, usage: Usage, cost: Decimal) -> bytes:
        return self._translator.end(usage, cost)

    def error(self, error: GatewayError) -> bytes:
        return self._translator.error(error)


def chunk_of(completion: dict[str, Any]) -> dict[str, Any]:
    """A whole chat completion as the one chunk of a stream that says the same."""
    chunk = {**completion, "object": "chat.completion.chunk", "usage": None}
    chunk["choices"] = [_chunk_choice(choice) for choice in completion["choices"]]
    return chunk


def _chunk_choice(choice: Any) -> dict[str, Any]:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise UpstreamError("The provider's answer cannot be read as a completion.")
    delta = dict(message)
    if isinstance(message.get("tool_calls"), list):
        calls = enumerate(message["tool_calls"])
        delta["tool_calls"] = [{**call, "index": i} if isinstance(call, dict) else call for i, call in calls]
    return {name: value for name, value in choice.items() if name != "message"} | {"delta": delta}
