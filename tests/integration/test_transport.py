"""Both transports to providers: what is sent, what is made of answers, which connections serve again."""

from __future__ import annotations

import gzip
import ssl
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway import transport
from gateway.apis import Api
from gateway.catalog import Model
from gateway.config import UPSTREAM_TRANSPORTS
from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.prices import TokenPrice
from gateway.timeouts import Deadline, Timeouts
from gateway.transport import LeanAdapter, LeanResponse
from gateway.upstream import TRANSPORTS, Answer, AnswerStream, Refusal, Upstream
from tests.support.talking import Talk, talking_provider
from tests.support.waiting import eventually

FREE = TokenPrice(Decimal(0), Decimal(0), Decimal(0))
KEY = "sk-canary/0123"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WHOLE = b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
EVENTS = b'data: {"choices": [{"index": 0, "delta": {"content": "Paris."}}]}\n\ndata: [DONE]\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def sized(body: bytes = WHOLE, headers: bytes = b"", start: bytes = OK) -> bytes:
    return b"%s%sContent-Length: %d\r\n\r\n%s" % (start, headers, len(body), body)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.fixture(params=UPSTREAM_TRANSPORTS)
def upstream(request: pytest.FixtureRequest) -> Upstream:
    return Upstream(request.param)


@pytest.fixture
def lean() -> Iterator[LeanAdapter]:
    adapter = LeanAdapter()
    yield adapter
    adapter.close()


def ask(
    upstream: Upstream, url: str, body: bytes = b"{}", *, key: str | None = None, **options: Any
) -> Answer | AnswerStream | Refusal:
    model = Model("CheapModel", url, "small", key, FREE, timeouts=options.pop("timeouts", Timeouts()))
    return upstream.ask(
        model,
        Api.CHAT_COMPLETIONS,
        BytesIO(body),
        stream=options.pop("stream", False),
        headers=options.pop("headers", {}),
        deadline=Deadline.in_seconds(10),
        **options,
    )


def text_of(stream: Answer | AnswerStream | Refusal) -> bytes:
    assert isinstance(stream, AnswerStream)
    try:
        text = b"".join(event.raw for events in stream for event in events)
        stream.finish()
    finally:
        stream.close()
    return text


def has_ended(talk: Talk, connections: int) -> bool:
    return talk.ended == connections


def lines_of(talk: Talk) -> list[set[bytes]]:
    return [set(head.split(b"\r\n")) for head, _ in talk.requests]


def test_every_transport_can_be_set() -> None:
    assert sorted(TRANSPORTS) == sorted(UPSTREAM_TRANSPORTS)


@pytest.mark.parametrize("size", [2, 65_536, 65_537, 5_000_000])
def test_a_request_is_sent_whole_with_the_headers_that_it_needs(upstream: Upstream, size: int) -> None:
    body = b"{" + b" " * (size - 2) + b"}"
    with talking_provider(sized()) as talk:
        ask(upstream, talk.url, body, key=KEY, headers={"X-Client-Request-Id": "7"}, stream=True)
    assert talk.requests[0][1] == body
    host = talk.url.removeprefix("http://").removesuffix("/v1")
    assert lines_of(talk) == [
        {
            b"POST /v1/chat/completions HTTP/1.1",
            b"Host: " + host.encode(),
            b"Content-Type: application/json",
            b"Accept: text/event-stream",
            b"Accept-Encoding: identity",
            b"User-Agent: llm-gateway/0.1",
            b"Authorization: Bearer " + KEY.encode(),
            b"X-Client-Request-Id: 7",
            b"Content-Length: %d" % size,
        }
    ]


def test_a_key_that_was_changed_is_the_one_that_is_sent(upstream: Upstream) -> None:
    with talking_provider(sized()) as talk:
        for key in ("old", "new", None):
            ask(upstream, talk.url, key=key)
    sent = [{line for line in lines if line.startswith(b"Authorization")} for lines in lines_of(talk)]
    assert sent == [{b"Authorization: Bearer old"}, {b"Authorization: Bearer new"}, set()]


@pytest.mark.parametrize(
    "answer",
    [
        sized(),
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(WHOLE[:7], WHOLE[7:]),
        b"HTTP/1.1 100 Continue\r\n\r\n" + sized(),
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + sized(start=b""),
        sized(start=b"HTTP/1.1 400 Bad Request\r\n"),
        sized(gzip.compress(WHOLE), b"Content-Encoding: gzip\r\n"),
    ],
    ids=["length", "chunks", "continued", "HTTP/1.0 kept", "refusal", "gzip"],
)
def test_a_connection_serves_again(upstream: Upstream, answer: bytes) -> None:
    with talking_provider(answer) as talk:
        for _ in range(3):
            found = ask(upstream, talk.url)
            assert isinstance(found, Refusal) or found.values["usage"]["prompt_tokens"] == 1  # type: ignore[union-attr]
    assert (len(talk.requests), talk.connections) == (3, 1)


@pytest.mark.parametrize(
    ("answer", "closes"),
    [
        (sized(headers=b"Connection: close\r\n"), False),
        (sized(start=b"HTTP/1.0 200 OK\r\n"), False),
        (OK + b"\r\n" + WHOLE, True),
        (sized(), True),
        (b"HTTP/1.0 200 OK\r\n\r\n" + WHOLE, True),
    ],
    ids=["closing", "HTTP/1.0", "until closed", "closed all the same", "HTTP/1.0 until closed"],
)
def test_a_connection_that_is_at_its_end_does_not(upstream: Upstream, answer: bytes, closes: bool) -> None:
    with talking_provider(answer, closes=closes) as talk:
        for asked in range(1, 3):
            found = ask(upstream, talk.url)
            assert isinstance(found, Answer)
            assert found.body == WHOLE
            assert eventually(partial(has_ended, talk, asked))
    assert (len(talk.requests), talk.connections) == (2, 2)


@pytest.mark.parametrize("behind", [b"x", sized(b'{"choices": ["other"]}')], ids=["sign", "answer"])
def test_bytes_behind_an_answer_are_not_the_next_one(behind: bytes) -> None:
    upstream = Upstream("lean")
    with talking_provider(sized() + behind) as talk:
        for _ in range(3):
            found = ask(upstream, talk.url)
            assert isinstance(found, Answer)
            assert found.body == WHOLE
    assert talk.connections == 3


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [([EVENTS], True), ([EVENTS[:40], EVENTS[40:]], True), ([EVENTS], False)],
    ids=["one chunk", "two chunks", "broken off"],
)
def test_a_stream_is_read_whole_and_its_connection_serves_again(
    upstream: Upstream, pieces: list[bytes], ends: bool
) -> None:
    whole = STREAM + chunked(*pieces)
    with talking_provider(whole if ends else whole[:-5], closes=not ends) as talk:
        for _ in range(2):
            if ends:
                assert text_of(ask(upstream, talk.url, stream=True)) == EVENTS
            else:
                with pytest.raises(UpstreamError):
                    text_of(ask(upstream, talk.url, stream=True))
    assert talk.connections == (1 if ends else 2)


def test_a_stream_that_nobody_reads_to_its_end_ends_its_connection(upstream: Upstream) -> None:
    with talking_provider(STREAM + chunked(EVENTS)[:-5]) as talk:
        stream = ask(upstream, talk.url, stream=True)
        assert isinstance(stream, AnswerStream)
        assert next(iter(stream))[0].data.startswith(b"{")
        stream.close()
        assert eventually(lambda: talk.ended == 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-%d: x\r\n" * 40_000 % tuple(range(40_000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * 2**20 + b"\r\n\r\n",
        sized(b"not gzip", b"Content-Encoding: gzip\r\n"),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + WHOLE,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    ],
    ids=["headers", "header", "reason", "no gzip", "upgrade", "204", "304"],
)
def test_what_is_no_answer_is_a_failure_and_its_connection_is_not_leaked(
    upstream: Upstream, answer: bytes
) -> None:
    with talking_provider(answer, closes=True) as talk:
        for _ in range(2):
            with pytest.raises(UpstreamError) as failure:
                ask(upstream, talk.url, key=KEY)
            assert failure.value.status == 502
            assert KEY not in str(failure.value)


def test_who_refuses_a_large_body_before_it_has_come_is_understood(upstream: Upstream) -> None:
    too_large = sized(b'{"error": {"message": "Too large."}}', start=b"HTTP/1.1 413 Too Large\r\n")
    with talking_provider(too_large, closes=True, reads_body=False) as talk:
        refusal = ask(upstream, talk.url, b"{" + b" " * 20_000_000 + b"}")
    assert isinstance(refusal, Refusal)
    assert refusal.status == 413


def test_a_silent_provider_is_not_waited_for_even_where_no_timer_can_end_the_wait(upstream: Upstream) -> None:
    short = Timeouts(connect=5, first_byte=-0.9, idle=-0.9, total=5)
    with talking_provider(b"") as talk, pytest.raises(UpstreamTimeout):
        ask(upstream, talk.url, timeouts=short)


def test_headers_of_a_provider_are_kept_alike(upstream: Upstream) -> None:
    headers = b"X-RateLimit-Limit: 1\r\nx-ratelimit-limit: 2\r\nRetry-After: \x7f\r\nx-request-id: r1\r\n"
    with talking_provider(sized(headers=headers + b"Set-Cookie: a=b\r\nX-Other: 1\r\n")) as talk:
        found = ask(upstream, talk.url)
        ask(upstream, talk.url)
    assert isinstance(found, Answer)
    assert found.headers.request_id == "r1"
    assert {name.lower() for name in found.headers.passed} == {"x-ratelimit-limit"}
    assert not any(line.lower().startswith(b"cookie") for line in lines_of(talk)[1])


def prepared(url: str, body: Any = None, **headers: str) -> requests.PreparedRequest:
    return requests.Request("POST", url, data=body, headers=headers).prepare()


def test_the_lean_adapter_is_an_adapter_of_requests_like_any_other(lean: LeanAdapter) -> None:
    text = sized('{"a": "é"}'.encode(), b"Set-Cookie: a=b\r\nX-A: 1\r\nx-a: 2\r\n")
    with talking_provider(text) as talk, requests.Session() as session:
        session.mount("http://", lean)
        found = session.post(talk.url, data=b"{}", timeout=(5, 5))
        assert isinstance(found, LeanResponse)
        assert (found.status_code, found.reason, found.url) == (200, "OK", talk.url)
        assert found.json() == {"a": "é"}
        assert found.headers["x-A"] == "1, 2"
        assert found.headers["CONTENT-TYPE"] == "application/json"
        assert found.encoding == "utf-8"
        assert list(found.cookies) == []
        assert found.history == []
        with session.get(talk.url, timeout=(5, 5), stream=True) as found:
            assert b"".join(found.iter_content(3)) == '{"a": "é"}'.encode()
    assert talk.connections == 1
    assert talk.requests[1][0].startswith(b"GET /v1 HTTP/1.1\r\n")


def test_what_the_lean_adapter_does_not_know_goes_by_urllib3(lean: LeanAdapter) -> None:
    with talking_provider(sized()) as talk:
        head = requests.Request("HEAD", talk.url).prepare()
        for request, timeout in [
            (prepared(talk.url, "text"), (5, 5)),
            (prepared(talk.url, b"{}"), 5),
            (head, (5, 5)),
        ]:
            found = lean.send(request, timeout=timeout)
            assert not isinstance(found, LeanResponse)
            assert found.content == (b"" if request is head else WHOLE)


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "\u00e9\u0107"])
def test_no_header_can_hold_another(lean: LeanAdapter, value: str) -> None:
    with talking_provider(sized()) as talk:
        request = prepared(talk.url, b"{}")
        request.headers["A"] = value
        with pytest.raises(requests.exceptions.InvalidHeader):
            lean.send(request, timeout=(5, 5))
    assert talk.requests == []


def test_requests_errors_are_those_of_requests(lean: LeanAdapter) -> None:
    with talking_provider(b"") as talk, pytest.raises(requests.ReadTimeout):
        lean.send(prepared(talk.url), timeout=(5, 0.1))
    with pytest.raises(requests.ConnectionError):
        lean.send(prepared(talk.url), timeout=(5, 5))
    with talking_provider(b"HTTP/1.1 2", closes=True) as talk, pytest.raises(requests.ConnectionError):
        lean.send(prepared(talk.url), timeout=(5, 5))


def test_no_more_is_kept_than_urls_are_usual(lean: LeanAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MOST_ROUTES", 3)
    with talking_provider(sized()) as talk:
        for number in range(8):
            lean.send(prepared(f"{talk.url}/{number}", b"{}"), timeout=(5, 5)).raw.read1(9999)
            assert len(lean._routes) <= 3
    assert talk.connections == 1
    assert [head.split()[1] for head, _ in talk.requests] == [b"/v1/%d" % number for number in range(8)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate}"
    subject = "-days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*made.split(), *subject.split()], check=True, capture_output=True)
    return key, certificate


def test_a_provider_is_believed_by_its_certificate_alone(
    upstream: Upstream, certificate: tuple[Path, Path]
) -> None:
    key, chain = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    request_body = b"{" + b" " * 200_000 + b"}"
    with talking_provider(sized(), tls=context) as talk:
        with pytest.raises(UpstreamError, match="could not be reached"):
            ask(upstream, talk.url)
        assert talk.requests == []
        for _ in range(2):
            found = upstream._adapter.send(
                prepared(talk.url, BytesIO(request_body)), timeout=(5, 5), stream=True, verify=str(chain)
            )
            assert found.raw.read1(9999) == WHOLE
            found.close()
    assert [body for _, body in talk.requests] == [request_body] * 2
    assert talk.connections == 2  # that of the attempt without trust, and one for both


def test_bytes_behind_an_answer_by_tls_spoil_its_connection(
    lean: LeanAdapter, certificate: tuple[Path, Path]
) -> None:
    key, chain = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    large = sized(b" " * 16_000 + WHOLE)
    with talking_provider(large + b"x" * 9000, tls=context) as talk:
        for _ in range(2):
            found = lean.send(prepared(talk.url, b"{}"), timeout=(5, 5), stream=True, verify=str(chain))
            assert found.json()["choices"] == []
    assert talk.connections == 2
