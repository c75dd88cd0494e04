"""The mocks' HTTP interface, without a network."""

import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from cheap_model.app import PROFILE
from model_server.app import create_app
from model_server.config import Settings

URL = "/v1/chat/completions"
FAST = Settings(first_token_seconds=0, token_interval_seconds=0, max_body_bytes=200_000)
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
SHAPE = {"message", "type", "param", "code"}


@pytest.fixture
def client() -> FlaskClient:
    return create_app(PROFILE, FAST).test_client()


def ledger(client: FlaskClient) -> dict[str, Any]:
    totals: dict[str, Any] = json.loads(client.get("/ledger").data, parse_float=Decimal)
    return totals


def assert_error(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.data
    assert response.mimetype == "application/json"
    error: dict[str, Any] = response.json["error"]
    assert set(error) == SHAPE
    assert error["message"]
    return error


def test_a_completion_has_openais_shape(client: FlaskClient) -> None:
    body = client.post(URL, json={**HELLO, "model": "whatever"}).json
    assert body is not None
    assert body["id"].startswith("chatcmpl-")
    assert body["object"] == "chat.completion"
    assert body["model"] == "CheapModel"
    assert body["service_tier"] == "default"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "CheapModel: Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {
        "prompt_tokens": 8,
        "completion_tokens": 5,
        "total_tokens": 13,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def test_a_stream_is_events_up_to_done(client: FlaskClient) -> None:
    response = client.post(URL, json={**HELLO, "stream": True})
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Accel-Buffering"] == "no"
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    texts = [
        json.loads(event.removeprefix("data: "))["choices"][0]["delta"].get("content")
        for event in events[:-2]
    ]
    assert texts == ["", "Chea", "pMod", "el: ", "Hell", "o", None]


def test_the_model_can_be_listed_and_looked_up(client: FlaskClient) -> None:
    listed = client.get("/v1/models").json
    one = client.get("/v1/models/CheapModel").json
    assert listed == {"object": "list", "data": [one]}
    assert one is not None
    assert (one["id"], one["object"]) == ("CheapModel", "model")
    error = assert_error(client.get("/v1/models/some/other"), 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")


def test_health_needs_nothing(client: FlaskClient) -> None:
    assert client.get("/healthz").status_code == 200


def test_unknown_paths_and_methods_are_answered_as_json(client: FlaskClient) -> None:
    for path in ("/", "/v1", "//v1/models", "/v1/models/"):
        assert_error(client.get(path), 404)
    response = client.get(URL)
    assert_error(response, 405)
    assert "POST" in response.headers["Allow"]


def test_a_body_over_the_limit_is_refused(client: FlaskClient) -> None:
    error = assert_error(client.post(URL, data=b" " * (FAST.max_body_bytes + 1)), 413)
    assert error["code"] == "request_too_large"
    assert ledger(client)["calls"] == 0


def messages(*items: object) -> dict[str, object]:
    return {"messages": list(items)}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ("text", None),
        ({}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        (messages("hi"), "messages[0]"),
        (messages({"content": "hi"}), "messages[0].role"),
        (messages({"role": "robot", "content": "hi"}), "messages[0].role"),
        (messages({"role": ["user"], "content": "hi"}), "messages[0].role"),
        (messages({"role": "user"}), "messages[0].content"),
        (messages({"role": "user", "content": None}), "messages[0].content"),
        (messages({"role": "user", "content": 7}), "messages[0].content"),
        (messages({"role": "user", "content": []}), "messages[0].content"),
        (messages({"role": "user", "content": ["hi"]}), "messages[0].content[0]"),
        (messages({"role": "user", "content": [{"text": "hi"}]}), "messages[0].content[0].type"),
        (messages({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
        (
            messages({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
            "messages[0].content[0].image_url.url",
        ),
        (messages({"role": "user", "content": "hi", "name": 1}), "messages[0].name"),
        (messages({"role": "assistant", "content": None}), "messages[0].content"),
        (messages({"role": "assistant", "tool_calls": [1]}), "messages[0].tool_calls[0]"),
        (messages({"role": "tool", "content": "hi"}), "messages[0].tool_call_id"),
        ({**HELLO, "model": 4}, "model"),
        ({**HELLO, "n": 0}, "n"),
        ({**HELLO, "n": 129}, "n"),
        ({**HELLO, "n": True}, "n"),
        ({**HELLO, "n": "2"}, "n"),
        ({**HELLO, "max_tokens": 0}, "max_tokens"),
        ({**HELLO, "max_tokens": 1.5}, "max_tokens"),
        ({**HELLO, "max_completion_tokens": -1}, "max_completion_tokens"),
        ({**HELLO, "temperature": 2.1}, "temperature"),
        ({**HELLO, "temperature": "hot"}, "temperature"),
        ({**HELLO, "temperature": False}, "temperature"),
        ({**HELLO, "top_p": -0.1}, "top_p"),
        ({**HELLO, "presence_penalty": 3}, "presence_penalty"),
        ({**HELLO, "frequency_penalty": -3}, "frequency_penalty"),
        ({**HELLO, "stop": 1}, "stop"),
        ({**HELLO, "stop": list("abcde")}, "stop"),
        ({**HELLO, "stop": [None]}, "stop"),
        ({**HELLO, "stream": "yes"}, "stream"),
        ({**HELLO, "stream_options": {"include_usage": True}}, "stream_options"),
        ({**HELLO, "stream": True, "stream_options": 1}, "stream_options"),
        ({**HELLO, "stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({**HELLO, "response_format": "json"}, "response_format"),
        ({**HELLO, "response_format": {"type": "xml"}}, "response_format.type"),
        ({**HELLO, "response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({**HELLO, "tools": {}}, "tools"),
        ({**HELLO, "tools": []}, "tools"),
        ({**HELLO, "tools": [{"type": "function"}]}, "tools[0].function"),
        ({**HELLO, "tools": [{"type": "function", "function": {"name": 1}}]}, "tools[0].function.name"),
        ({**HELLO, "tool_choice": "auto"}, "tool_choice"),
    ],
)
def test_a_wrong_field_is_named(client: FlaskClient, body: object, param: str | None) -> None:
    error = assert_error(client.post(URL, data=json.dumps(body)), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert ledger(client)["calls"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"messages": NaN}',
        json.dumps({**HELLO, "temperature": float("inf")}).encode(),
        b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}',
        b'{"messages":[{"role":"user","content":"x"}],"tool_choice":"required",'
        b'"tools":[{"type":"function","function":{"name":"f","parameters":{"default":1e999}}}]}',
        b'{"messages":[{"role":"user","content":"x"}],"seed":' + b"9" * 5000 + b"}",
        b'{"messages":[{"role":"user","content":"\\ud83d"}]}',
        b'{"messages":[{"role":"user","content":"x"}],"user":"\\udc00"}',
        b'{"messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
        b"[" * 100_000,
        b'{"messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    ],
    ids=lambda body: repr(body[:45]),
)
def test_what_is_no_json_is_refused(client: FlaskClient, body: bytes) -> None:
    assert_error(client.post(URL, data=body), 400)


@pytest.mark.parametrize("depth", [200, 900, 960, 990, 2000, 30_000])
def test_a_deep_schema_is_never_the_servers_fault(client: FlaskClient, depth: int) -> None:
    schema = '{"type":"array","minItems":1,"items":' * depth + "{}" + "}" * depth
    tool = f'[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]'
    body = f'{{"messages":[{{"role":"user","content":"x"}}],"tools":{tool},"tool_choice":"required"}}'
    response = client.post(URL, data=body.encode())
    assert response.status_code in (200, 400, 413)
    assert response.mimetype == "application/json"


def test_null_is_the_same_as_absent(client: FlaskClient) -> None:
    nothing = dict.fromkeys(REQUEST_FIELDS)
    response = client.post(URL, json={**HELLO, **nothing})
    assert response.status_code == 200


def test_a_whole_surrogate_pair_is_text(client: FlaskClient) -> None:
    body = b'{"messages":[{"role":"user","content":"\\ud83d\\ude00"}]}'
    assert "CheapModel: 😀" in client.post(URL, data=body).text


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
REQUEST_FIELDS = [
    "model",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "stop",
    "stream",
    "stream_options",
    "response_format",
    "tools",
    "tool_choice",
]
NESTED_FIELDS = [
    "role",
    "content",
    "name",
    "tool_calls",
    "function",
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "minItems",
]
FIELDS = st.sampled_from(REQUEST_FIELDS + NESTED_FIELDS)
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "object", "array", "odd"])}
    )
    | st.dictionaries(
        st.sampled_from(["enum", "const", "default", "minimum", "$ref", "minItems"]), JSON_VALUES
    ),
    lambda inner: (
        st.fixed_dictionaries({"properties": st.dictionaries(st.text(max_size=5), inner, max_size=3)})
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner, "minItems": st.integers(-1, 3)})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=2)})
        | st.fixed_dictionaries({"allOf": st.lists(inner, max_size=2)})
    ),
    max_leaves=6,
)
TOOLS = st.builds(
    lambda s: [{"type": "function", "function": {"name": "f", "parameters": s}}],
    SCHEMAS,
)
NEARLY_REQUESTS = st.builds(
    lambda base, extra: {**base, **extra},
    st.one_of(
        st.just(HELLO),
        st.builds(
            lambda items: {"messages": items}, st.lists(JSON_VALUES | st.dictionaries(FIELDS, JSON_VALUES))
        ),
        st.builds(lambda tools: {**HELLO, "tools": tools, "tool_choice": "required"}, TOOLS),
        st.builds(
            lambda s: {
                **HELLO,
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": s}},
            },
            SCHEMAS,
        ),
    ),
    st.dictionaries(FIELDS, JSON_VALUES, max_size=2),
)


@settings(max_examples=250, deadline=None)
@given(body=JSON_VALUES | NEARLY_REQUESTS)
def test_no_json_whatever_is_the_servers_fault(body: object) -> None:
    client = create_app(PROFILE, FAST).test_client()
    response = client.post(URL, data=json.dumps(body))
    assert response.status_code in (200, 400), response.data
    if response.status_code == 400:
        assert_error(response, 400)
    elif response.mimetype == "application/json":
        json.loads(response.data, parse_constant=pytest.fail)


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=60))
def test_no_bytes_whatever_are_the_servers_fault(body: bytes) -> None:
    assert_error(create_app(PROFILE, FAST).test_client().post(URL, data=body), 400)


def test_the_ledger_starts_at_nothing(client: FlaskClient) -> None:
    assert ledger(client) == {
        "model": "CheapModel",
        "calls": 0,
        "input_tokens": 0,
        "cached_input_tokens": 0,
        "output_tokens": 0,
        "cost_usd": 0,
    }


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_answer_is_billed_to_the_last_digit(client: FlaskClient, stream: bool) -> None:
    long = "x" * 4000
    body = {"messages": [{"role": "system", "content": long}, *HELLO["messages"] * 9], "stream": stream}
    assert client.post(URL, json=body).data
    totals = ledger(client)
    prompt = 3 + 1003 + 9 * 5
    cached = 1003 + 8 * 5 - (1003 + 8 * 5) % 128
    assert totals == {
        "model": "CheapModel",
        "calls": 1,
        "input_tokens": prompt,
        "cached_input_tokens": cached,
        "output_tokens": 5,
        "cost_usd": ((prompt - cached) * Decimal("0.1") + cached * Decimal("0.025") + 5 * Decimal("0.4"))
        / 10**6,
    }


def start_stream(client: FlaskClient, fault: str | None = None) -> Iterator[bytes]:
    headers = {"X-Mock-Fault": fault} if fault else {}
    response = client.post(URL, json={**HELLO, "stream": True}, headers=headers, buffered=False)
    return response.iter_encoded()


def test_a_stream_is_billed_when_its_last_event_is_not_yet_sent(client: FlaskClient) -> None:
    stream = start_stream(client)
    for event in stream:
        if b"[DONE]" in event:
            assert ledger(client)["output_tokens"] == 5
            break
        totals = ledger(client)
        assert (totals["calls"], totals["input_tokens"], totals["output_tokens"]) == (1, 0, 0)
    else:
        pytest.fail("the stream did not end with [DONE]")


@pytest.mark.parametrize(("events", "output"), [(1, 0), (3, 2), (7, 5)])
def test_a_stream_that_its_client_leaves_is_billed_once_up_to_there(
    client: FlaskClient, events: int, output: int
) -> None:
    response = client.post(URL, json={**HELLO, "stream": True}, buffered=False)
    stream = response.iter_encoded()
    for _ in range(events):
        next(stream)
    response.close()
    response.close()
    totals = ledger(client)
    assert (totals["calls"], totals["input_tokens"], totals["output_tokens"]) == (1, 8, output)


def test_a_cut_stream_is_billed_up_to_the_cut(client: FlaskClient) -> None:
    response = client.post(
        URL, json={**HELLO, "stream": True}, headers={"X-Mock-Fault": "cut_midstream"}, buffered=False
    )
    received: list[bytes] = []
    with pytest.raises(ConnectionResetError):
        received.extend(response.iter_encoded())
    response.close()
    totals = ledger(client)
    assert (totals["calls"], totals["input_tokens"], totals["output_tokens"]) == (1, 8, 2)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503, 599])
def test_an_injected_status_is_an_unbilled_error(client: FlaskClient, status: int) -> None:
    assert_error(client.post(URL, json=HELLO, headers={"X-Mock-Fault": f"status={status}"}), status)
    assert ledger(client)["calls"] == 0


def test_retry_after_is_passed_on(client: FlaskClient) -> None:
    response = client.post(URL, json=HELLO, headers={"X-Mock-Fault": "retry_after=7"})
    assert assert_error(response, 429)["code"] == "rate_limit_exceeded"
    assert response.headers["Retry-After"] == "7"


def test_malformed_json_is_broken_and_billed(client: FlaskClient) -> None:
    response = client.post(URL, json=HELLO, headers={"X-Mock-Fault": "malformed_json"})
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.data)
    assert ledger(client)["output_tokens"] == 5


def test_only_the_middle_event_of_a_malformed_stream_is_broken(client: FlaskClient) -> None:
    whole = b"".join(start_stream(client, "malformed_json"))
    events = whole.decode().removesuffix("\n\n").split("\n\n")
    broken = []
    for index, event in enumerate(events[:-1]):
        try:
            json.loads(event.removeprefix("data: "))
        except json.JSONDecodeError:
            broken.append(index)
    assert broken == [3]
    assert events[-1] == "data: [DONE]"


def test_an_unknown_fault_is_refused(client: FlaskClient) -> None:
    error = assert_error(client.post(URL, json=HELLO, headers={"X-Mock-Fault": "explode"}), 400)
    assert error["param"] == "X-Mock-Fault"
    assert "explode" in error["message"]


def test_a_request_leaves_one_log_line_without_its_text(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "model_server.requests")
    body = {"messages": [{"role": "user", "content": "a secret"}], "stream": True}
    client.post(URL, json=body, headers={"X-Mock-Fault": "slow=0"}, buffered=True)
    client.post(URL, data=b"{", buffered=True)
    done, failed = (vars(record) for record in caplog.records)
    assert (done["status"], done["stream"], done["input_tokens"], done["output_tokens"]) == (200, True, 8, 5)
    assert done["fault"] == "slow=0"
    assert done["duration_ms"] >= 0
    assert (failed["status"], failed["input_tokens"]) == (400, 0)
    assert "secret" not in str(done)
