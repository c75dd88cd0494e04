"""Which policy has a request's choice."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from gateway.catalog import Catalog, Model
from gateway.errors import ModelNotFound
from gateway.keys.virtual_key import ANYBODY, Tenant, VirtualKey
from gateway.prices import TokenPrice
from gateway.router import choose
from gateway.routing.exploration import Exploration
from gateway.routing.features import Features
from gateway.routing.policy import AskFirst, PromptLength, Score
from gateway.routing.routing import Routing
from gateway.routing.share import HeldShare
from gateway.schema.chat import ChatRequest, parse_chat_request
from gateway.schema.prompts import parse_embedding_request


def model(name: str, usd: int) -> Model:
    price = TokenPrice(Decimal(usd), Decimal(usd), Decimal(usd))
    return Model(name, "http://127.0.0.1:1/v1", name, None, price)


CATALOG = Catalog(model("cheap", 1), model("dear", 2))


class Opposite(PromptLength):
    """The dearest model for what is short."""

    name = "difficulty"

    def score(self, features: Features) -> Score:
        return Score(-features.characters)


class Unsure(PromptLength):
    """It never knows."""

    def score(self, features: Features) -> Score:
        return Score(0, abstains=True)


def chat(text: str, name: str | None = "auto") -> ChatRequest:
    body = {"model": name, "messages": [{"role": "user", "content": text}]}
    return parse_chat_request(json.dumps(body).encode())


def holder(policy: str | None) -> Tenant:
    return Tenant(VirtualKey("0" * 12, "app", "", 0, policy=policy))


@pytest.mark.parametrize(
    ("name", "tenant", "policy"),
    [
        ("auto", ANYBODY, "prompt_length"),
        (None, ANYBODY, "prompt_length"),
        ("auto", holder(None), "prompt_length"),
        ("auto", holder("difficulty"), "difficulty"),
        ("auto", holder("of_another_version"), "prompt_length"),
        ("auto:prompt_length", holder("difficulty"), "prompt_length"),
    ],
)
def test_the_request_says_the_policy_else_its_key_else_the_setting(
    name: str | None, tenant: Tenant, policy: str
) -> None:
    routing = Routing([PromptLength(150), Opposite(-150)], "prompt_length")
    route = routing.choose(chat("hi", name), CATALOG, tenant)
    assert route.policy == policy
    assert route.model.name == ("cheap" if policy == "prompt_length" else "dear")


@pytest.mark.parametrize("name", ["auto:", "auto:by_mood", "auto:prompt_length:", "Auto:prompt_length"])
def test_a_policy_that_does_not_exist_is_a_model_that_does_not(name: str) -> None:
    with pytest.raises(ModelNotFound):
        choose(chat("hi", name), CATALOG, PromptLength(150))


def test_a_model_may_be_called_like_a_policy() -> None:
    catalog = Catalog(model("cheap", 1), model("auto:prompt_length", 2))
    assert choose(chat("hi", "auto:prompt_length"), catalog, PromptLength(150)).policy == "requested"


def test_embeddings_go_by_no_lot() -> None:
    request = parse_embedding_request(b'{"input": "law and torts"}')
    share = HeldShare(0.5, 150)
    routing = Routing([PromptLength(150), AskFirst()], "cascade", Exploration(0.5), {"prompt_length": share})
    policy = routing.policy_of(request, ANYBODY, "id")
    assert isinstance(policy, PromptLength)
    assert routing.exploration_of(request, policy).share == 0
    assert routing.exploration_of(chat("hi"), policy).share == 0.5


def test_a_policy_that_abstains_asks_the_dearest_model() -> None:
    assert choose(chat("hi"), CATALOG, Unsure(150)).model.name == "dear"


def test_system_text_and_what_tools_gave_back_is_no_text_of_the_user() -> None:
    body = {
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "tool", "tool_call_id": "1", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": "e"}, {"type": "text", "text": "f"}]},
        ]
    }
    features = parse_chat_request(json.dumps(body).encode()).features
    assert (list(features.texts), features.characters) == (["b", "e", "f"], 3)
