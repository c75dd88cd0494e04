"""Where a request goes when its model has failed, and what a model's table says about failing."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.apis import Api
from gateway.catalog import Catalog, Model
from gateway.config import Settings
from gateway.environment import InvalidSetting
from gateway.models_file import load_catalog
from gateway.prices import TokenPrice
from gateway.router import choose, fallbacks
from gateway.routing.policy import PromptLength
from gateway.schema.chat import parse_chat_request
from gateway.schema.responses import parse_responses_request
from gateway.timeouts import Timeouts

PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


def model(name: str, usd: int, **fields: Any) -> Model:
    price = TokenPrice(Decimal(usd), Decimal(usd), Decimal(usd))
    return Model(name, f"http://{name}/v1", name, None, price, **fields)


A, B, C, D = (model(name, usd) for usd, name in enumerate("abcd", start=1))


def names_after(
    failed: str, *models: Model, asks_for: str = "auto", content: object = "hi", **body: Any
) -> str:
    """The names of the models that are asked when `failed` has failed, in their order."""
    catalog = Catalog(*models, auto_aliases=["gpt-*"])
    values = {"model": asks_for, "messages": [{"role": "user", "content": content}], **body}
    request = parse_chat_request(json.dumps(values).encode())
    route = choose(request, catalog, PromptLength(150))
    if route.model.name != failed:
        route = next(each for each in fallbacks(request, catalog, route) if each.model.name == failed)
    return "".join(each.model.name for each in fallbacks(request, catalog, route))


@pytest.mark.parametrize(("failed", "then"), [("a", "bcd"), ("b", "cda"), ("c", "dba"), ("d", "cba")])
def test_the_next_dearer_ones_are_asked_then_the_next_cheaper_ones(failed: str, then: str) -> None:
    assert names_after(failed, A, B, C, D) == then


def test_whoever_means_auto_by_another_name_has_left_the_choice_too() -> None:
    assert names_after("a", A, B, asks_for="gpt-5") == "b"


def test_a_model_that_was_named_is_replaced_by_those_alone_that_it_lists() -> None:
    listing = model("b", 2, fallbacks=("d", "a"))
    assert names_after("b", A, listing, C, D, asks_for="b") == "da"
    assert names_after("c", A, listing, C, D, asks_for="c") == ""


def test_a_list_counts_for_those_too_who_left_the_choice() -> None:
    assert names_after("a", model("a", 1, fallbacks=("c",)), B, C) == "c"
    assert names_after("a", model("a", 1, fallbacks=()), B, C) == ""


def test_a_model_that_is_not_auto_is_asked_only_where_it_is_listed() -> None:
    hidden = model("c", 3, auto=False)
    assert names_after("a", A, B, hidden) == "b"
    assert names_after("a", model("a", 1, fallbacks=("c", "b")), B, hidden) == "cb"


@pytest.mark.parametrize(
    ("lacking", "body"),
    [
        ({"capabilities": frozenset({"tools"})}, {"content": PICTURE}),
        (
            {"capabilities": frozenset({"images"})},
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
        ),
        ({"capabilities": frozenset({"tools"})}, {"stream": True}),
        ({"context_window": 100}, {"max_tokens": 99}),
        ({"apis": frozenset({Api.EMBEDDINGS})}, {}),
    ],
    ids=["images", "tools", "streaming", "window", "api"],
)
def test_a_model_that_cannot_serve_the_request_is_never_asked(
    lacking: dict[str, Any], body: dict[str, Any]
) -> None:
    assert names_after("a", A, model("b", 2, **lacking), C, **body) == "c"
    listing = model("a", 1, fallbacks=("b", "c"))
    assert names_after("a", listing, model("b", 2, **lacking), C, asks_for="a", **body) == "c"


@pytest.mark.parametrize(
    "earlier",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
    ],
    ids=["response", "conversation", "prompt", "item", "file"],
)
def test_what_a_provider_keeps_is_asked_of_nobody_else(earlier: dict[str, Any]) -> None:
    home, sibling, stranger, elsewhere = (
        replace(each, apis=frozenset({Api.RESPONSES})) for each in (A, B, C, D)
    )
    sibling = replace(sibling, base_url=home.base_url)
    elsewhere = replace(elsewhere, base_url=home.base_url, api_key="another account's")
    catalog = Catalog(home, sibling, stranger, elsewhere)

    assert names_of(catalog, {"input": "hi"}) == "bcd"
    assert names_of(catalog, {"input": "hi", **earlier}) == "b"


def names_of(catalog: Catalog, body: dict[str, Any]) -> str:
    request = parse_responses_request(json.dumps({"model": "auto", **body}).encode())
    route = choose(request, catalog, PromptLength(150))
    return "".join(each.model.name for each in fallbacks(request, catalog, route))


def test_a_key_is_taken_to_no_model_that_it_may_not_use() -> None:
    catalog = Catalog(model("a", 1, fallbacks=("b", "c")), B, C).only(frozenset("ac"))
    request = parse_chat_request(b'{"messages": [{"role": "user", "content": "hi"}]}')
    route = choose(request, catalog, PromptLength(150))
    assert [each.model.name for each in fallbacks(request, catalog, route)] == ["c"]


def test_the_reason_says_from_where_and_the_baseline_is_the_dearest() -> None:
    request = parse_chat_request(b'{"model": "a", "messages": [{"role": "user", "content": "hi"}]}')
    named = choose(request, Catalog(model("a", 1, fallbacks=("b",)), B), PromptLength(150))
    (route,) = fallbacks(request, Catalog(named.model, B), named)
    assert route.reason.endswith("; fell back from a")
    assert route.baseline is B
    assert (route.policy, named.policy) == ("requested", "requested")


def loaded(folder: Path, *lines: str, **environ: str) -> Catalog:
    file = folder / "models.toml"
    tables = [f'[{name}]\nbase_url = "http://{name}/v1"\nprice = "free"' for name in ("A", "B")]
    file.write_text("\n".join([tables[0], *lines, tables[1]]))
    return load_catalog(Settings.from_env({"MODELS_FILE": str(file), **environ}))


def test_a_table_can_say_what_happens_when_its_model_fails(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path, 'fallbacks = ["B"]', "slow_seconds = 2.5", "timeouts = {connect = 1, idle = 2.5}"
    )
    model = catalog.named("A")
    assert (model.fallbacks, model.slow_seconds) == (("B",), 2.5)
    assert model.timeouts == Timeouts(connect=1, first_byte=300, idle=2.5, total=600)


def test_what_a_table_leaves_out_is_as_the_settings_say(tmp_path: Path) -> None:
    catalog = loaded(
        tmp_path,
        "timeouts = {total = 7}",
        UPSTREAM_CONNECT_TIMEOUT_SECONDS="1",
        UPSTREAM_FIRST_BYTE_TIMEOUT_SECONDS="2",
        UPSTREAM_IDLE_TIMEOUT_SECONDS="3",
        REQUEST_TIMEOUT_SECONDS="4",
    )
    assert catalog.named("A").timeouts == Timeouts(1, 2, 3, 7)
    assert catalog.named("B").timeouts == Timeouts(1, 2, 3, 4)
    assert (catalog.named("B").fallbacks, catalog.named("B").slow_seconds) == (None, None)


@pytest.mark.parametrize(
    "line",
    [
        'fallbacks = "B"',
        'fallbacks = ["C"]',
        'fallbacks = ["A"]',
        "fallbacks = [1]",
        "timeouts = 5",
        "timeouts = {read = 5}",
        "timeouts = {idle = 0}",
        'timeouts = {idle = "5"}',
        "timeouts = {idle = true}",
        "timeouts = {total = 1e9}",
        "slow_seconds = -1",
        "slow_seconds = nan",
    ],
)
def test_what_a_table_cannot_say_is_refused_by_the_models_name(tmp_path: Path, line: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^MODELS_FILE: .*\bA\b"):
        loaded(tmp_path, line)
