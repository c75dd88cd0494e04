"""How the mocks count tokens and what they charge for them."""

import json
from decimal import Decimal
from typing import Any

import pytest

from cheap_model.app import PROFILE as CHEAP
from expensive_model.app import PROFILE as EXPENSIVE
from model_server.completion import Usage, complete
from model_server.ledger import cost_usd
from model_server.profile import ModelProfile
from model_server.schema import ChatRequest, parse_request
from model_server.tokens import MAX_PIECES, count_text, split_text

FRANCE = "What is the capital of France?"
ENTANGLEMENT = (
    "Explain the concept of quantum entanglement and its implications for modern computing. "
    "Cover Bell's theorem and experimental verification methods in detail."
)


def parse(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return parse_request(json.dumps({"messages": messages, **fields}).encode())


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("😀" * 4, 1)])
def test_four_code_points_are_one_token(text: str, tokens: int) -> None:
    assert count_text(text) == tokens
    assert len(split_text(text)) == tokens
    assert "".join(split_text(text)) == text


@pytest.mark.parametrize("tokens", [0, 1, 128, 129, 800, 4096])
def test_a_long_text_comes_in_few_pieces_of_whole_tokens(tokens: int) -> None:
    text = ("abcd" * tokens)[:-1]
    pieces = split_text(text)
    assert "".join(pieces) == text
    assert sum(count_text(piece) for piece in pieces) == count_text(text) == tokens
    assert len(pieces) == tokens if tokens <= MAX_PIECES else MAX_PIECES // 2 < len(pieces) <= MAX_PIECES


def test_the_two_known_prompts_cost_exactly_what_they_always_did() -> None:
    total = Decimal(0)
    for profile, prompt, usage in (
        (CHEAP, FRANCE, Usage(14, 0, 9)),
        (EXPENSIVE, ENTANGLEMENT, Usage(45, 0, 27)),
    ):
        assert complete(profile, parse(user(prompt))).usage == usage
        total += cost_usd(profile.prices, usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    assert total == Decimal("0.000185")


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        (user(""), 6),
        (user("12345678"), 8),
        (user([{"type": "text", "text": "1234"}, {"type": "text", "text": "12345"}]), 9),
        (user([{"type": "image_url", "image_url": {"url": "data:,"}}]), 91),
        (user([{"type": "x", "y": 1}]), 6 + count_text('{"type":"x","y":1}')),
        ({**user("1234"), "name": "anna"}, 8),
        (
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "abcd", "arguments": "{}"}}
                ],
            },
            8,
        ),
    ],
)
def test_a_prompt_counts_every_part_of_a_message(message: dict[str, Any], tokens: int) -> None:
    assert parse(message).prompt_tokens == tokens


def test_tools_are_part_of_the_prompt_in_compact_json() -> None:
    tools = [{"type": "function", "function": {"name": "é"}}]
    compact = '[{"type":"function","function":{"name":"é"}}]'
    assert parse(user(""), tools=tools).prompt_tokens == 6 + count_text(compact)


@pytest.mark.parametrize(
    ("earlier_chars", "last_chars", "cached"),
    [
        (4 * 900, 4 * 50, 0),  # below the cache's minimum
        (4 * 1014, 0, 0),  # 1023 tokens in all
        (4 * 1015, 0, 896),  # 1024 tokens, 1018 of them before the last message
        (4 * 1021, 4, 1024),  # 1024 tokens before the last message
        (0, 4 * 2000, 0),  # all of it is new
    ],
)
def test_a_long_prompt_is_cached_in_blocks_up_to_its_last_message(
    earlier_chars: int, last_chars: int, cached: int
) -> None:
    assert parse(user("x" * earlier_chars), user("y" * last_chars)).cached_tokens == cached


@pytest.mark.parametrize(
    ("profile", "cost"), [(CHEAP, "0.000455"), (EXPENSIVE, "0.00546")], ids=["cheap", "expensive"]
)
def test_cached_tokens_are_charged_at_their_own_price(profile: ModelProfile, cost: str) -> None:
    # 400 fresh and 600 cached tokens in, 1000 tokens out.
    assert cost_usd(profile.prices, 1000, 600, 1000) == Decimal(cost)
