"""How a policy chooses for one request where its share is held, and what counts towards the share."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal

import pytest

from gateway.catalog import Catalog, Model
from gateway.config import Settings
from gateway.keys.virtual_key import ANYBODY
from gateway.prices import TokenPrice
from gateway.router import choose
from gateway.routing.features import Features
from gateway.routing.held_policy import HeldPolicy, lot_of, rank_of
from gateway.routing.policy import PromptLength, Score
from gateway.routing.routing import Routing
from gateway.routing.scores import bucket_of
from gateway.routing.share import HeldShare, Known, Recent
from gateway.schema.chat import ChatRequest, parse_chat_request


def model(name: str, usd: int) -> Model:
    price = TokenPrice(Decimal(usd), Decimal(usd), Decimal(usd))
    return Model(name, "http://127.0.0.1:1/v1", name, None, price)


CATALOG = Catalog(model("cheap", 1), model("dear", 2))
IDS = [f"request-{number}" for number in range(1000)]


class Unsure(PromptLength):
    """It never knows."""

    def score(self, features: Features) -> Score:
        return Score(0, abstains=True)


class Broken(PromptLength):
    """It gives no number."""

    def score(self, features: Features) -> Score:
        return Score(float("nan"))


def chat(characters: int, name: str = "auto") -> ChatRequest:
    body = {"model": name, "messages": [{"role": "user", "content": "x" * characters}]}
    return parse_chat_request(json.dumps(body).encode())


def seen(share: HeldShare, *scores: float) -> HeldShare:
    """The same share, which has heard of these, and owes nothing."""
    share.learn(Known(len(scores), 0, 0.0, Recent(Counter(map(bucket_of, scores)), {})))
    return share


def routing_of(share: HeldShare, policy: PromptLength) -> Routing:
    return Routing([policy], policy.name, shares={policy.name: share})


def test_the_line_is_where_the_share_is_and_the_reason_says_so() -> None:
    routing = routing_of(seen(HeldShare(0.2, 150), *range(101, 201)), PromptLength(150))
    dear = routing.choose(chat(190), CATALOG, ANYBODY, "a")
    assert dear.model.name == "dear"
    assert dear.policy == "prompt_length"
    assert dear.reason == "190 characters, more than 180.5; the expensive share is held at 20 %"
    cheap = routing.choose(chat(160), CATALOG, ANYBODY, "a")
    assert cheap.model.name == "cheap"
    assert cheap.verdict is not None
    assert cheap.verdict.threshold == pytest.approx(180.5, abs=1.01)


def test_equal_prompts_are_parted_by_their_ids_always_in_the_same_way() -> None:
    share = seen(HeldShare(0.2, 150), *[200] * 100)
    routing = routing_of(share, PromptLength(150))
    routes = [routing.choose(chat(200), CATALOG, ANYBODY, request_id) for request_id in IDS]
    again = [routing.choose(chat(200), CATALOG, ANYBODY, request_id) for request_id in IDS]
    assert routes == again
    assert sum(route.model.name == "dear" for route in routes) == pytest.approx(200, abs=40)
    assert all(route.reason.endswith("held at 20 %, here by the request's id") for route in routes)


@pytest.mark.parametrize("policy", [Unsure(150), Broken(150)])
def test_a_policy_that_abstains_gets_no_more_than_the_share(policy: PromptLength) -> None:
    share = HeldShare(0.2, 150)
    routing, dear = routing_of(share, policy), 0
    for request_id in IDS:
        route = routing.choose(chat(10), CATALOG, ANYBODY, request_id)
        routing.note(route)
        dear += route.model.name == "dear"
        assert route.reason.startswith("nothing to go by; ")
    assert dear == pytest.approx(200, abs=20)


def test_who_abstains_comes_before_any_score() -> None:
    share = seen(HeldShare(0.2, 150), *[1e12] * 10, *range(100, 190))
    assert HeldPolicy(PromptLength(150), share, "a").score(Features(10**9)).value == 10**9
    policy = HeldPolicy(Unsure(150), share, "a")
    score = policy.score(Features(1))
    assert score.is_above(policy.threshold)
    assert rank_of(score) == 1e12


@pytest.mark.parametrize(
    ("debt", "name", "words"),
    [
        (40.0, "dear", "the expensive model is behind its share; the expensive share is held at 20 %"),
        (-40.0, "cheap", "the expensive model is ahead of its share; the expensive share is held at 20 %"),
    ],
)
def test_what_is_far_off_is_made_good_whatever_the_score(debt: float, name: str, words: str) -> None:
    share = seen(HeldShare(0.2, 150), *range(100, 200))
    share.saw(150, expensive=False)
    share.pending()
    share.learn(Known(101, 0, debt))
    route = routing_of(share, PromptLength(150)).choose(chat(150), CATALOG, ANYBODY, "a")
    assert (route.model.name, route.reason) == (name, words)


def test_only_what_the_policy_could_choose_counts() -> None:
    share = HeldShare(0.2, 150)
    routing = routing_of(share, PromptLength(150))
    alone = Catalog(model("only", 1))
    routing.note(routing.choose(chat(10, "dear"), CATALOG, ANYBODY))
    routing.note(routing.choose(chat(10), CATALOG, ANYBODY, cheapest=True))
    routing.note(routing.choose(chat(10), alone, ANYBODY))
    assert not share.has_news
    routing.note(routing.choose(chat(10), CATALOG, ANYBODY))
    assert (share.pending().requests, share.pending().expensive) == (1, 0)


def test_asking_what_would_be_chosen_counts_nothing() -> None:
    share = HeldShare(0.2, 150)
    routing_of(share, PromptLength(150)).choose(chat(200), CATALOG, ANYBODY, "a")
    assert not share.has_news


def test_without_a_target_the_policy_is_left_as_it_is() -> None:
    routing = Routing.of(Settings.from_env({}))
    assert routing.shares == {}
    assert isinstance(routing.policy_of(chat(1), ANYBODY, "a"), PromptLength)


@pytest.mark.parametrize("variable", ["ROUTING_EXPENSIVE_SHARE", "ROUTING_DOLLARS_PER_DAY"])
def test_each_policy_in_use_has_a_share_of_its_own(variable: str) -> None:
    routing = Routing.of(Settings.from_env({variable: "1", "ROUTING_THRESHOLD_CHARS": "77"}))
    assert list(routing.shares) == ["prompt_length", "difficulty"]
    assert routing.shares["prompt_length"].usual_threshold == 77


def test_a_held_policy_decides_as_the_router_asks_it() -> None:
    share = seen(HeldShare(0.5, 150), *range(100, 200))
    route = choose(chat(199), CATALOG, HeldPolicy(PromptLength(150), share, "a"))
    assert route.model.name == "dear"


def test_lots_are_spread_evenly_and_those_of_like_ids_apart() -> None:
    lots = sorted(map(lot_of, IDS))
    assert max(abs(lot - place / len(lots)) for place, lot in enumerate(lots)) < 0.05
    assert abs(lot_of("request-1") - lot_of("request-2")) > 0.01
