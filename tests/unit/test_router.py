"""Which model answers, by the characters of the user's text."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog import Catalog, Model
from gateway.errors import InvalidRequest, ModelNotAllowed, ModelNotFound
from gateway.prices import TokenPrice
from gateway.router import choose
from gateway.routing.policy import PromptLength
from gateway.schema.chat import ChatRequest, parse_chat_request

PRICE = TokenPrice(Decimal(1), Decimal(1), Decimal(1))
DEAR = TokenPrice(Decimal(2), Decimal(2), Decimal(2))
CHEAP = Model("CheapModel", "http://cheap/v1", "small", None, PRICE)
EXPENSIVE = Model("ExpensiveModel", "http://expensive/v1", "large", None, DEAR)
CATALOG = Catalog(CHEAP, EXPENSIVE)
FAMILY = "👨‍👩‍👧‍👦"  # seven code points: four people and three joiners
ACCENTED = "e\N{COMBINING ACUTE ACCENT}"
FLAG = "🇫🇷"
THUMB = "👍🏽"


def chat(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return parse_chat_request(json.dumps({"messages": messages, **fields}).encode())


def message(role: str, content: object) -> dict[str, Any]:
    return {"role": role, "content": content}


def model_for(*texts: str, threshold: int = 150) -> str:
    request = chat(*(message("user", text) for text in texts))
    return choose(request, CATALOG, PromptLength(threshold)).model.name


@pytest.mark.parametrize(
    "character",
    [
        "x",
        " ",
        "\n",
        "é",
        "ß",
        "字",
        "א",
        "😀",
        "\N{MATHEMATICAL SCRIPT CAPITAL X}",
        "\N{COMBINING ACUTE ACCENT}",
        "\u200d",
        "\x01",
    ],
)
@pytest.mark.parametrize(
    ("count", "name"),
    [
        (0, "CheapModel"),
        (1, "CheapModel"),
        (149, "CheapModel"),
        (150, "CheapModel"),
        (151, "ExpensiveModel"),
        (10_000, "ExpensiveModel"),
    ],
)
def test_a_prompt_of_up_to_150_characters_goes_to_the_cheap_model(
    character: str, count: int, name: str
) -> None:
    assert model_for(character * count) == name


@pytest.mark.parametrize(
    ("cluster", "code_points"), [(FAMILY, 7), (ACCENTED, 2), (FLAG, 2), (THUMB, 2), ("नि", 2), ("Z͑ͫ̓", 4)]
)
def test_each_code_point_of_what_looks_like_one_character_counts(cluster: str, code_points: int) -> None:
    assert len(cluster) == code_points
    clusters, rest = divmod(150, code_points)
    text = cluster * clusters + "x" * rest

    assert chat(message("user", text)).user_characters == 150
    assert model_for(text) == "CheapModel"
    assert model_for(text + "x") == "ExpensiveModel"


def test_text_is_counted_as_it_was_sent_not_normalized() -> None:
    decomposed = ACCENTED * 76
    assert model_for(decomposed) == "ExpensiveModel"
    assert model_for(unicodedata.normalize("NFC", decomposed)) == "CheapModel"


def test_an_escaped_emoji_is_one_character() -> None:
    escaped = parse_chat_request(
        b'{"messages": [{"role": "user", "content": "' + rb"\ud83d\ude00" * 150 + b'"}]}'
    )
    assert escaped.user_characters == 150
    assert choose(escaped, CATALOG, PromptLength(150)).model == CHEAP


@pytest.mark.parametrize(
    ("lengths", "name"),
    [
        ((50, 50, 50), "CheapModel"),
        ((50, 50, 51), "ExpensiveModel"),
        ((0, 150), "CheapModel"),
        ((150, 1), "ExpensiveModel"),
        ((1,) * 150, "CheapModel"),
        ((1,) * 151, "ExpensiveModel"),
    ],
)
def test_the_text_of_all_user_messages_is_summed(lengths: tuple[int, ...], name: str) -> None:
    assert model_for(*("x" * length for length in lengths)) == name


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "tool", "function"])
@pytest.mark.parametrize("content", ["x" * 5000, [{"type": "text", "text": "x" * 5000}]])
def test_long_text_that_is_not_the_user_s_does_not_count(role: str, content: object) -> None:
    request = chat(message(role, content), message("user", "x" * 150), message(role, content))
    assert request.user_characters == 150
    assert choose(request, CATALOG, PromptLength(150)).model == CHEAP


def test_a_request_without_user_text_goes_to_the_cheap_model() -> None:
    assert choose(chat(message("system", "x" * 5000)), CATALOG, PromptLength(150)).model == CHEAP
    assert choose(chat(message("user", [])), CATALOG, PromptLength(0)).model == CHEAP


@pytest.mark.parametrize(("last", "name"), [(50, "CheapModel"), (51, "ExpensiveModel")])
def test_text_parts_count_and_images_and_files_do_not(last: int, name: str) -> None:
    parts = [
        {"type": "text", "text": "x" * 100},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}},
        {"type": "file", "file": {"file_data": "A" * 5000, "text": "A" * 5000}, "text": "A" * 5000},
        {"type": "input_audio", "input_audio": {"data": "A" * 5000}},
        {"type": "text", "text": "x" * last},
    ]
    assert choose(chat(message("user", parts)), CATALOG, PromptLength(150)).model.name == name


@pytest.mark.parametrize(("text", "name"), [("", "CheapModel"), ("x", "ExpensiveModel")])
def test_a_threshold_of_zero_sends_every_text_to_the_expensive_model(text: str, name: str) -> None:
    assert model_for(text, threshold=0) == name


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))), st.integers(0, 40)
)
def test_the_choice_is_by_the_sum_of_code_points_alone(texts: list[str], threshold: int) -> None:
    request = chat(message("system", "s"), *(message("user", text) for text in texts))
    assert request.user_characters == sum(map(len, texts))
    chosen = choose(request, CATALOG, PromptLength(threshold))
    assert chosen.model == (CHEAP if sum(map(len, texts)) <= threshold else EXPENSIVE)
    characters = sum(map(len, texts))
    if characters <= threshold:
        assert (chosen.model, chosen.reason) == (CHEAP, f"{characters} characters, at most {threshold}")
    else:
        assert (chosen.model, chosen.reason) == (EXPENSIVE, f"{characters} characters, more than {threshold}")
    assert chosen.verdict is not None
    assert {chosen.model, chosen.verdict.other} == {CHEAP, EXPENSIVE}


@pytest.mark.parametrize("fields", [{}, {"model": "auto"}, {"model": None}])
def test_the_reason_gives_the_count_and_the_threshold(fields: dict[str, Any]) -> None:
    short = choose(chat(message("user", "x" * 150), **fields), CATALOG, PromptLength(150))
    long = choose(chat(message("user", "x" * 151), **fields), CATALOG, PromptLength(150))
    assert (short.policy, short.reason) == ("prompt_length", "150 characters, at most 150")
    assert (long.policy, long.reason) == ("prompt_length", "151 characters, more than 150")


@pytest.mark.parametrize("length", [1, 5000])
@pytest.mark.parametrize("model", [CHEAP, EXPENSIVE])
def test_a_model_that_the_client_names_answers_whatever_the_length(model: Model, length: int) -> None:
    route = choose(chat(message("user", "x" * length), model=model.name), CATALOG, PromptLength(150))
    assert (route.model, route.policy) == (model, "requested")


@pytest.mark.parametrize("name", ["", "gpt-5", "cheapmodel", "CheapModel ", "small", "AUTO", "a\r\nb"])
def test_a_model_that_is_not_configured_is_not_found(name: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        choose(chat(message("user", "x"), model=name), CATALOG, PromptLength(150))
    assert (refused.value.status, refused.value.param, refused.value.code) == (
        404,
        "model",
        "model_not_found",
    )


OTHERS = Catalog(CHEAP, EXPENSIVE, auto_aliases=("gpt-*",))


@pytest.mark.parametrize(("names", "chosen"), [({"CheapModel"}, CHEAP), ({"ExpensiveModel"}, EXPENSIVE)])
@pytest.mark.parametrize("length", [1, 5000])
@pytest.mark.parametrize("asked", ["auto", "gpt-5"])
def test_a_key_s_requests_go_to_its_models_alone(
    names: set[str], chosen: Model, length: int, asked: str
) -> None:
    catalog = OTHERS.only(frozenset(names))
    route = choose(chat(message("user", "x" * length), model=asked), catalog, PromptLength(150))
    assert (route.model, route.policy, route.baseline) == (chosen, "prompt_length", chosen)
    named = choose(chat(message("user", "x"), model=chosen.name), catalog, PromptLength(150))
    assert (named.model, named.baseline) == (chosen, chosen)


def test_a_configured_model_that_a_key_may_not_use_is_refused_as_such() -> None:
    catalog = OTHERS.only(frozenset({"CheapModel"}))
    with pytest.raises(ModelNotAllowed) as refused:
        choose(chat(message("user", "x"), model="ExpensiveModel"), catalog, PromptLength(150))
    assert (refused.value.status, refused.value.param, refused.value.code) == (
        403,
        "model",
        "model_not_allowed",
    )
    with pytest.raises(ModelNotFound):
        choose(chat(message("user", "x"), model="no-such-model"), catalog, PromptLength(150))


@pytest.mark.parametrize("names", [set(), {"gone"}])
def test_a_key_without_any_configured_model_is_refused(names: set[str]) -> None:
    with pytest.raises(ModelNotAllowed):
        choose(chat(message("user", "x")), CATALOG.only(frozenset(names)), PromptLength(150))


@pytest.mark.parametrize("length", [1, 151, 5000])
def test_to_spare_a_budget_the_cheapest_model_answers_whatever_the_length(length: int) -> None:
    route = choose(chat(message("user", "x" * length)), CATALOG, PromptLength(150), cheapest=True)
    assert (route.model, route.policy, route.reason) == (CHEAP, "budget", "the budget is nearly spent")
    assert route.baseline == EXPENSIVE


def test_to_spare_a_budget_no_model_answers_that_cannot() -> None:
    blind = replace(CHEAP, name="Blind", capabilities=frozenset({"streaming"}))
    middle = replace(EXPENSIVE, name="Middle")
    image = message("user", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}])
    route = choose(chat(image), Catalog(blind, middle, EXPENSIVE), PromptLength(150), cheapest=True)
    assert route.model == middle
    assert route.reason == "the budget is nearly spent; 2 of 3 models can answer"
    with pytest.raises(InvalidRequest):
        choose(chat(image), Catalog(blind), PromptLength(150), cheapest=True)


def test_to_spare_a_budget_no_model_is_exchanged_that_the_client_named() -> None:
    route = choose(
        chat(message("user", "x"), model="ExpensiveModel"), CATALOG, PromptLength(150), cheapest=True
    )
    assert (route.model, route.policy) == (EXPENSIVE, "requested")
