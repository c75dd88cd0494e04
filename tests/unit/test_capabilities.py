"""A request goes only to models that can answer it, before any policy is asked."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis import Api
from gateway.catalog import ASSUMED_CAPABILITIES, CAPABILITIES, Catalog, Model
from gateway.errors import ContextTooLong, InvalidRequest
from gateway.prices import TokenPrice
from gateway.router import able_models, choose, obstacle_to
from gateway.routing.policy import PromptLength
from gateway.schema.base import ModelRequest
from gateway.schema.chat import parse_chat_request
from gateway.schema.messages import parse_messages_request
from gateway.schema.prompts import parse_completion_request, parse_embedding_request
from gateway.schema.responses import parse_responses_request

IMAGE = "data:image/png;base64,AAAA"
LONG = "x" * 200
PDF = {"media_type": "application/pdf", "data": "AA"}
SCHEMA = {"type": "object", "properties": {}}


def model(name: str, usd: int, **fields: Any) -> Model:
    price = TokenPrice(Decimal(usd), Decimal(usd), Decimal(usd))
    return Model(name, f"http://{name}/v1", name, None, price, **fields)


def lacking(*capabilities: str) -> frozenset[str]:
    return ASSUMED_CAPABILITIES - set(capabilities)


def chat(content: Any = "hi", **fields: Any) -> ModelRequest:
    body = {"messages": [{"role": "user", "content": content}], **fields}
    return parse_chat_request(json.dumps(body).encode())


def messages(content: Any = "hi", **fields: Any) -> ModelRequest:
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 10, **fields}
    return parse_messages_request(json.dumps(body).encode())


def responses(content: Any = "hi", **fields: Any) -> ModelRequest:
    body = {"input": [{"role": "user", "content": content}], **fields}
    return parse_responses_request(json.dumps(body).encode())


NEEDS: list[tuple[str, ModelRequest]] = [
    ("images", chat([{"type": "image_url", "image_url": {"url": IMAGE}}])),
    ("audio", chat([{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}])),
    ("audio", chat(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"})),
    ("files", chat([{"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}])),
    ("tools", chat(tools=[{"type": "function", "function": {"name": "f"}}])),
    ("tools", chat(functions=[{"name": "f"}])),
    ("json_schema", chat(response_format={"type": "json_schema", "json_schema": {"name": "a"}})),
    ("streaming", chat(stream=True)),
    ("images", messages([{"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}])),
    ("files", messages([{"type": "document", "source": {**PDF, "type": "base64"}}])),
    ("tools", messages(tools=[{"name": "f", "input_schema": SCHEMA}])),
    ("json_schema", messages(output_config={"format": {"type": "json_schema", "schema": SCHEMA}})),
    ("streaming", messages(stream=True)),
    ("images", responses([{"type": "input_image", "image_url": IMAGE}])),
    ("files", responses([{"type": "input_file", "file_data": "AA", "filename": "a.pdf"}])),
    ("tools", responses(tools=[{"type": "function", "name": "f", "parameters": SCHEMA}])),
    ("json_schema", responses(text={"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}})),
    ("streaming", responses(stream=True)),
]  # fmt: skip
EACH_NEED = pytest.mark.parametrize(
    ("need", "request_"), NEEDS, ids=[f"{request.api} {need} {i}" for i, (need, request) in enumerate(NEEDS)]
)


@EACH_NEED
def test_a_short_prompt_goes_past_a_cheap_model_that_cannot_answer_it(
    need: str, request_: ModelRequest
) -> None:
    catalog = Catalog(model("cheap", 1, capabilities=lacking(need)), model("middle", 2), model("dear", 3))
    route = choose(request_, catalog, PromptLength(150))
    assert route.model.name == "middle"
    assert "2 of 3 models can answer" in route.reason


@EACH_NEED
def test_a_model_that_can_do_nothing_else_is_enough(need: str, request_: ModelRequest) -> None:
    assert request_.capabilities == {need}
    assert (
        choose(
            request_, Catalog(model("only", 1, capabilities=frozenset({need}))), PromptLength(150)
        ).model.name
        == "only"
    )


@EACH_NEED
@pytest.mark.parametrize("names", [1, 2])
def test_where_no_model_can_the_client_is_told_why(need: str, request_: ModelRequest, names: int) -> None:
    catalog = Catalog(*(model(f"m{i}", i, capabilities=lacking(need)) for i in range(names)))
    with pytest.raises(InvalidRequest, match="lacks what this request needs") as refused:
        choose(request_, catalog, PromptLength(150))
    assert need.replace("json_schema", "JSON schema") in refused.value.message
    assert (refused.value.status, refused.value.type) == (400, "invalid_request_error")


def test_a_model_that_the_client_names_is_held_to_the_same() -> None:
    catalog = Catalog(model("cheap", 1, capabilities=lacking("tools")), model("dear", 3))
    tools = [{"type": "function", "function": {"name": "f"}}]
    with pytest.raises(InvalidRequest, match="cheap lacks") as refused:
        choose(chat(model="cheap", tools=tools), catalog, PromptLength(150))
    assert refused.value.param == "tools"
    assert choose(chat(model="dear", tools=tools), catalog, PromptLength(150)).model.name == "dear"


def test_a_long_prompt_goes_to_the_dearest_that_can() -> None:
    catalog = Catalog(model("cheap", 1), model("middle", 2), model("dear", 3, capabilities=lacking("images")))
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    assert choose(chat([{"type": "text", "text": LONG}]), catalog, PromptLength(150)).model.name == "dear"
    assert (
        choose(chat([{"type": "text", "text": LONG}, image]), catalog, PromptLength(150)).model.name
        == "middle"
    )


# 3 tokens for the request, 3 for the message, and one for every four characters.
@pytest.mark.parametrize(
    ("characters", "fields", "name"),
    [
        (4 * 94, {}, "small"),
        (4 * 94 + 1, {}, "large"),
        (4 * 84, {"max_tokens": 10}, "small"),
        (4 * 84, {"max_completion_tokens": 11}, "large"),
        (4, {"max_tokens": 200}, "large"),
    ],
)
def test_a_longer_context_goes_to_a_model_that_has_room_for_it(
    characters: int, fields: dict[str, Any], name: str
) -> None:
    catalog = Catalog(model("small", 1, context_window=100), model("large", 2, context_window=1000))
    assert choose(chat("x" * characters, **fields), catalog, PromptLength(10**6)).model.name == name


@pytest.mark.parametrize("parse", [chat, messages, responses])
@pytest.mark.parametrize("name", ["auto", "small"])
def test_a_context_too_long_for_all_is_told_as_openai_tells_it(parse: Any, name: str) -> None:
    with pytest.raises(ContextTooLong, match="context window of 100 tokens") as refused:
        choose(
            parse("x" * 1000, model=name), Catalog(model("small", 1, context_window=100)), PromptLength(150)
        )
    assert refused.value.code == "context_length_exceeded"


def test_a_model_that_is_not_for_auto_answers_by_name_alone() -> None:
    catalog = Catalog(model("cheap", 1), model("dear", 3, auto=False))
    assert choose(chat(LONG), catalog, PromptLength(150)).model.name == "cheap"
    assert choose(chat("hi", model="dear"), catalog, PromptLength(150)).model.name == "dear"


def test_where_no_model_is_for_auto_a_request_must_name_one() -> None:
    catalog = Catalog(model("dear", 3, auto=False))
    with pytest.raises(InvalidRequest) as refused:
        choose(chat(), catalog, PromptLength(150))
    assert refused.value.param == "model"


EMBEDDINGS = parse_embedding_request(b'{"input": "x"}')
COMPLETION = parse_completion_request(b'{"prompt": "x"}')


@pytest.mark.parametrize("request_", [EMBEDDINGS, COMPLETION])
def test_embeddings_and_completions_go_to_models_that_declare_them(request_: ModelRequest) -> None:
    able = model("able", 2, apis=frozenset({request_.api}))
    assert choose(request_, Catalog(model("chat", 1), able), PromptLength(150)).model.name == "able"
    with pytest.raises(InvalidRequest, match=f"No configured model serves {request_.api}") as refused:
        choose(request_, Catalog(model("chat", 1)), PromptLength(150))
    assert refused.value.param == "model"


@pytest.mark.parametrize("request_", [chat(), messages(), responses()])
def test_chats_do_not_go_to_models_of_embeddings(request_: ModelRequest) -> None:
    embedder = model("embedder", 1, apis=frozenset({Api.EMBEDDINGS}))
    assert choose(request_, Catalog(embedder, model("chat", 2)), PromptLength(150)).model.name == "chat"
    with pytest.raises(InvalidRequest):
        choose(request_, Catalog(embedder), PromptLength(150))


def test_what_a_provider_has_kept_is_asked_of_one_that_keeps_answers() -> None:
    native = model("native", 2, apis=frozenset({Api.CHAT_COMPLETIONS, Api.RESPONSES}))
    follow_up = responses(previous_response_id="resp_1")
    assert choose(follow_up, Catalog(model("chat", 1), native), PromptLength(150)).model.name == "native"
    with pytest.raises(InvalidRequest, match="keeps no earlier answers") as refused:
        choose(follow_up, Catalog(model("chat", 1)), PromptLength(150))
    assert refused.value.param == "previous_response_id"


def test_the_baseline_is_the_dearest_that_could_have_answered() -> None:
    catalog = Catalog(
        model("cheap", 1),
        model("middle", 2),
        model("blind", 3, capabilities=lacking("images")),
        model("by-name", 4, auto=False),
        model("embedder", 5, apis=frozenset({Api.EMBEDDINGS})),
    )
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    assert choose(chat(), catalog, PromptLength(150)).baseline.name == "blind"
    assert choose(chat(model="cheap"), catalog, PromptLength(150)).baseline.name == "blind"
    assert choose(chat([image]), catalog, PromptLength(150)).baseline.name == "middle"
    assert choose(EMBEDDINGS, catalog, PromptLength(150)).baseline.name == "embedder"
    only_by_name = Catalog(model("by-name", 4, auto=False))
    assert choose(chat(model="by-name"), only_by_name, PromptLength(150)).baseline.name == "by-name"


def test_a_dearer_model_that_the_client_named_is_its_own_baseline() -> None:
    catalog = Catalog(model("cheap", 1), model("dear", 3), model("by-name", 9, auto=False))
    assert choose(chat(model="by-name"), catalog, PromptLength(150)).baseline.name == "by-name"
    assert choose(chat(model="cheap"), catalog, PromptLength(150)).baseline.name == "dear"


ASKED = [request for _, request in NEEDS] + [
    chat(),
    chat(LONG, max_tokens=1000),
    chat(max_tokens=10**400),
    messages(),
    messages(thinking={"type": "enabled", "budget_tokens": 1024}),
    responses(),
    responses(previous_response_id="resp_1"),
    responses(LONG, max_output_tokens=500),
    parse_completion_request(b'{"prompt": "hi"}'),
    parse_embedding_request(b'{"input": "hi"}'),
]


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    models = [
        model(
            f"m{number}",
            draw(st.integers(1, 3)),
            apis=draw(st.frozensets(st.sampled_from(Api), min_size=1)),
            capabilities=CAPABILITIES
            - draw(st.frozensets(st.sampled_from(sorted(CAPABILITIES)), max_size=2)),
            context_window=draw(st.sampled_from([None, 1, 20, 100, 600, 10**6])),
            auto=draw(st.integers(0, 4)) > 0,
        )
        for number in range(draw(st.integers(0, 8)))
    ]
    return Catalog(*models)


@given(catalogs(), st.data())
def test_what_a_catalog_remembers_is_what_each_model_says_of_itself(
    catalog: Catalog, data: st.DataObject
) -> None:
    parts = [catalog]
    for _ in range(data.draw(st.integers(0, 6))):
        part = data.draw(st.sampled_from(parts))
        names = data.draw(st.frozensets(st.sampled_from([*catalog.names, "gone"])))
        api = data.draw(st.sampled_from(Api))
        for smaller, expected in (
            (part.only(names), [each for each in part if each.name in names]),
            (part.speaking(api), [each for each in part if api in each.apis]),
        ):
            assert list(smaller) == expected
            parts.append(smaller)
    for part in data.draw(st.permutations(parts)):
        assert part.count_of_auto == sum(each.auto for each in part)
        assert [part.place_of(part.named(name)) for name in part.names] == list(range(len(part)))
        for request in data.draw(st.lists(st.sampled_from(ASKED), min_size=1, max_size=5)):
            able = [each for each in part if each.auto and obstacle_to(request, each) is None]
            assert list(able_models(request, part)) == able
