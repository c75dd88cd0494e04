"""Bodies that a client can get wrong: refused in OpenAI's shape, they cost nothing and harm nobody else."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.refusals import assert_refused, assert_serving, unharmed
from tests.support.wire import CHAT, ask, chunked, head, post

LIMIT = 2**20
GOOD = b'{"messages":[{"role":"user","content":"hi"}]}'
DEEP = 100_000


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway whose only worker has to survive all of it."""
    return start_gateway(WEB_CONCURRENCY="1", MAX_REQUEST_BYTES=str(LIMIT))


def with_member(member: str) -> bytes:
    """A good request's body with one more member."""
    return b"{" + member.encode() + b"," + GOOD[1:]


def with_content(content: str) -> bytes:
    """A request's body with a text in JSON as its content."""
    return b'{"messages":[{"role":"user","content":%b}]}' % content.encode()


def nested(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "1" + closing * levels


NO_JSON_OBJECT = {
    "nothing": b"",
    "white space": b" \r\n\t",
    "text": b"hello",
    "form": b"messages=hello&model=auto",
    "array": b"[]",
    "string": b'"messages"',
    "number": b"5",
    "null": b"null",
    "cut short": GOOD[:-1],
    "cut in a string": GOOD[:-8],
    "text behind": GOOD + b"x",
    "second object": GOOD + GOOD,
    "trailing comma": GOOD[:-1] + b",}",
    "no colon": b'{"messages"}',
    "key that is no string": b'{1:2,"messages":[]}',
    "single quotes": GOOD.replace(b'"', b"'"),
    "comment": b"/* hi */" + GOOD,
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "Latin-1": with_content('"?"').replace(b"?", b"\xe9"),
    "overlong UTF-8": with_content('"?"').replace(b"?", b"\xc0\xaf"),
    "half a pair in UTF-8": with_content('"?"').replace(b"?", b"\xed\xa0\x80"),
    "UTF-8 cut short": with_content('"?"').replace(b"?", b"\xf0\x9f\x98"),
    "NUL in a string": with_content('"\0"'),
    "NUL behind": GOOD + b"\0",
    "line break in a string": with_content('"\n"'),
    "unknown escape": with_content(r'"\x41"'),
    "key twice in a message": b'{"messages":[{"role":"user","role":"system","content":"hi"}]}',
    "key twice in a part": with_member('"metadata":{"a":1,"a":2}'),
    "NaN": with_member('"temperature":NaN'),
    "NaN alone": b"NaN",
    "Infinity": with_member('"temperature":Infinity'),
    "-Infinity": with_member('"temperature":[-Infinity]'),
    "1e999": with_member('"temperature":1e999'),
    "-1e999": with_member('"temperature":-1e999'),
    "5,000 digits": with_member(f'"seed":{"9" * 5000}'),
    "leading zero": with_member('"seed":01'),
    "deep arrays": with_member(f'"x":{nested("[", "]", DEEP)}'),
    "deep objects": with_member(f'"x":{nested(chr(123) + chr(34) + "a" + chr(34) + ":", "}", DEEP)}'),
    "deep arrays alone": nested("[", "]", DEEP).encode(),
    "deep arrays that never close": b"[" * DEEP,
    "deep messages": b'{"messages":' + nested("[", "]", DEEP).encode() + b"}",
    "one level too deep": with_member(f'"x":{nested("[", "]", 128)}'),
    "half a pair in a key": with_member(r'"\ud800":1'),
    "NUL in a key": with_member(r'"a\u0000":1'),
    "half a pair in a key given twice": with_member(r'"\ud800":1,"\ud800":2'),
}

WRONG_FIELDS: dict[str, tuple[bytes, str]] = {
    "first half of a pair": (with_content(r'"\ud800"'), "messages"),
    "second half of a pair": (with_content(r'"\udfff"'), "messages"),
    "pair the wrong way round": (with_content(r'"\ude00\ud83d"'), "messages"),
    "half a pair in a nested key": (with_member(r'"x":{"\udc00":1}'), "x"),
    "half a pair in the model": (with_member(r'"model":"\udc00"'), "model"),
    "half a pair in stream_options": (
        with_member(r'"stream":true,"stream_options":{"x":"\udc00"}'),
        "stream_options",
    ),
    "escaped NUL": (with_content(r'"a\u0000b"'), "messages"),
    "messages twice": (GOOD[:-1] + b"," + GOOD[1:], "messages"),
    "model twice, once escaped": (with_member(r'"model":"auto","mod\u0065l":"auto"'), "model"),
    "no messages": (b"{}", "messages"),
    "messages by another name": (b'{"Messages":[]}', "messages"),
    **{
        f"messages {value}": (b'{"messages":%b}' % value.encode(), "messages")
        for value in ("null", "[]", "{}", '"hi"', "1", "true")
    },
    **{
        f"message {value}": (b'{"messages":[%b]}' % value.encode(), "messages[0]")
        for value in ("null", "[]", '"hi"', "1")
    },
    **{
        f"role {role}": (b'{"messages":[{"role":%b,"content":"hi"}]}' % role.encode(), "messages[0].role")
        for role in ("null", '""', '"User"', '"bot"', "1", '["user"]', '{"user":1}', '"user "')
    },
    "no role": (b'{"messages":[{"content":"hi"}]}', "messages[0].role"),
    "no content": (b'{"messages":[{"role":"user"}]}', "messages[0].content"),
    **{
        f"content {value}": (with_content(value), "messages[0].content")
        for value in ("null", "1", "true", "{}", '{"type":"text","text":"hi"}')
    },
    **{
        f"part {value}": (with_content(f"[{value}]"), "messages[0].content[0]")
        for value in ("null", '"hi"', "1", "[]")
    },
    "part without type": (with_content('[{"text":"hi"}]'), "messages[0].content[0].type"),
    "part of a type that is no string": (with_content('[{"type":1}]'), "messages[0].content[0].type"),
    "part without text": (with_content('[{"type":"text"}]'), "messages[0].content[0].text"),
    "part whose text is none": (with_content('[{"type":"text","text":1}]'), "messages[0].content[0].text"),
    "second message": (
        b'{"messages":[{"role":"user","content":"hi"},{"role":"x","content":"hi"}]}',
        "messages[1].role",
    ),
    "model 1": (with_member('"model":1'), "model"),
    "model []": (with_member('"model":["auto"]'), "model"),
    "stream 1": (with_member('"stream":1'), "stream"),
    "stream yes": (with_member('"stream":"yes"'), "stream"),
    "stream_options []": (with_member('"stream_options":[]'), "stream_options"),
    "include_usage 1": (
        with_member('"stream":true,"stream_options":{"include_usage":1}'),
        "stream_options.include_usage",
    ),
}

ODD_BUT_GOOD = {
    "form as content type": post(GOOD, "Content-Type: application/x-www-form-urlencoded"),
    "multipart as content type": post(GOOD, "Content-Type: multipart/form-data; boundary=x"),
    "broken content type": post(GOOD, b"Content-Type: \xff; charset=\xff"),
    "chunks": chunked(GOOD),
    "chunks of one byte": chunked(GOOD, 1),
    "trailers": chunked(GOOD)[:-2] + b"X-Trailer: 1\r\n\r\n",
    "query": post(GOOD, path=f"{CHAT}?model=nope&%ff"),
    "white space": post(b"\r\n\t " + GOOD + b"\r\n\t "),
    "escaped pair": post(with_content(r'"\ud83d\ude00"')),
    "backslash before u0000": post(with_content(r'"\\u0000"')),
    "127 levels in a member": post(with_member(f'"x":{nested("[", "]", 127)}')),
    "a long integer": post(with_member(f'"x":{"9" * 4000}')),
    "nulls": post(with_member('"model":null,"stream":null,"stream_options":null')),
    "as long as is accepted": post(GOOD.ljust(LIMIT)),
    "as long as is accepted, in chunks": chunked(GOOD.ljust(LIMIT)),
}


@pytest.mark.parametrize("body", NO_JSON_OBJECT.values(), ids=NO_JSON_OBJECT.keys())
def test_a_body_that_is_no_sound_json_object_is_refused(gateway: GatewayUnderTest, body: bytes) -> None:
    with unharmed(gateway):
        assert_refused(ask(gateway.gateway_url, post(body)), 400)


@pytest.mark.parametrize("headers", [[], ["Content-Encoding: gzip"]], ids=["untold", "told"])
def test_a_compressed_body_is_refused(gateway: GatewayUnderTest, headers: list[str]) -> None:
    with unharmed(gateway):
        assert_refused(ask(gateway.gateway_url, post(gzip.compress(GOOD), *headers)), 400)


@pytest.mark.parametrize(("body", "param"), WRONG_FIELDS.values(), ids=WRONG_FIELDS.keys())
def test_a_wrong_field_is_refused_by_its_name(gateway: GatewayUnderTest, body: bytes, param: str) -> None:
    with unharmed(gateway):
        assert_refused(ask(gateway.gateway_url, post(body)), 400, param)


@pytest.mark.parametrize("name", ["gpt-9", "", "cheapmodel", "CheapModel ", "\\u202e", "x" * 10_000])
@pytest.mark.parametrize("stream", ["false", "true"], ids=["plain", "stream"])
def test_an_unknown_model_is_refused_by_its_code(gateway: GatewayUnderTest, name: str, stream: str) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, post(with_member(f'"model":"{name}","stream":{stream}')))
        assert_refused(answer, 404, "model", "model_not_found")


def test_an_unknown_model_has_no_description(gateway: GatewayUnderTest) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, head(method="GET", path="/v1/models/gpt-9"))
        assert_refused(answer, 404, "model", "model_not_found")


@pytest.mark.parametrize("data", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD.keys())
def test_what_is_merely_odd_is_answered(gateway: GatewayUnderTest, data: bytes) -> None:
    answered = int(gateway.counters().get("requests", 0))
    assert ask(gateway.gateway_url, data).status == 200
    assert int(gateway.counters()["requests"]) == answered + 1


drawing = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
any_text = st.text(st.characters(), max_size=20)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)
near_parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "refusal"]) | any_json},
    optional={"text": any_text | any_json, "image_url": any_json},
)
near_messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]) | any_json,
        "content": any_text | st.lists(near_parts, max_size=3) | any_json,
    },
    optional={"name": any_json, "tool_calls": any_json, "tool_call_id": any_json, "refusal": any_json},
)


class Statuses:
    """Sends bodies and counts how they were answered."""

    def __init__(self, gateway: GatewayUnderTest) -> None:
        self._session = requests.Session()
        self._url = f"{gateway.gateway_url}{CHAT}"
        self.seen: Counter[int] = Counter()

    def send(self, body: bytes) -> None:
        answer = self._session.post(self._url, data=body, timeout=10)
        assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
        assert answer.headers["Content-Type"] in ("application/json", "text/event-stream; charset=utf-8")
        self.seen[answer.status_code] += 1


@contextmanager
def sending(gateway: GatewayUnderTest) -> Iterator[Statuses]:
    """Sends what the block draws, and counts in the end as many answers as the gateway."""
    before = int(gateway.counters().get("requests", 0))
    statuses = Statuses(gateway)
    yield statuses
    assert int(gateway.counters().get("requests", 0)) == before + statuses.seen[200]
    assert_serving(gateway)


def test_no_bytes_at_all_make_the_gateway_fail(gateway: GatewayUnderTest) -> None:
    with sending(gateway) as statuses:

        @settings(drawing, max_examples=300)
        @given(
            st.binary(max_size=200)
            | st.binary(max_size=20).map(lambda piece: with_content('"?"').replace(b"?", piece))
        )
        def send(body: bytes) -> None:
            statuses.send(body)

        send()
    assert statuses.seen.keys() == {200, 400}


def test_no_json_value_as_messages_makes_the_gateway_fail(gateway: GatewayUnderTest) -> None:
    with sending(gateway) as statuses:

        @settings(drawing, max_examples=400)
        @given(st.lists(near_messages, min_size=1, max_size=3) | any_json, st.booleans())
        def send(messages: Any, stream: bool) -> None:
            statuses.send(json.dumps({"messages": messages, "stream": stream}).encode())

        send()
    assert statuses.seen.keys() == {200, 400}
