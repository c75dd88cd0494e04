"""How a refusal of the gateway looks, and what it must not do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import GatewayUnderTest
from tests.support.wire import Answer

SANE_ID = re.compile(r"[A-Za-z0-9._:/=+@-]{1,128}")


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
    errors = [line for line in gateway.service.log_lines if line["level"] == "ERROR"]
    assert not errors, errors


def assert_refused(answer: Answer, status: int, param: str | None = None, code: str | None = None) -> None:
    """OpenAI's error object as JSON, with an id by which the log knows the request."""
    assert answer.status == status, f"{answer.status}: {answer.body!r}"
    assert answer.headers["Content-Type"] == "application/json", answer.headers
    assert SANE_ID.fullmatch(answer.headers["X-Request-Id"] or ""), answer.headers
    expected = {"type": "invalid_request_error", "param": param, "code": code}
    body = answer.json()
    message = body["error"].pop("message")
    assert isinstance(message, str), message
    assert message, "the message is empty"
    assert body == {"error": expected}, body
