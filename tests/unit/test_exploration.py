"""A share of the choices, drawn by chance, gets the other model, and is told so with its probability."""

from __future__ import annotations

import random

import pytest

from gateway.catalog import Catalog
from gateway.router import Route, choose
from gateway.routing.exploration import Exploration
from gateway.routing.policy import PromptLength
from tests.unit.test_routing import CATALOG, chat, model


def choice(draw: float, text: str = "hi", share: float = 0.1, catalog: Catalog = CATALOG) -> Route:
    return choose(chat(text), catalog, PromptLength(150), exploration=Exploration(share, lambda: draw))


def test_what_is_drawn_gets_the_other_model_and_says_why() -> None:
    usual, explored = choice(0.1), choice(0.0999)
    assert usual.verdict is not None
    assert explored.verdict is not None
    assert (usual.model.name, usual.verdict.propensity, usual.verdict.explored) == ("cheap", 0.9, False)
    assert (explored.model.name, explored.verdict.propensity, explored.verdict.explored) == (
        "dear",
        0.1,
        True,
    )
    assert explored.verdict.other is usual.model
    assert "explored" not in usual.reason
    assert explored.reason.startswith("explored")
    assert usual.reason in explored.reason


def test_of_a_long_prompt_the_cheap_model_is_the_other_one() -> None:
    assert choice(0.5, "x" * 151).model.name == "dear"
    assert choice(0.05, "x" * 151).model.name == "cheap"


def test_one_model_that_can_answer_leaves_nothing_to_explore() -> None:
    route = choice(0.0, catalog=Catalog(model("only", 1)))
    assert route.verdict is not None
    assert (route.verdict.propensity, route.verdict.explored) == (1.0, False)


def test_the_share_of_what_is_explored_is_that_which_is_wished() -> None:
    exploration = Exploration(0.02, random.Random(7).random)
    drawn = [exploration.drawn() for _ in range(50_000)]
    assert sum(explored for explored, _ in drawn) == pytest.approx(1000, abs=100)
    assert {propensity for _, propensity in drawn} == {0.02, 0.98}


def test_a_named_model_and_a_spent_budget_are_nothing_to_explore() -> None:
    exploration = Exploration(0.5, lambda: 0.0)
    named = choose(chat("hi", "cheap"), CATALOG, PromptLength(150), exploration=exploration)
    spent = choose(chat("x" * 151), CATALOG, PromptLength(150), cheapest=True, exploration=exploration)
    assert (named.model.name, named.verdict) == ("cheap", None)
    assert (spent.model.name, spent.verdict) == ("cheap", None)
