"""How a request reaches a model's provider and how the answer comes back: unchanged where the provider
serves the client's API, translated to a chat completion and back where it does not."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any

from gateway.answers import StreamReader
from gateway.apis import Api
from gateway.billing import Usage
from gateway.catalog import Model
from gateway.dialect import error_event
from gateway.errors import GatewayError
from gateway.jsontext import JsonObject
from gateway.prices import charge
from gateway.schema.base import ModelRequest
from gateway.schema.chat import ChatRequest
from gateway.sse import Event, with_values
from gateway.translation.messages_answer import MessagesTranslator
from gateway.translation.messages_request import chat_from_messages
from gateway.translation.responses_answer import ResponsesTranslator
from gateway.translation.responses_request import chat_from_responses
from gateway.translation.target import ChatTarget, Translator


class Passage(ABC):
    """One request to one model. `api` is what its provider is asked by, `body` what it is sent."""

    api: Api
    body: bytes

    @property
    @abstractmethod
    def prompt_tokens(self) -> int:
        """The likely tokens of what the provider is sent."""

    @abstractmethod
    def whole(self, body: bytes, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        """The client's body for a whole answer, given as its bytes and their values.

        :raises UpstreamError: for an answer that cannot be translated
        """

    @abstractmethod
    def pass_on(self, event: Event, reader: StreamReader) -> bytes:
        """What the client gets for one event of the provider, which `reader` has just read.

        :raises UpstreamError: for an event that cannot be translated
        """

    @abstractmethod
    def end(self, usage: Usage, cost: Decimal) -> bytes:
        """What the client gets behind the last event of a whole answer."""

    @abstractmethod
    def error(self, error: GatewayError) -> bytes:
        """The event that ends a stream whose status line has already been sent."""


def passage(request: ModelRequest, model: Model) -> Passage:
    """The way of `request` to `model`.

    :raises InvalidRequest: for what the translation that it takes cannot translate
    """
    if request.api in model.apis:
        return PassThrough(request, model)
    return Translated(request, model)


class PassThrough(Passage):
    """Both sides speak the same API: the bytes are the other side's."""

    def __init__(self, request: ModelRequest, model: Model) -> None:
        self.api = request.api
        self.body = request.body_for(model.upstream_name)
        self._request = request
        self._include_usage = request.include_usage
        self._price = model.price
        self._events = 0

    @property
    def prompt_tokens(self) -> int:
        return self._request.prompt_tokens

    def whole(self, body: bytes, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        return body

    def pass_on(self, event: Event, reader: StreamReader) -> bytes:
        self._events += event.chunk is not None
        if event.is_usage_only and not self._include_usage:
            return b""
        place = _place_of_usage(self.api, event)
        if place is None or not self._include_usage or reader.usage is None:
            return event.raw
        return _with_cost(event, place, charge(self._price, reader.usage))

    def end(self, usage: Usage, cost: Decimal) -> bytes:
        return b""

    def error(self, error: GatewayError) -> bytes:
        return error_event(self.api, error, self._events)


class Translated(Passage):
    """The provider speaks chat completions only, the client does not."""

    api = Api.CHAT_COMPLETIONS

    _translator: Translator

    def __init__(self, request: ModelRequest, model: Model) -> None:
        values = request.body.values
        target = ChatTarget(
            reasoning="reasoning" in model.capabilities, max_tokens_name=model.habits.max_tokens_name
        )
        if request.api is Api.MESSAGES:
            chat = chat_from_messages(values, target)
            self._translator = MessagesTranslator(request.prompt_tokens)
        else:
            chat = chat_from_responses(values, target)
            self._translator = ResponsesTranslator(values, request.prompt_tokens)
        self._chat = chat
        self.body = json.dumps({"model": model.upstream_name, **chat}, ensure_ascii=False).encode()

    @property
    def prompt_tokens(self) -> int:
        return ChatRequest(JsonObject("", self._chat, {})).prompt_tokens

    def whole(self, body: bytes, values: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        return self._translator.whole(values, usage, cost)

    def pass_on(self, event: Event, reader: StreamReader) -> bytes:
        return b"" if event.chunk is None else self._translator.events(event.chunk)

    def end(self, usage: Usage, cost: Decimal) -> bytes:
        return self._translator.end(usage, cost)

    def error(self, error: GatewayError) -> bytes:
        return self._translator.error(error)


def _place_of_usage(api: Api, event: Event) -> tuple[str, ...] | None:
    """Where in an event's JSON the usage object stands that is final for the client, if it has one."""
    chunk = event.chunk or {}
    if api is Api.RESPONSES:
        response = chunk.get("response")
        final = isinstance(response, dict) and isinstance(response.get("usage"), dict)
        return ("response", "usage") if final else None
    if api is Api.MESSAGES and chunk.get("type") != "message_delta":
        return None
    return ("usage",) if isinstance(chunk.get("usage"), dict) else None


def _with_cost(event: Event, place: tuple[str, ...], cost: Decimal) -> bytes:
    """The event with `cost` in USD added to its usage."""
    values = dict(event.chunk or {})
    holder = values
    for name in place:
        holder[name] = dict(holder[name])
        holder = holder[name]
    holder["cost"] = float(cost)
    return with_values(event, values)
