"""Tokens and money, to the last digit."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import output_characters
from gateway.apis import Api
from gateway.billing import (
    MOST_TOKENS,
    Usage,
    estimated_tokens,
    usage_estimated,
    usage_stated,
)
from gateway.prices import TokenPrice
from gateway.schema.chat import parse_chat_request

CHEAP = TokenPrice(Decimal("0.10"), Decimal("0.025"), Decimal("0.40"))
EXPENSIVE = TokenPrice(Decimal("1.00"), Decimal("0.10"), Decimal("5.00"))
CHAT = Api.CHAT_COMPLETIONS
TOKENS = st.integers(0, MOST_TOKENS)
NO_COUNTS = [-1, 14.0, 1.5, True, False, "14", [], {}, float("nan"), float("inf"), MOST_TOKENS + 1, 10**400]


def stated(**usage: Any) -> Usage | None:
    return usage_stated(CHAT, {"usage": usage})


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (CHEAP, Usage(14, 0, 9), "0.000005"),
        (EXPENSIVE, Usage(45, 0, 27), "0.000180"),
        (CHEAP, Usage(0, 0, 0), "0"),
        (CHEAP, Usage(1_000_000, 0, 0), "0.10"),
        (CHEAP, Usage(0, 0, 1_000_000), "0.40"),
        (CHEAP, Usage(1_000_000, 1_000_000, 0), "0.025"),
        (CHEAP, Usage(1_000_000, 400_000, 0), "0.07"),
        (CHEAP, Usage(1, 1, 0), "0.000000025"),
        (EXPENSIVE, Usage(1500, 1024, 10), "0.0006284"),
        (EXPENSIVE, Usage(MOST_TOKENS, 0, MOST_TOKENS), "6000000"),
    ],
)
def test_a_call_costs_what_its_price_per_million_tokens_says(
    price: TokenPrice, usage: Usage, cost: str
) -> None:
    assert price.cost(usage) == Decimal(cost)


def test_the_two_calls_of_the_readme_cost_their_published_sum() -> None:
    assert CHEAP.cost(Usage(14, 0, 9)) + EXPENSIVE.cost(Usage(45, 0, 27)) == Decimal("0.000185")


@given(TOKENS, TOKENS, TOKENS)
def test_a_cost_is_exact_in_integers_of_the_smallest_unit(prompt: int, cached: int, output: int) -> None:
    cached = min(cached, prompt)
    # 1e-9 USD is 0.001 USD per million tokens.
    expected = (prompt - cached) * 100 + cached * 25 + output * 400
    assert CHEAP.cost(Usage(prompt, cached, output)) * 10**9 == expected


def test_the_sum_of_a_hundred_thousand_calls_is_exact() -> None:
    chance = random.Random(2026)
    total, expected = Decimal(0), 0
    for _ in range(100_000):
        prompt, output = chance.randrange(200_000), chance.randrange(50_000)
        cached = chance.randrange(prompt + 1)
        total += CHEAP.cost(Usage(prompt, cached, output))
        expected += (prompt - cached) * 100 + cached * 25 + output * 400
    assert total * 10**9 == expected


def test_stated_usage_is_taken_as_stated() -> None:
    usage = stated(
        prompt_tokens=14,
        completion_tokens=9,
        total_tokens=23,
        prompt_tokens_details={"cached_tokens": 4, "audio_tokens": 0},
        completion_tokens_details={"reasoning_tokens": 5},
    )
    assert usage == Usage(input_tokens=14, cached_input_tokens=4, output_tokens=9, reasoning_tokens=5)


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}, {"audio_tokens": 0}, [], "x", 1])
def test_without_a_figure_nothing_was_cached(details: object) -> None:
    assert stated(prompt_tokens=14, completion_tokens=9, prompt_tokens_details=details) == Usage(14, 0, 9)


def test_zero_tokens_are_a_statement() -> None:
    assert stated(prompt_tokens=0, completion_tokens=0) == Usage(0, 0, 0)
    assert stated(prompt_tokens=14) == Usage(14, 0, 0)


@pytest.mark.parametrize(("cached", "billed"), [(14, 14), (15, 14), (MOST_TOKENS, 14)])
def test_no_more_than_the_prompt_can_have_been_cached(cached: int, billed: int) -> None:
    usage = stated(prompt_tokens=14, completion_tokens=9, prompt_tokens_details={"cached_tokens": cached})
    assert usage == Usage(14, billed, 9)


@pytest.mark.parametrize("usage", [None, {}, [], "x", 1, True, [{}], {"completion_tokens": 9}])
def test_an_answer_without_usage_states_none(usage: object) -> None:
    assert usage_stated(CHAT, {"usage": usage}) is None
    assert usage_stated(CHAT, {}) is None


@pytest.mark.parametrize("value", [None, *NO_COUNTS], ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
def test_usage_that_makes_no_sense_is_none(field: str, value: object) -> None:
    assert stated(**{"prompt_tokens": 14, "completion_tokens": 9, field: value}) is None


@pytest.mark.parametrize("value", NO_COUNTS, ids=lambda value: repr(value)[:20])
def test_a_cached_figure_that_makes_no_sense_spoils_the_usage(value: object) -> None:
    details = {"cached_tokens": value}
    assert stated(prompt_tokens=14, completion_tokens=9, prompt_tokens_details=details) is None


@given(st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens"]), st.integers() | st.none()))
def test_stated_usage_is_never_negative(usage: dict[str, object]) -> None:
    found = stated(**usage)
    if found is not None:
        assert 0 <= found.cached_input_tokens <= found.input_tokens <= MOST_TOKENS
        assert 0 <= found.output_tokens <= MOST_TOKENS


@pytest.mark.parametrize(("characters", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (150, 38)])
def test_a_token_is_estimated_for_every_four_characters_begun(characters: int, tokens: int) -> None:
    assert estimated_tokens(characters) == tokens


@pytest.mark.parametrize(
    ("texts", "output", "usage"),
    [
        ([""], 0, Usage(6, 0, 0, estimated=True)),
        (["What is the capital of France?"], 36, Usage(14, 0, 9, estimated=True)),
        (["12345", "1234"], 1, Usage(12, 0, 1, estimated=True)),
        (["😀" * 4], 4, Usage(7, 0, 1, estimated=True)),
    ],
)
def test_an_estimate_counts_each_message_and_says_that_it_is_one(
    texts: list[str], output: int, usage: Usage
) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    request = parse_chat_request(json.dumps({"messages": messages}).encode())
    assert usage_estimated(request.prompt_tokens, output) == usage


@pytest.mark.parametrize("holder", ["message", "delta"])
@pytest.mark.parametrize(
    ("content", "characters"),
    [
        ({"content": "Hello"}, 5),
        ({"content": "😀é"}, 2),
        ({"content": None, "refusal": "No."}, 3),
        ({"content": "a", "reasoning_content": "bc"}, 3),
        (
            {
                "tool_calls": [
                    {"function": {"name": "f", "arguments": "{}"}},
                    {"function": {"arguments": "xyz"}},
                ]
            },
            6,
        ),
        ({"content": "a", "tool_calls": None}, 1),
        ({"role": "assistant"}, 0),
        ({}, 0),
    ],
)
def test_all_that_was_generated_is_counted(holder: str, content: dict[str, Any], characters: int) -> None:
    assert output_characters(CHAT, {"choices": [{holder: content}, {holder: content}]}) == 2 * characters


@pytest.mark.parametrize("nonsense", [None, 1, True, "x", [], {}, [None], ["x"], [[]], {"a": 1}])
@pytest.mark.parametrize("path", ["choices", "choice", "content", "tool_calls", "call", "function"])
def test_nonsense_in_an_answer_counts_nothing_and_harms_nothing(path: str, nonsense: object) -> None:
    def at(name: str, value: object) -> object:
        return nonsense if path == name else value

    call = at("call", {"function": at("function", {"name": at("name", 1), "arguments": 5})})
    content = at("content", {"content": {}, "refusal": 1, "tool_calls": at("tool_calls", [call])})
    choices = at("choices", [at("choice", {"message": content})])
    assert output_characters(CHAT, {"choices": choices}) == 0


def test_audio_and_the_tier_of_the_service_are_known() -> None:
    usage = usage_stated(
        CHAT,
        {
            "service_tier": "flex",
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 60,
                "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 80},
                "completion_tokens_details": {"audio_tokens": 50},
            },
        },
    )
    # Twenty of the cached tokens can be text, so ten must be audio.
    assert usage == Usage(
        100,
        30,
        60,
        input_audio_tokens=80,
        cached_audio_tokens=10,
        output_audio_tokens=50,
        service_tier="flex",
    )


@pytest.mark.parametrize("tier", ["default", "auto", "standard", None, 1, []])
def test_a_tier_at_the_usual_price_is_none(tier: object) -> None:
    usage = usage_stated(CHAT, {"service_tier": tier, "usage": {"prompt_tokens": 1}})
    assert usage == Usage(1, 0, 0)


def test_embeddings_may_state_a_total_alone() -> None:
    assert usage_stated(Api.EMBEDDINGS, {"usage": {"total_tokens": 12}}) == Usage(12, 0, 0)
