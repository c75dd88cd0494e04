"""Providers that answer in ways which are allowed, or nearly so."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from io import BytesIO

import pytest
import requests

from gateway.apis import Api
from gateway.billing import Usage
from gateway.catalog import Model
from gateway.config import UPSTREAM_TRANSPORTS
from gateway.error_shapes import refusal_body
from gateway.errors import UpstreamError
from gateway.prices import TokenPrice
from gateway.timeouts import Deadline
from gateway.upstream import Answer, AnswerStream, Refusal, Upstream
from tests.conftest import StartGateway
from tests.support.scripted import scripted_provider
from tests.support.sse import events_of, text_of
from tests.support.stack import ONE_CALL, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

SETTINGS = ONE_CALL

EVENTS = (
    b'data: {"choices": [{"index": 0, "delta": {"content": "Paris."}, "finish_reason": "stop"}]}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 14, "completion_tokens": 2}}\n\n'
    b"data: [DONE]\n\n"
)
KEY = "sk-canary/0123"


each_transport = pytest.mark.parametrize("transport", UPSTREAM_TRANSPORTS)


def ask(url: str, transport: str, stream: bool) -> Answer | AnswerStream | Refusal:
    free = TokenPrice(Decimal(0), Decimal(0), Decimal(0))
    upstream = Upstream(transport)
    model = Model("CheapModel", url, "odd", None, free)
    deadline = Deadline.in_seconds(5)
    body = BytesIO(b"{}")
    return upstream.ask(model, Api.CHAT_COMPLETIONS, body, stream=stream, headers={}, deadline=deadline)


def http(status: str, headers: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
        status.encode(),
        headers,
        len(body),
        body,
    )


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n", gzip.compress(EVENTS)),
        (b"Content-Type: TEXT/Event-Stream; charset=UTF-8\r\n", EVENTS),
    ],
    ids=["gzip", "upper case"],
)
def test_a_stream_is_passed_on_whole_and_counted(
    start_gateway: StartGateway, headers: bytes, body: bytes
) -> None:
    with scripted_provider(http("200 OK", headers, body)) as url:
        gateway = start_gateway(CHEAP_MODEL_URL=url)
        answer = gateway.chat(SHORT, stream=True)
    events = events_of(answer)
    assert text_of(events) == "Paris."
    assert events[-1] == "[DONE]"
    assert gateway.counted("CheapModel").output_tokens == 2
    assert "unexpected" not in gateway.service.log
    assert "Traceback" not in gateway.service.log


def test_a_refusal_keeps_no_key_however_it_is_spelled_and_no_header_that_cannot_be_sent(
    start_gateway: StartGateway,
) -> None:
    body = b'{"error": {"message": "Bad key sk-canary\\/0123 or sk-canary/0123"}}'
    headers = b"Content-Type: application/json\r\nRetry-After: 1\x7f2\r\nRetry-After-Ms: 1500\r\n"
    with scripted_provider(http("429 Too Many Requests", headers, body)) as url:
        gateway = start_gateway(CHEAP_MODEL_URL=url, CHEAP_MODEL_API_KEY=KEY)
        answer = gateway.chat(SHORT)
    assert answer.status_code == 429
    assert answer.json() == {"error": {"message": "Bad key [key] or [key]"}}
    assert "Retry-After" not in answer.headers
    assert answer.headers["Retry-After-Ms"] == "1500"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        http("200 OK", b"Content-Type: application/json\r\n", b"[]"),
        http("200 OK", b"Content-Type: application/json\r\n", b'{"choices": null}'),
        http("200 OK", b"Content-Type: application/json\r\n", b"[" * 100_000),
        http("200 OK", b"Content-Type: text/html\r\n", b"<html>"),
        http("200 OK", b"Content-Encoding: gzip\r\n", b"no gzip"),
        http("204 No Content", b"", b""),
        http("302 Found", b"Location: http://127.0.0.1:1/\r\n", b""),
        http("500 Internal Server Error", b"", b"secret"),
        b'HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{"choices": [',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@each_transport
def test_nonsense_is_a_bad_gateway(transport: str, answer: bytes, stream: bool) -> None:
    with scripted_provider(answer) as url, pytest.raises(UpstreamError) as failure:
        ask(url, transport, stream)
    assert failure.value.status == 502
    assert "secret" not in failure.value.message


@pytest.mark.parametrize("status", ["404 Not Found", "422 Unprocessable", "418 Teapot"])
@each_transport
def test_a_refusal_that_is_no_json_is_put_into_the_shape(transport: str, status: str) -> None:
    with scripted_provider(http(status, b"Content-Type: text/html\r\n", b"<html>secret</html>")) as url:
        refusal = ask(url, transport, stream=False)
    assert isinstance(refusal, Refusal)
    assert refusal.status == int(status[:3])
    assert refusal.body is None
    told = refusal_body(Api.CHAT_COMPLETIONS, Api.CHAT_COMPLETIONS, refusal.status, None, refusal.message)
    assert json.loads(told)["error"]["code"] == "upstream_error"


@each_transport
def test_a_failure_that_states_its_usage_can_be_billed(transport: str) -> None:
    body = b'{"error": {"message": "x"}, "usage": {"prompt_tokens": 14, "completion_tokens": 0}}'
    with scripted_provider(http("500 Oops", b"", body)) as url, pytest.raises(UpstreamError) as failure:
        ask(url, transport, stream=False)
    assert failure.value.usage == Usage(14, 0, 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'[{"error": {"code": 400, "message": "Odd.", "status": "INVALID_ARGUMENT"}}]', "Odd."),
        (b'{"object": "error", "message": "Too long.", "type": "BadRequestError"}', "Too long."),
        (b'{"error": "model not found"}', "model not found"),
        (b'{"detail": [{"loc": ["body"], "msg": "Required"}, {"msg": "Bad"}]}', "Required; Bad"),
        (b'{"detail": "Key sk-canary/0123 is bad"}', "Key [key] is bad"),
    ],
)
def test_a_refusal_in_no_usual_shape_keeps_its_words(
    start_gateway: StartGateway, body: bytes, message: str
) -> None:
    messages = {"messages": [{"role": "user", "content": SHORT}]}
    asked = {
        "chat/completions": messages,
        "messages": messages | {"max_tokens": 9},
        "responses": {"input": SHORT},
    }
    with scripted_provider(http("400 Bad Request", b"Content-Type: application/json\r\n", body)) as url:
        gateway = start_gateway(CHEAP_MODEL_URL=url, CHEAP_MODEL_API_KEY=KEY)
        for path, fields in asked.items():
            answer = requests.post(f"{gateway.gateway_url}/v1/{path}", json=fields, timeout=10)
            assert answer.status_code == 400, path
            error = answer.json()["error"]
            assert (error["message"], error["type"]) == (message, "invalid_request_error"), path
            assert ("code" in error) is (path != "messages")


def test_a_failing_provider_s_wish_to_be_asked_later_is_passed_on(start_gateway: StartGateway) -> None:
    with scripted_provider(
        http("503 Unavailable", b"Retry-After: 9\r\nX-RateLimit-Limit: 1\r\n", b"")
    ) as url:
        answer = start_gateway(CHEAP_MODEL_URL=url).chat(SHORT)
    assert answer.status_code == 502
    assert answer.headers["Retry-After"] == "9"
    assert "X-Ratelimit-A" not in answer.headers


@pytest.mark.parametrize("kind", [b"text/event-stream", b"text/plain"])
def test_a_stream_that_nobody_asked_for_is_thrown_away_and_paid_for(
    start_gateway: StartGateway, kind: bytes
) -> None:
    with scripted_provider(http("200 OK", b"Content-Type: " + kind + b"\r\n", EVENTS)) as url:
        gateway = start_gateway(CHEAP_MODEL_URL=url)
        assert gateway.chat(SHORT).status_code == 502
    counted = gateway.counted("CheapModel")
    assert (counted.calls, counted.input_tokens, counted.output_tokens) == (0, 14, 2)


def test_a_provider_that_answers_whole_to_a_wish_for_a_stream_gives_its_client_a_stream(
    start_gateway: StartGateway,
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 14, "completion_tokens": 2}
    body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    with scripted_provider(http("200 OK", b"Content-Type: application/json\r\n", body)) as url:
        gateway = start_gateway(CHEAP_MODEL_URL=url)
        answer = gateway.chat(SHORT, stream=True, stream_options={"include_usage": True})
    events = events_of(answer)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert text_of(events) == "Paris."
    assert events[-2]["usage"] == {**usage, "cost": 0.0000022}
    assert events[-1] == "[DONE]"
    assert gateway.counted("CheapModel").calls == 1


def test_who_leaves_in_the_middle_of_a_plain_answer_pays_for_what_had_come(
    start_gateway: StartGateway,
) -> None:
    text = "x" * 4000
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
    with scripted_provider(head + b'{"choices": [{"message": {"content": "' + text.encode(), hold=3) as url:
        gateway = start_gateway(CHEAP_MODEL_URL=url)
        body = {"messages": [{"role": "user", "content": SHORT}]}
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"{gateway.gateway_url}/v1/chat/completions", json=body, timeout=1)
        assert eventually(lambda: gateway.counted("CheapModel").output_tokens > 0, 10)
    counted = gateway.counted("CheapModel")
    assert (counted.calls, counted.input_tokens, counted.output_tokens) == (0, 14, 1000)
