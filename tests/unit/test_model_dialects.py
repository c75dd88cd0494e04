"""What holds in every dialect of the mocks: the bill, the faults, and who is at fault."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from cheap_model.app import PROFILE
from model_server.app import create_app
from model_server.config import Settings

FAST = Settings(first_token_seconds=0, token_interval_seconds=0, max_body_bytes=200_000)


@dataclass(frozen=True)
class Dialect:
    """A request of it, the tokens that it costs, and the words that end its stream."""

    path: str
    hello: dict[str, Any]
    input_tokens: int
    output_tokens: int
    end: bytes = b""

    @property
    def streamed(self) -> dict[str, Any]:
        return {**self.hello, "stream": True}


CHAT = Dialect(
    "/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}, 8, 5, b"data: [DONE]\n\n"
)
TEXT = Dialect("/v1/completions", {"prompt": "Hello"}, 2, 5, b"data: [DONE]\n\n")
MESSAGES = Dialect(
    "/v1/messages",
    {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 99},
    8,
    5,
    b"event: message_stop\n",
)
RESPONSES = Dialect("/v1/responses", {"input": "Hello"}, 8, 5, b"event: response.completed\n")
EMBEDDINGS = Dialect("/v1/embeddings", {"input": "Hello"}, 2, 0)
PIECES = [b'"Chea"', b'"pMod"', b'"el: "', b'"Hell"', b'"o"']
STREAMING = [CHAT, TEXT, MESSAGES, RESPONSES]
ALL = [*STREAMING, EMBEDDINGS]


def named(dialect: Dialect) -> str:
    return dialect.path.removeprefix("/v1/")


each = pytest.mark.parametrize("dialect", ALL, ids=named)
each_streaming = pytest.mark.parametrize("dialect", STREAMING, ids=named)


@pytest.fixture
def client() -> FlaskClient:
    return create_app(PROFILE, FAST).test_client()


def post(client: FlaskClient, dialect: Dialect, body: object, fault: str | None = None) -> Any:
    headers = {"X-Mock-Fault": fault} if fault else {}
    return client.post(dialect.path, data=json.dumps(body), headers=headers, buffered=False)


def billed(client: FlaskClient) -> tuple[int, int, int]:
    totals = json.loads(client.get("/ledger").data, parse_float=Decimal)
    return totals["calls"], totals["input_tokens"], totals["output_tokens"]


def keys_of(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def data_of(stream: bytes) -> list[str]:
    lines = stream.decode().splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


@each
def test_a_whole_answer_is_billed(client: FlaskClient, dialect: Dialect) -> None:
    assert post(client, dialect, dialect.hello).status_code == 200
    assert billed(client) == (1, dialect.input_tokens, dialect.output_tokens)


@each_streaming
def test_a_stream_is_billed_before_the_event_that_makes_it_whole(
    client: FlaskClient, dialect: Dialect
) -> None:
    for event in post(client, dialect, dialect.streamed).iter_encoded():
        whole = event.startswith(dialect.end)
        expected = (1, dialect.input_tokens, dialect.output_tokens) if whole else (1, 0, 0)
        assert billed(client) == expected
    assert whole


@each_streaming
def test_a_stream_that_its_client_leaves_is_billed_up_to_there(client: FlaskClient, dialect: Dialect) -> None:
    for events in range(1, 30):
        before = billed(client)
        response = post(client, dialect, dialect.streamed)
        stream = response.iter_encoded()
        received = b"".join(event for _, event in zip(range(events), stream, strict=False))
        response.close()
        calls, input_tokens, output_tokens = (a - b for a, b in zip(billed(client), before, strict=True))
        assert (calls, input_tokens) == (1, dialect.input_tokens)
        assert output_tokens == sum(piece in received for piece in PIECES)
        if dialect.end in received:
            return
    pytest.fail("the stream did not end")


@each_streaming
def test_a_cut_stream_is_billed_up_to_the_cut(client: FlaskClient, dialect: Dialect) -> None:
    response = post(client, dialect, dialect.streamed, "cut_midstream")
    received: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        received.extend(response.iter_encoded())
    response.close()
    calls, input_tokens, output_tokens = billed(client)
    assert (calls, input_tokens) == (1, dialect.input_tokens)
    assert 0 < output_tokens < dialect.output_tokens
    assert dialect.end not in b"".join(received)


@each_streaming
def test_a_stream_that_is_cut_before_its_content_costs_the_prompt(
    client: FlaskClient, dialect: Dialect
) -> None:
    response = post(client, dialect, dialect.streamed, "cut_before_content")
    received: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        received.extend(response.iter_encoded())
    response.close()
    assert billed(client) == (1, dialect.input_tokens, 0)
    assert not any(piece in b"".join(received) for piece in PIECES)


@each
def test_an_injected_status_is_an_unbilled_error(client: FlaskClient, dialect: Dialect) -> None:
    response = post(client, dialect, dialect.hello, "status=429,retry_after=7")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert "error" in response.json
    assert billed(client) == (0, 0, 0)


@each
def test_malformed_json_is_broken_and_billed(client: FlaskClient, dialect: Dialect) -> None:
    response = post(client, dialect, dialect.hello, "malformed_json")
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.data)
    assert billed(client) == (1, dialect.input_tokens, dialect.output_tokens)


@each_streaming
def test_one_event_of_a_malformed_stream_is_broken(client: FlaskClient, dialect: Dialect) -> None:
    stream = post(client, dialect, dialect.streamed, "malformed_json").data
    broken = 0
    for data in data_of(stream.replace(CHAT.end, b"")):
        try:
            json.loads(data)
        except json.JSONDecodeError:
            broken += 1
    assert broken == 1
    assert dialect.end in stream
    assert billed(client) == (1, dialect.input_tokens, dialect.output_tokens)


@each
def test_half_of_an_answer_that_is_cut_arrives(client: FlaskClient, dialect: Dialect) -> None:
    response = post(client, dialect, dialect.hello, "cut_midstream")
    received: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        received.extend(response.iter_encoded())
    assert len(received[0]) == response.content_length // 2
    assert billed(client) == (1, dialect.input_tokens, dialect.output_tokens)


@each
def test_an_answer_that_is_cut_before_its_content_is_billed(client: FlaskClient, dialect: Dialect) -> None:
    response = post(client, dialect, dialect.hello, "cut_before_content")
    received: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        received.extend(response.iter_encoded())
    assert (response.status_code, b"".join(received)) == (200, b"")
    assert response.content_length > 0
    assert billed(client) == (1, dialect.input_tokens, dialect.output_tokens)


@each
def test_usage_that_is_not_stated_is_billed(client: FlaskClient, dialect: Dialect) -> None:
    stated = post(client, dialect, dialect.hello).json
    unstated = post(client, dialect, dialect.hello, "no_usage").json
    assert "usage" in stated
    assert "usage" not in set(keys_of(unstated))
    assert list(unstated) == [key for key in stated if key != "usage"]
    assert billed(client) == (2, 2 * dialect.input_tokens, 2 * dialect.output_tokens)


@each_streaming
def test_usage_that_a_stream_does_not_state_is_billed(client: FlaskClient, dialect: Dialect) -> None:
    body = dialect.streamed
    if dialect.end == CHAT.end:
        body["stream_options"] = {"include_usage": True}
    assert b'"usage":{' in post(client, dialect, body).data
    unstated = post(client, dialect, body, "no_usage").data
    assert b'"usage"' not in unstated
    assert dialect.end in unstated
    assert billed(client) == (2, 2 * dialect.input_tokens, 2 * dialect.output_tokens)


@each
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"a":NaN}', b'{"a":"\\ud83d"}', b"[" * 99_999])
def test_what_is_no_json_object_is_refused(client: FlaskClient, dialect: Dialect, body: bytes) -> None:
    response = client.post(dialect.path, data=body)
    assert response.status_code == 400
    assert response.mimetype == "application/json"
    assert billed(client) == (0, 0, 0)


@each
def test_a_prompt_that_is_missing_is_refused(client: FlaskClient, dialect: Dialect) -> None:
    response = post(client, dialect, {"max_tokens": 5})
    assert response.status_code == 400
    assert f"'{next(iter(dialect.hello))}'" in response.json["error"]["message"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
FIELDS = [
    "model",
    "n",
    "max_tokens",
    "temperature",
    "stop",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "messages",
    "role",
    "content",
    "type",
    "text",
    "prompt",
    "input",
    "dimensions",
    "encoding_format",
    "system",
    "instructions",
    "tool_use_id",
    "source",
    "output",
    "call_id",
    "output_config",
    "max_output_tokens",
    "previous_response_id",
    "metadata",
    "reasoning",
    "store",
]


def nearly(value: Any) -> st.SearchStrategy[Any]:
    """Values like this one in which something may be wrong."""
    if isinstance(value, dict):
        kept = st.fixed_dictionaries({key: nearly(inner) for key, inner in value.items()})
        more = st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=1)
        built: st.SearchStrategy[Any] = st.builds(lambda base, extra: {**base, **extra}, kept, more)
    elif isinstance(value, list):
        built = st.tuples(*map(nearly, value)).map(list)
    else:
        built = st.just(value)
    # Mostly as it was: one fault at a time leads deepest.
    return st.integers(0, 9).flatmap(lambda die: JSON_VALUES if die == 0 else built)


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}
IMAGE = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
# Requests that use all that a dialect offers.
RICH: dict[str, list[dict[str, Any]]] = {
    CHAT.path: [
        {
            **CHAT.streamed,
            "stream_options": {"include_usage": True},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
            "tool_choice": "required",
            "parallel_tool_calls": True,
        }
    ],
    TEXT.path: [{"prompt": [[1, 2], [3]], "n": 2, "stop": ["a"], "max_tokens": 3}],
    EMBEDDINGS.path: [{"input": ["a", "b"], "dimensions": 3, "encoding_format": "base64"}],
    MESSAGES.path: [
        {
            "max_tokens": 9,
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": IMAGE}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
            ],
            "tools": [{"name": "f", "input_schema": SCHEMA}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": False},
        },
        {
            **MESSAGES.hello,
            "stop_sequences": ["a"],
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        },
    ],
    RESPONSES.path: [
        {
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "x"},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
            "tool_choice": "required",
            "parallel_tool_calls": True,
            "metadata": {"a": "b"},
        },
        {"input": "x", "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
    ],
}


@each
def test_all_that_a_dialect_offers_is_understood(client: FlaskClient, dialect: Dialect) -> None:
    for body in RICH[dialect.path]:
        response = post(client, dialect, body)
        assert response.status_code == 200, response.data


@each
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_request_whatever_is_the_servers_fault(dialect: Dialect, data: st.DataObject) -> None:
    body = data.draw(st.sampled_from([dialect.hello, *RICH[dialect.path]]).flatmap(nearly))
    response = post(create_app(PROFILE, FAST).test_client(), dialect, body)
    assert response.status_code in (200, 400), response.data
    if response.mimetype == "application/json":
        json.loads(response.data, parse_constant=pytest.fail)
