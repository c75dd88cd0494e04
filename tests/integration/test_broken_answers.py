"""A provider that has said 200 will bill its answer, although no more than the beginning of it came."""

from __future__ import annotations

from decimal import Decimal
from io import BytesIO

import pytest

from gateway.apis import Api
from gateway.billing import Usage
from gateway.catalog import Model
from gateway.config import UPSTREAM_TRANSPORTS
from gateway.errors import UpstreamError
from gateway.prices import FREE
from gateway.timeouts import Deadline
from gateway.upstream import Upstream
from tests.conftest import StartGateway
from tests.support.scripted import scripted_provider
from tests.support.stack import ONE_CALL, SHORT
from tests.support.waiting import eventually

SETTINGS = ONE_CALL

HALF = b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris is t'
WHOLE_WITHOUT_END = HALF + b'he"}}], "usage": {"prompt_tokens": 20, "completion_tokens": 3}}'


def http(status: bytes, body: bytes, length: int) -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (status, length)
    return head + b"Connection: close\r\n\r\n" + body


def failure_of(answer: bytes, transport: str, stream: bool) -> UpstreamError:
    with scripted_provider(answer) as url, pytest.raises(UpstreamError) as failure:
        Upstream(transport).ask(
            Model("CheapModel", url, "odd", None, FREE),
            Api.CHAT_COMPLETIONS,
            BytesIO(b"{}"),
            stream=stream,
            headers={},
            deadline=Deadline.in_seconds(5),
        )
    return failure.value


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("transport", UPSTREAM_TRANSPORTS)
@pytest.mark.parametrize(
    ("answer", "characters", "usage"),
    [
        (http(b"200 OK", HALF, 500), 10, None),
        (http(b"200 OK", HALF, len(HALF)), 10, None),
        (http(b"200 OK", b"", 500), 0, None),
        (http(b"200 OK", b"  \n", 500), 0, None),
        (http(b"200 OK", WHOLE_WITHOUT_END, 500), 12, Usage(20, 0, 3)),
        # Here nothing was answered.
        (http(b"200 OK", b"<html>", 6), None, None),
        (http(b"200 OK", b"", 0), None, None),
        (http(b"200 OK", b'{"error": {"message": "no"}}', 28), None, None),
        (http(b"200 OK", b"[]", 2), None, None),
        (http(b"500 Oops", HALF, 500), None, None),
        (http(b"401 Oops", HALF, 500), None, None),
    ],
)
def test_what_had_come_of_an_answer_is_told_with_the_failure(
    answer: bytes, characters: int | None, usage: Usage | None, transport: str, stream: bool
) -> None:
    failure = failure_of(answer, transport, stream)
    assert failure.status == 502
    assert failure.characters == characters
    assert failure.usage == usage


@pytest.mark.parametrize(
    ("answer", "cost"),
    [
        # 14 tokens in and 3 out at 0.10 and 0.40 USD per million
        (http(b"200 OK", HALF, 500), Decimal("0.0000026")),
        (http(b"200 OK", WHOLE_WITHOUT_END, 500), Decimal("0.0000032")),
        (http(b"200 OK", b"<html>", 6), Decimal(0)),
    ],
    ids=["cut", "cut behind its usage", "no answer"],
)
def test_a_broken_answer_costs_what_is_known_of_it_and_counts_as_no_answer(
    start_gateway: StartGateway, answer: bytes, cost: Decimal
) -> None:
    with scripted_provider(answer) as url:
        gateway = start_gateway(CHEAP_MODEL_URL=url)
        assert gateway.chat(SHORT).status_code == 502
        # Its provider is asked for the bill first.
        assert eventually(lambda: gateway.counters().get("model:CheapModel:errors") == "1", 10)
    counted = gateway.counted("CheapModel")
    assert (counted.calls, counted.cost_usd) == (0, cost)
