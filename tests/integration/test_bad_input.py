"""Bodies that a client can get wrong: refused in the shape of the route, they cost nothing and harm nobody
else. What can be wrong in one API alone is in `test_bad_chat.py`, `test_bad_messages.py` and
`test_bad_responses.py`."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.catalogs import write_catalog
from tests.support.drawn import any_json, any_text, drawing, sending
from tests.support.refusals import (
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    ROUTES,
    Route,
    assert_field_refused,
    assert_refused,
    unharmed,
)
from tests.support.wire import CHAT, ask, head, post

pytestmark = pytest.mark.heavy

LIMIT = 2**20
DEEP = 100_000
at_each_route = pytest.mark.parametrize("route", ROUTES, ids=[route.path for route in ROUTES])


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway whose only worker has to survive all of it."""
    return start_gateway(WEB_CONCURRENCY="1", MAX_REQUEST_BYTES=str(LIMIT))


@pytest.fixture(scope="module")
def narrow(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> GatewayUnderTest:
    """A gateway whose models have a context window."""
    file = write_catalog(tmp_path_factory.mktemp("models"), context_window=200)
    return start_gateway(WEB_CONCURRENCY="1", MODELS_FILE=file)


def nested(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "1" + closing * levels


def unsound_bodies(route: Route) -> dict[str, bytes]:
    """What is no JSON object, or one that programs read differently."""
    good, with_member = route.good, route.with_member
    return {
        "nothing": b"",
        "white space": b" \r\n\t",
        "text": b"hello",
        "form": b"messages=hello&model=auto",
        "array": b"[]",
        "string": b'"messages"',
        "number": b"5",
        "null": b"null",
        "cut short": good[:-1],
        "cut in a string": good[: good.index(b"hi")],
        "text behind": good + b"x",
        "second object": good + good,
        "trailing comma": good[:-1] + b",}",
        "no colon": b'{"messages"}',
        "key that is no string": b'{1:2,"messages":[]}',
        "single quotes": good.replace(b'"', b"'"),
        "comment": b"/* hi */" + good,
        "byte order mark": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "Latin-1": good.replace(b"hi", b"h\xe9"),
        "overlong UTF-8": good.replace(b"hi", b"\xc0\xaf"),
        "half a pair in UTF-8": good.replace(b"hi", b"\xed\xa0\x80"),
        "UTF-8 cut short": good.replace(b"hi", b"\xf0\x9f\x98"),
        "NUL in a string": good.replace(b"hi", b"\0"),
        "NUL behind": good + b"\0",
        "line break in a string": good.replace(b"hi", b"\n"),
        "unknown escape": good.replace(b"hi", rb"\x41"),
        "key twice in a message": with_member('"x":[{"role":"user","role":"system","content":"hi"}]'),
        "key twice in an object": with_member('"metadata":{"a":1,"a":2}'),
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
        "deep prompt": f'{{"{route.prompt}":{nested("[", "]", DEEP)}}}'.encode(),
        "one level too deep": with_member(f'"x":{nested("[", "]", 128)}'),
        "too many values": with_member(f'"x":[{"0," * 500_000}0]'),
        "half a pair in a key": with_member(r'"\ud800":1'),
        "NUL in a key": with_member(r'"a\u0000":1'),
        "half a pair in a key given twice": with_member(r'"\ud800":1,"\ud800":2'),
    }


def unsound_fields(route: Route) -> dict[str, tuple[bytes, str]]:
    """The same, where a field can be named."""
    good, with_member, prompt = route.good, route.with_member, route.prompt
    return {
        "first half of a pair": (good.replace(b"hi", rb"\ud800"), prompt),
        "second half of a pair": (good.replace(b"hi", rb"\udfff"), prompt),
        "pair the wrong way round": (good.replace(b"hi", rb"\ude00\ud83d"), prompt),
        "half a pair in a nested key": (with_member(r'"x":{"\udc00":1}'), "x"),
        "half a pair in the model": (with_member(r'"model":"\udc00"'), "model"),
        "half a pair in stream_options": (
            with_member(r'"stream":true,"stream_options":{"x":"\udc00"}'),
            "stream_options",
        ),
        "escaped NUL": (good.replace(b"hi", rb"a\u0000b"), prompt),
        "prompt twice": (good[:-1] + b"," + good[1:], prompt),
        "model twice, once escaped": (with_member(r'"model":"auto","mod\u0065l":"auto"'), "model"),
    }


WRONG_MEMBERS = {
    '"model":1': "model",
    '"model":["auto"]': "model",
    '"stream":1': "stream",
    '"stream":"yes"': "stream",
    '"stream_options":[]': "stream_options",
    '"stream":true,"stream_options":{"include_usage":1}': "stream_options.include_usage",
}

WRONG_PROMPTS = {
    CHAT: ("{}", '"hi"', "1", "true"),
    RESPONSES: ("{}", "1", "true"),
    MESSAGES: ("{}", '"hi"', "1", "true"),
    COUNT_TOKENS: ("{}", '"hi"', "1", "true"),
    COMPLETIONS: ("{}", "1", "true", "[null]", "[{}]", "[1.5]"),
    EMBEDDINGS: ("{}", "1", "true", "[null]", "[{}]", "[1.5]", '""'),
}

# The fields that bound an answer.
LIMITS = [
    (CHAT, "max_tokens"),
    (CHAT, "max_completion_tokens"),
    (RESPONSES, "max_output_tokens"),
    (MESSAGES, "max_tokens"),
    (COMPLETIONS, "max_tokens"),
]
NO_INTEGERS = ('"10"', "10.0", "1e1", "true", "[10]", "{}")
# What decides how much is generated; the least of each where there is one for every provider.
NUMBERS: dict[tuple[str, str], int | None] = {
    (CHAT, "n"): 1,
    (CHAT, "best_of"): 1,
    (CHAT, "max_tokens"): 1,
    (CHAT, "max_completion_tokens"): 1,
    (COMPLETIONS, "n"): 1,
    (COMPLETIONS, "best_of"): 1,
    (COMPLETIONS, "max_tokens"): 0,
    (RESPONSES, "max_output_tokens"): None,
    (MESSAGES, "max_tokens"): None,
}


def odd_requests(route: Route) -> dict[str, bytes]:
    """Requests that are odd, but good."""
    good = route.good
    # The one field of any JSON that every API has; a translation refuses what it does not know.
    deep, long = f'"metadata":{{"x":{nested("[", "]", 126)}}}', f'"metadata":{{"x":{"9" * 4000}}}'
    return {
        "form as content type": route.request(good, "Content-Type: application/x-www-form-urlencoded"),
        "multipart as content type": route.request(good, "Content-Type: multipart/form-data; boundary=x"),
        "broken content type": route.request(good, b"Content-Type: \xff; charset=\xff"),
        "chunks": route.chunked_request(good),
        "chunks of one byte": route.chunked_request(good, 1),
        "trailers": route.chunked_request(good)[:-2] + b"X-Trailer: 1\r\n\r\n",
        "query": post(good, path=f"{route.path}?model=nope&%ff"),
        "white space": route.request(b"\r\n\t " + good + b"\r\n\t "),
        "escaped pair": route.request(good.replace(b"hi", rb"\ud83d\ude00")),
        "backslash before u0000": route.request(good.replace(b"hi", rb"\\u0000")),
        "127 levels in a member": route.request(route.with_member(deep)),
        "a long integer": route.request(route.with_member(long)),
        "nulls": route.request(route.with_member('"model":null,"stream":null')),
        "as long as is accepted": route.request(good.ljust(LIMIT)),
        "as long as is accepted, in chunks": route.chunked_request(good.ljust(LIMIT)),
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(route.path, body, id=f"{route.path} {name}")
        for route in ROUTES
        for name, body in unsound_bodies(route).items()
    ],
)
def test_a_body_that_is_no_sound_json_object_is_refused(
    gateway: GatewayUnderTest, path: str, body: bytes
) -> None:
    with unharmed(gateway):
        assert_refused(ask(gateway.gateway_url, post(body, path=path)), 400, path=path)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        pytest.param(route.path, body, param, id=f"{route.path} {name}")
        for route in ROUTES
        for name, (body, param) in unsound_fields(route).items()
    ],
)
def test_a_field_that_programs_read_differently_is_refused(
    gateway: GatewayUnderTest, path: str, body: bytes, param: str
) -> None:
    with unharmed(gateway):
        assert_refused(ask(gateway.gateway_url, post(body, path=path)), 400, param, path=path)


@pytest.mark.parametrize("headers", [[], ["Content-Encoding: gzip"]], ids=["untold", "told"])
@at_each_route
def test_a_compressed_body_is_refused(gateway: GatewayUnderTest, route: Route, headers: list[str]) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, route.request(gzip.compress(route.good), *headers))
        assert_refused(answer, 400, path=route.path)


def wrong_prompts(route: Route) -> dict[str, str]:
    """Bodies whose prompt is missing, empty or of a wrong type."""
    wrong = {value: f'{{"{route.prompt}":{value}}}' for value in WRONG_PROMPTS[route.path]}
    if route.path == COMPLETIONS:  # whose providers may do without
        return wrong
    empty = {value: f'{{"{route.prompt}":{value}}}' for value in ("null", "[]")}
    capital = f'{{"{route.prompt.capitalize()}":[]}}'
    return {"nothing": "{}", "another name": capital, **empty, **wrong}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        pytest.param(route, body.encode(), id=f"{route.path} {name}")
        for route in ROUTES
        for name, body in wrong_prompts(route).items()
    ],
)
def test_a_missing_empty_or_ill_typed_prompt_is_refused_by_its_name(
    gateway: GatewayUnderTest, route: Route, body: bytes
) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, route.request(body))
        assert_field_refused(answer, route.prompt, path=route.path)


@pytest.mark.parametrize(("member", "param"), WRONG_MEMBERS.items())
@at_each_route
def test_a_wrong_choice_of_model_or_stream_is_refused_by_its_name(
    gateway: GatewayUnderTest, route: Route, member: str, param: str
) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, route.request(route.with_member(member)))
        assert_field_refused(answer, param, path=route.path)


@pytest.mark.parametrize(
    ("path", "member", "param"),
    [
        pytest.param(path, f'"{name}":{value}', name, id=f"{path} {name} {value}")
        for (path, name), least in NUMBERS.items()
        for value in (*NO_INTEGERS, *(() if least is None else (str(least - 1), "-9")))
    ],
)
def test_a_number_that_some_providers_read_otherwise_is_refused_by_its_name(
    gateway: GatewayUnderTest, path: str, member: str, param: str
) -> None:
    [route] = [route for route in ROUTES if route.path == path]
    # A good body may have a limit of its own, as Anthropic's API demands it.
    prompt = json.dumps({route.prompt: json.loads(route.good)[route.prompt]})
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, route.request(f"{prompt[:-1]},{member}}}".encode()))
        assert_field_refused(answer, param, path=path)


@pytest.mark.parametrize(("path", "limit"), LIMITS)
@pytest.mark.parametrize("digits", [3, 13, 4299, 4300])
def test_a_limit_beyond_the_context_is_refused_however_long_it_is(
    narrow: GatewayUnderTest, path: str, limit: str, digits: int
) -> None:
    [route] = [route for route in ROUTES if route.path == path]
    body = json.dumps({route.prompt: json.loads(route.good)[route.prompt], limit: 10**digits - 1}).encode()
    with unharmed(narrow):
        answer = ask(narrow.gateway_url, route.request(body))
        assert_refused(answer, 400, code="context_length_exceeded", path=path)
        assert len(answer.body) < 1000


def test_the_tokens_of_a_prompt_that_fits_no_model_are_counted_all_the_same(narrow: GatewayUnderTest) -> None:
    [route] = [route for route in ROUTES if route.path == COUNT_TOKENS]
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]}).encode()
    with unharmed(narrow):
        answer = ask(narrow.gateway_url, route.request(body))
    assert (answer.status, answer.json()) == (200, {"input_tokens": 25_006})


@pytest.mark.parametrize("name", ["gpt-9", "", "cheapmodel", "CheapModel ", "\\u202e", "x" * 10_000])
@pytest.mark.parametrize("stream", ["false", "true"], ids=["plain", "stream"])
@at_each_route
def test_an_unknown_model_is_refused_by_its_code(
    gateway: GatewayUnderTest, route: Route, name: str, stream: str
) -> None:
    with unharmed(gateway):
        body = route.with_member(f'"model":"{name}","stream":{stream}')
        answer = ask(gateway.gateway_url, route.request(body))
        assert_refused(answer, 404, "model", "model_not_found", path=route.path)


@pytest.mark.parametrize("name", ["gpt-9", "vendor/gpt-9", "CheapModel/x", "CheapModel%2Fx", "a//b", "a/"])
def test_an_unknown_model_has_no_description(gateway: GatewayUnderTest, name: str) -> None:
    with unharmed(gateway):
        answer = ask(gateway.gateway_url, head(method="GET", path=f"/v1/models/{name}"))
        assert_refused(answer, 404, "model", "model_not_found")


@pytest.mark.parametrize(
    ("route", "data"),
    [
        pytest.param(route, data, id=f"{route.path} {name}")
        for route in ROUTES
        for name, data in odd_requests(route).items()
    ],
)
def test_what_is_merely_odd_is_answered(gateway: GatewayUnderTest, route: Route, data: bytes) -> None:
    answered = int(gateway.counters().get("requests", 0))
    assert ask(gateway.gateway_url, data).status == 200
    assert int(gateway.counters().get("requests", 0)) == answered + route.billed


def test_no_bytes_at_all_make_the_gateway_fail(gateway: GatewayUnderTest) -> None:
    with sending(gateway) as statuses:

        @settings(drawing, max_examples=300)
        @given(st.sampled_from(ROUTES), st.binary(max_size=200), st.booleans())
        def send(route: Route, piece: bytes, inside: bool) -> None:
            statuses.send(route.path, route.good.replace(b"hi", piece[:20]) if inside else piece)

        send()
    assert statuses.seen.keys() == {200, 400}


@pytest.mark.parametrize(("path", "name"), [(COMPLETIONS, "prompt"), (EMBEDDINGS, "input")])
def test_no_json_value_as_a_prompt_makes_the_gateway_fail(
    gateway: GatewayUnderTest, path: str, name: str
) -> None:
    tokens = st.lists(st.integers(-1, 10**6), max_size=3)
    with sending(gateway) as statuses:

        @settings(drawing, max_examples=100)
        @given(
            any_text | st.lists(any_text, max_size=3) | tokens | st.lists(tokens, max_size=3) | any_json,
            st.booleans(),
        )
        def send(prompt: Any, stream: bool) -> None:
            statuses.send(path, json.dumps({name: prompt, "stream": stream}).encode())

        send()
    assert statuses.seen.keys() == {200, 400}
