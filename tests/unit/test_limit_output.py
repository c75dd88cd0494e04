"""A request's answer can be limited to what a budget affords; all else of its body stays as it came."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.apis import Api
from gateway.catalog import Model
from gateway.errors import InvalidRequest
from gateway.passage import PassThrough, Translated, passage
from gateway.prices import TokenPrice
from gateway.schema.base import ModelRequest
from gateway.schema.chat import parse_chat_request
from gateway.schema.messages import parse_messages_request
from gateway.schema.prompts import parse_completion_request, parse_embedding_request
from gateway.schema.responses import parse_responses_request
from gateway.worst_case import worst_case

PRICE = TokenPrice(Decimal(1), Decimal("0.1"), Decimal(5))
OPENAI = "https://api.openai.com/v1"
EVERYTHING = Model("All", "http://all/v1", "all-1", None, PRICE, apis=frozenset(Api))
AT_OPENAI = Model("All", OPENAI, "all-1", None, PRICE, apis=frozenset(Api))
CHAT_ONLY = Model("Chat", "http://chat/v1", "chat-1", None, PRICE)
CHAT_AT_OPENAI = Model("Chat", OPENAI, "chat-1", None, PRICE)
PARSE: dict[Api, Callable[[bytes], ModelRequest]] = {
    Api.CHAT_COMPLETIONS: parse_chat_request,
    Api.COMPLETIONS: parse_completion_request,
    Api.EMBEDDINGS: parse_embedding_request,
    Api.MESSAGES: parse_messages_request,
    Api.RESPONSES: parse_responses_request,
}
# The bytes around what changes are odd on purpose: they must all stay. `%s` is where a limit may stand.
BODIES = {
    Api.CHAT_COMPLETIONS: '{ "messages":[{"role":"user","content":"h\\u00e9"}],%s\n"model":"all-1", "z":1E2}',
    Api.COMPLETIONS: '{ "prompt" : "h\\u00e9",%s\n"model":"all-1", "z":1E2 }',
    Api.MESSAGES: '{ "messages":[{"role":"user","content":"h\\u00e9"}],%s\n"model":"all-1", "z":1E2 }',
    Api.RESPONSES: '{ "input" : "h\\u00e9",%s\n"model":"all-1", "z":1E2 }',
}
NAMES = [
    (Api.CHAT_COMPLETIONS, "max_tokens"),
    (Api.CHAT_COMPLETIONS, "max_completion_tokens"),
    (Api.COMPLETIONS, "max_tokens"),
    (Api.MESSAGES, "max_tokens"),
    (Api.RESPONSES, "max_output_tokens"),
]
EACH_NAME = pytest.mark.parametrize(("api", "name"), NAMES)


def limited(api: Api, body: str, most: int, model: Model = EVERYTHING) -> str:
    way = passage(PARSE[api](body.encode()), model)
    assert isinstance(way, PassThrough)
    way.limit_output(most)
    return way.body.decode()


@EACH_NAME
def test_the_client_s_own_limit_is_lowered_where_it_stands(api: Api, name: str) -> None:
    body = BODIES[api] % f' "{name}" :  100,'
    assert limited(api, body, 64) == body.replace("100", "64")


@EACH_NAME
@pytest.mark.parametrize("own", ["1", "63", "64"])
def test_a_limit_of_the_client_s_that_allows_no_more_stays(api: Api, name: str, own: str) -> None:
    body = BODIES[api] % f' "{name}" :  {own},'
    assert limited(api, body, 64) == body


@pytest.mark.parametrize(
    ("api", "name", "own"),
    [
        *((api, name, "9999999999999999999999") for api, name in NAMES),
        (Api.COMPLETIONS, "max_tokens", "0"),
        (Api.MESSAGES, "max_tokens", "0"),
        (Api.MESSAGES, "max_tokens", "-1"),
        (Api.RESPONSES, "max_output_tokens", "0"),
        (Api.RESPONSES, "max_output_tokens", "-1"),
    ],
)
def test_a_number_that_limits_nothing_gives_way_to_the_limit(api: Api, name: str, own: str) -> None:
    body = BODIES[api] % f' "{name}" :  {own},'
    assert limited(api, body, 64) == BODIES[api] % f' "{name}" :  64,'


@EACH_NAME
@pytest.mark.parametrize("own", ["1e2", "64.5", "10.0", '"10"', "true", "[1]"])
def test_a_limit_that_programs_read_differently_gets_nowhere(api: Api, name: str, own: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        limited(api, BODIES[api] % f' "{name}" :  {own},', 64)
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("own", "becomes"), [((100, 200), (64, 64)), ((10, 200), (10, 64)), ((100, 20), (64, 20))]
)
def test_of_two_limits_both_hold(own: tuple[int, int], becomes: tuple[int, int]) -> None:
    body = BODIES[Api.CHAT_COMPLETIONS] % '"max_tokens":%d, "max_completion_tokens" :%d,'
    assert limited(Api.CHAT_COMPLETIONS, body % own, 64) == body % becomes


@pytest.mark.parametrize(
    ("api", "model", "name"),
    [
        (Api.CHAT_COMPLETIONS, EVERYTHING, "max_tokens"),
        (Api.CHAT_COMPLETIONS, AT_OPENAI, "max_completion_tokens"),
        (Api.COMPLETIONS, AT_OPENAI, "max_tokens"),
        (Api.MESSAGES, AT_OPENAI, "max_tokens"),
        (Api.RESPONSES, AT_OPENAI, "max_output_tokens"),
    ],
)
def test_where_the_client_gave_none_it_is_added_by_the_name_that_the_provider_reads(
    api: Api, model: Model, name: str
) -> None:
    body = BODIES[api] % ""
    assert limited(api, body, 64, model) == body.replace("{", f'{{"{name}":64,', 1)


def test_a_limit_of_null_is_none() -> None:
    body = BODIES[Api.CHAT_COMPLETIONS] % '"max_tokens" : null,'
    assert limited(Api.CHAT_COMPLETIONS, body, 64) == body.replace("null", "64")
    assert limited(Api.CHAT_COMPLETIONS, body, 64, AT_OPENAI) == (
        body.replace("{", '{"max_completion_tokens":64,', 1)
    )


def test_embeddings_have_no_limit_and_stay() -> None:
    body = '{ "input" : ["h\\u00e9"],"max_tokens":100, "model":"all-1" }'
    assert limited(Api.EMBEDDINGS, body, 64) == body


@pytest.mark.parametrize("api", [Api.CHAT_COMPLETIONS, Api.COMPLETIONS])
def test_a_stream_asks_for_its_usage_as_without_a_limit(api: Api) -> None:
    body = BODIES[api] % '"stream":true, "stream_options":{"x":1}, "max_tokens":100,'
    assert limited(api, body, 64) == BODIES[api] % (
        '"stream":true, "stream_options":{"x":1,"include_usage":true}, "max_tokens":64,'
    )


def test_the_model_s_name_changes_as_without_a_limit() -> None:
    body = BODIES[Api.CHAT_COMPLETIONS] % '"max_tokens":100,'
    assert limited(Api.CHAT_COMPLETIONS, body.replace("all-1", "All"), 64) == body.replace("100", "64")


@pytest.mark.parametrize("api", [Api.MESSAGES, Api.CHAT_COMPLETIONS])
@pytest.mark.parametrize(
    ("budget", "most", "becomes"),
    [
        (9000, 9000, '{"type":"enabled","budget_tokens":8999}'),
        (9000, 4096, '{"type":"enabled","budget_tokens":4095}'),
        (9000, 1025, '{"type":"enabled","budget_tokens":1024}'),
        (9000, 1024, '{"type":"disabled"}'),
        (1024, 1024, '{"type":"disabled"}'),
        (1024, 64, '{"type":"disabled"}'),
        (1024, 1025, None),
        (9000, 9001, None),
    ],
)
def test_thinking_stays_below_the_limit_or_ends(
    api: Api, budget: int, most: int, becomes: str | None
) -> None:
    thinking = f'{{ "type" : "enabled", "budget_tokens" : {budget} }}'
    body = BODIES[api] % f' "max_tokens":10000 , "thinking": {thinking} ,'
    changed = body.replace("10000", str(most)).replace(thinking, becomes or thinking)
    assert limited(api, body, most) == changed


@pytest.mark.parametrize(
    "thinking",
    [
        '{ "type" : "adaptive" }',
        '{ "type" : "disabled" }',
        '{"budget_tokens" : "9000"}',
        "null",
        "9000",
        "[]",
    ],
)
def test_other_thinking_stays_as_it_came(thinking: str) -> None:
    body = BODIES[Api.MESSAGES] % f'"max_tokens":100, "thinking": {thinking},'
    assert limited(Api.MESSAGES, body, 64) == body.replace("100", "64")


def test_thinking_stays_where_the_client_s_limit_does() -> None:
    # Between calls of tools a budget may be larger than one answer.
    body = BODIES[Api.MESSAGES] % '"max_tokens":100, "thinking": {"type":"enabled","budget_tokens":9000},'
    assert limited(Api.MESSAGES, body, 100) == body


@pytest.mark.parametrize(
    ("model", "name"), [(CHAT_ONLY, "max_tokens"), (CHAT_AT_OPENAI, "max_completion_tokens")]
)
@pytest.mark.parametrize(
    ("api", "fields"),
    [
        (Api.RESPONSES, {"input": "hé"}),
        (Api.RESPONSES, {"input": "hé", "max_output_tokens": 100}),
        (Api.RESPONSES, {"input": "hé", "max_output_tokens": 100, "stream": True}),
        (Api.MESSAGES, {"messages": [{"role": "user", "content": "hé"}], "max_tokens": 100}),
    ],
)
def test_a_translated_request_is_limited_by_the_provider_s_name_for_it(
    api: Api, fields: dict[str, Any], model: Model, name: str
) -> None:
    way = passage(PARSE[api](json.dumps(fields).encode()), model)
    assert isinstance(way, Translated)
    before = json.loads(way.body)

    way.limit_output(200)
    assert json.loads(way.body) == before | ({} if name in before else {name: 200})
    way.limit_output(64)
    assert json.loads(way.body) == before | {name: 64}
    assert "é" in way.body.decode()


@given(
    st.sampled_from(sorted(BODIES)),
    st.sampled_from([EVERYTHING, AT_OPENAI, CHAT_ONLY, CHAT_AT_OPENAI]),
    st.none() | st.integers(1, 5000),
    st.integers(1, 3),
    st.decimals("0.0001", "0.05", places=7),
)
def test_a_limited_request_costs_no_more_than_it_was_limited_to(
    api: Api, model: Model, own: int | None, choices: int, usd: Decimal
) -> None:
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", "input": "hi"}
    if api in (Api.RESPONSES, Api.MESSAGES):  # translations refuse what they do not know
        del fields["prompt"], fields["input" if api is Api.MESSAGES else "messages"]
    else:
        fields["n"] = choices
    name = "max_output_tokens" if api is Api.RESPONSES else "max_tokens"
    if own is not None or api is Api.MESSAGES:
        fields[name] = own or 5000
    if not model.answers(api):
        model = EVERYTHING
    asked = PARSE[api](json.dumps(fields).encode())
    way = passage(asked, model)
    case = worst_case(asked, way)
    tokens = case.affordable_tokens(usd)
    assert tokens > 0

    way.limit_output(tokens)

    sent = PARSE[way.api](way.body)
    assert sent.max_output_tokens == tokens
    assert worst_case(sent, passage(sent, model)).cost <= usd
