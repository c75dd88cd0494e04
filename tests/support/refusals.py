"""How a refusal of the gateway looks at each of its routes, and what it must not do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.conftest import GatewayUnderTest
from tests.support.wire import CHAT, Answer, chunked, head, post

RESPONSES = "/v1/responses"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"

SANE_ID = re.compile(r"[A-Za-z0-9._:/=+@-]{1,128}")
# What Anthropic calls a 4xx where it is no `invalid_request_error`.
MESSAGES_ERROR_TYPES = {403: "permission_error", 404: "not_found_error", 413: "request_too_large"}


@dataclass(frozen=True)
class Route:
    """A route that takes a body. `prompt` is the field that holds what the model is asked, `good` a body that
    is answered; `billed` says whether such an answer is counted."""

    path: str
    prompt: str
    good: bytes
    billed: bool = True

    def with_member(self, member: str) -> bytes:
        """The good body with one more member."""
        return b"{" + member.encode() + b"," + self.good[1:]

    def request(self, body: bytes, *headers: str | bytes) -> bytes:
        """A whole request with a body."""
        return post(body, *headers, path=self.path)

    def chunked_request(self, body: bytes, size: int = 65536) -> bytes:
        """A whole request whose body comes in chunks."""
        chunks = chunked(body, size).partition(b"\r\n\r\n")[2]
        return head("Transfer-Encoding: chunked", path=self.path) + chunks


ROUTES = (
    Route(CHAT, "messages", b'{"messages":[{"role":"user","content":"hi"}]}'),
    Route(RESPONSES, "input", b'{"input":"hi"}'),
    Route(MESSAGES, "messages", b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":20}'),
    Route(COUNT_TOKENS, "messages", b'{"messages":[{"role":"user","content":"hi"}]}', billed=False),
    Route(COMPLETIONS, "prompt", b'{"prompt":"hi"}'),
    Route(EMBEDDINGS, "input", b'{"input":"hi"}'),
)


@contextmanager
def unharmed(gateway: GatewayUnderTest) -> Iterator[None]:
    """What happens in the block changes no counter, and afterwards the gateway serves as ever."""
    before = gateway.counters()
    yield
    after = gateway.counters()
    assert after == before, f"the counters changed from {before} to {after}"
    assert_serving(gateway)


def assert_serving(gateway: GatewayUnderTest) -> None:
    """The gateway answers a good request and has logged no error so far."""
    answer = gateway.chat("still there?")
    assert answer.status_code == 200, answer.text
    errors = [line for line in gateway.service.log.splitlines() if "ERROR" in line or "Traceback" in line]
    assert not errors, errors


def assert_refused(
    answer: Answer, status: int, param: str | None = None, code: str | None = None, *, path: str = CHAT
) -> None:
    """An error as JSON in the shape of `path`, with an id by which the log knows the request. Anthropic's
    shape has no place for `param` and `code`."""
    assert answer.status == status, f"{answer.status}: {answer.body!r}"
    assert answer.headers["Content-Type"] == "application/json", answer.headers
    assert SANE_ID.fullmatch(answer.headers["X-Request-Id"] or ""), answer.headers
    body = answer.json()
    assert_error_shape(path, body, own=True)
    error = body["error"]
    if is_messages_path(path):
        assert error["type"] == MESSAGES_ERROR_TYPES.get(status, "invalid_request_error"), body
        assert answer.headers["Request-Id"] == answer.headers["X-Request-Id"], answer.headers
    else:
        expected = {"type": "invalid_request_error", "param": param, "code": code}
        assert {name: error[name] for name in expected} == expected, body


def assert_field_refused(answer: Answer, param: str, *, path: str = CHAT) -> None:
    """A 400 that names the field at fault also in its message, which may be all that a client shows."""
    assert_refused(answer, 400, param, path=path)
    message = answer.json()["error"]["message"]
    assert f"'{param}'" in message, message


def assert_error_shape(path: str, body: Any, *, own: bool) -> None:
    """Anthropic's error object below `/v1/messages`, else OpenAI's. A provider's may hold more than the
    gateway's `own`."""
    if is_messages_path(path):
        assert body["type"] == "error", body
        assert not own or body.keys() == {"type", "error"}, body
        fields = {"type", "message"}
    else:
        assert not own or body.keys() == {"error"}, body
        fields = {"message", "type", "param", "code"}
    error = body["error"]
    assert error.keys() == fields if own else error.keys() >= fields, body
    assert isinstance(error["message"], str), body
    assert error["message"], "the message is empty"


def is_messages_path(path: str) -> bool:
    return path == MESSAGES or path.startswith(f"{MESSAGES}/")
