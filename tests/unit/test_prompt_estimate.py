"""The tokens of a prompt are estimated from what the provider is sent, be it translated or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.apis import Api
from gateway.catalog import Model
from gateway.passage import passage
from gateway.prices import FREE
from gateway.schema.base import ModelRequest
from gateway.schema.messages import parse_messages_request
from gateway.schema.responses import parse_responses_request
from model_server.dialects.anthropic_schema import parse_request as parse_message
from model_server.dialects.responses_schema import parse_request as parse_response
from model_server.schema import parse_request as parse_chat
from tests.support.native_stack import APIS, KINDS, body_of

CHAT_ONLY = Model("Chat", "http://chat/v1", "chat-1", None, FREE)
EVERYTHING = Model("All", "http://all/v1", "all-1", None, FREE, apis=frozenset(Api))


def asked(api: str, body: dict[str, Any]) -> ModelRequest:
    sent = json.dumps(body).encode()
    return parse_messages_request(sent) if api == "messages" else parse_responses_request(sent)


def billed_by_the_mock(api: str, body: bytes) -> int:
    """The tokens that a mock model counts in a body."""
    if api == "messages":
        return parse_message(body).prompt_tokens
    if api == "responses":
        return parse_response(body, lambda _: None).request.prompt_tokens  # type: ignore[arg-type,return-value]
    return parse_chat(body).prompt_tokens


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("api", APIS)
def test_the_estimate_is_what_a_provider_counts_that_counts_as_the_gateway_does(api: str, kind: str) -> None:
    request = asked(api, body_of(api, kind, stream=True))

    native, translated = passage(request, EVERYTHING), passage(request, CHAT_ONLY)

    assert native.prompt_tokens == billed_by_the_mock(api, native.body)
    assert translated.prompt_tokens == billed_by_the_mock("chat/completions", translated.body)
