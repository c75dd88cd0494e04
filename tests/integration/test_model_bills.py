"""The mocks' bills of single calls, on the wire: whatever becomes of the calls, they add up to the ledger."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.processes import Service, running_model
from tests.support.waiting import eventually
from tests.support.wire import connected, head

pytestmark = pytest.mark.heavy

CHAT = "/v1/chat/completions"
FIGURES = ("calls", "input_tokens", "cached_input_tokens", "output_tokens", "cost_usd")
NOTHING = dict.fromkeys(FIGURES, 0)
SEED = 20264
CALLS = 300
CLIENTS = 24
LONG = [{"role": "system", "content": "You are an encyclopedia. " * 200}]
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
FAULTS = (
    "status=503",
    "status=429,retry_after=1",
    "connect_reset",
    "stall_before_first_byte=0.3",
    "stall_midstream=0.3",
    "cut_midstream",
    "cut_before_content",
    "malformed_json",
    "no_usage",
    "slow=0.2",
    "explode",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_model("expensive_model", tmp_path_factory.mktemp("model")) as service:
        yield service


def read(url: str) -> dict[str, Any]:
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200, answer.text
    figures: dict[str, Any] = json.loads(answer.text, parse_float=Decimal)
    return figures


def totals(model: Service) -> dict[str, Any]:
    figures = read(f"{model.url}/ledger")
    return {name: figures[name] for name in FIGURES}


def bill(model: Service, call_id: str) -> dict[str, Any]:
    return read(f"{model.url}/ledger/{call_id}")


def request_of(call_id: str, path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"Content-Length: {len(body)}", f"X-Client-Request-Id: {call_id}", *headers]
    return head(*lines, path=path) + body


def drawn(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A path and a body, in any API."""
    text = rng.choice(["Hello", "Tell me more.", f"[[write {rng.randint(1, 900)} tokens]]"])
    messages = [*rng.choice([[], LONG]), {"role": "user", "content": text}]
    stream = {"stream": True} if rng.random() < 0.5 else {}
    kinds: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {"messages": messages, "n": rng.choice([1, 1, 2]), **stream}),
        ("/v1/completions", {"prompt": text, "max_tokens": 50, **stream}),
        ("/v1/embeddings", {"input": text}),
        (
            "/v1/messages",
            {"messages": messages[-1:], "system": LONG[0]["content"], "max_tokens": 500, **stream},
        ),
        ("/v1/responses", {"input": messages, **stream}),
        ("/v1/messages/count_tokens", {"messages": messages[-1:]}),
        (CHAT, {"messages": "nonsense"}),
    ]
    return rng.choice(kinds)


def send(model: Service, seed: int) -> str:
    """One call of some kind, whose client may leave at any moment: while it sends, waits or reads."""
    rng = random.Random(seed)
    call_id = f"call-{uuid.UUID(int=rng.getrandbits(128))}"
    path, body = drawn(rng)
    fault = [f"X-Mock-Fault: {rng.choice(FAULTS)}"] if rng.random() < 0.3 else []
    sent = request_of(call_id, path, json.dumps(body).encode(), *fault)
    stays = rng.random()
    with suppress(ConnectionError), connected(model.url) as connection:
        if stays < 0.05:
            connection.send(sent[:-3])
        elif stays < 0.3:
            connection.send(sent)
            time.sleep(rng.uniform(0, 0.4))
            if rng.random() < 0.5:
                connection.reset_on_close()
        else:
            connection.send(sent.replace(b"Host: gateway", b"Host: gateway\r\nConnection: close"))
            connection.rest()
    return call_id


@pytest.mark.timeout(120)
def test_the_bills_of_all_calls_are_the_models_whole_bill(
    model: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    before = totals(model)
    with ThreadPoolExecutor(CLIENTS) as clients:
        ids = list(clients.map(lambda number: send(model, SEED + number), range(CALLS)))
    assert len(set(ids)) == CALLS

    def all_ended() -> bool:
        return all(bill(model, call_id)["state"] == "ended" for call_id in ids)

    assert eventually(all_ended, 20)
    after = totals(model)
    bills = [bill(model, call_id) for call_id in ids]
    sums = {name: sum(one[name] for one in bills) for name in FIGURES}
    assert sums == {name: after[name] - before[name] for name in FIGURES}
    free = sum(one["cost_usd"] == 0 for one in bills)
    unanswered = sum(one["calls"] == 0 and one["cost_usd"] > 0 for one in bills)
    assert min(free, unanswered, sum(one["cached_input_tokens"] > 0 for one in bills)) > 5
    with capsys.disabled():
        print(f"\n{CALLS} calls, {free} of them free, {unanswered} left before an answer: {sums}")


def test_a_call_is_known_before_its_body_has_come(model: Service) -> None:
    sent = request_of("half-sent", CHAT, json.dumps(HELLO).encode())
    with connected(model.url) as connection:
        connection.send(sent[:-5])
        assert eventually(lambda: requests.get(f"{model.url}/ledger/half-sent", timeout=5).status_code == 200)
        assert bill(model, "half-sent") == {"id": "half-sent", "state": "running", **NOTHING}
    assert eventually(lambda: bill(model, "half-sent")["state"] == "ended")
    assert bill(model, "half-sent") == {"id": "half-sent", "state": "ended", **NOTHING}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "fault",
    ["slow=30", "slow=30,status=503", "slow=30,connect_reset", "stall_midstream", "stall_before_first_byte"],
)
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
def test_a_call_ends_soon_after_its_client_has_gone(
    model: Service, fault: str, stream: bool, reset: bool
) -> None:
    call_id = f"gone-{uuid.uuid4()}"
    before = totals(model)
    sent = request_of(
        call_id, CHAT, json.dumps({**HELLO, "stream": stream}).encode(), f"X-Mock-Fault: {fault}"
    )
    with connected(model.url) as connection:
        connection.send(sent)
        time.sleep(0.6)
        assert bill(model, call_id)["state"] == "running"
        if reset:
            connection.reset_on_close()
    left = time.monotonic()
    assert eventually(lambda: bill(model, call_id)["state"] == "ended")
    assert time.monotonic() - left < 2
    after, one = totals(model), bill(model, call_id)
    assert {name: one[name] for name in FIGURES} == {name: after[name] - before[name] for name in FIGURES}


def test_a_plain_answer_is_billed_whole_although_its_client_cannot_read_it(model: Service) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 2_000_000}]}).encode()
    before = totals(model)
    parts = urlsplit(model.url)
    with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as client:
        client.sendall(request_of("unread", CHAT, body))
        assert eventually(lambda: bill(model, "unread")["calls"] == 1)
    assert eventually(lambda: bill(model, "unread")["state"] == "ended")
    after, one = totals(model), bill(model, "unread")
    assert {name: one[name] for name in FIGURES} == {name: after[name] - before[name] for name in FIGURES}


def test_a_long_answer_streams_in_about_a_second(model: Service) -> None:
    body = {"messages": [{"role": "user", "content": "[[write 800 tokens]]"}], "stream": True}
    began, arrivals, pieces = time.monotonic(), [], []
    with requests.post(f"{model.url}{CHAT}", json=body, stream=True, timeout=10) as answer:
        for line in answer.iter_lines(chunk_size=1):
            if line.startswith(b"data: {"):
                arrivals.append(time.monotonic() - began)
                pieces.append(json.loads(line[6:])["choices"][0]["delta"].get("content") or "")
    assert len("".join(pieces)) == 4 * 800
    assert 50 < len(pieces) < 200
    assert arrivals[0] > 0.2
    assert 0.3 < arrivals[-1] - arrivals[0] < 3
    started = time.monotonic()
    whole = requests.post(f"{model.url}{CHAT}", json={**body, "stream": False}, timeout=10).json()
    assert whole["choices"][0]["message"]["content"] == "".join(pieces)
    assert whole["usage"]["completion_tokens"] == 800
    assert time.monotonic() - started < 1.5


def test_a_bill_can_be_asked_for_while_many_calls_run(model: Service) -> None:
    ids = [f"many-{uuid.uuid4()}" for _ in range(50)]

    def call(call_id: str) -> None:
        headers = {"X-Client-Request-Id": call_id, "X-Mock-Fault": "slow=0.5"}
        requests.post(f"{model.url}{CHAT}", json=HELLO, headers=headers, timeout=10)

    threads = [threading.Thread(target=call, args=(call_id,)) for call_id in ids]
    for thread in threads:
        thread.start()
    assert eventually(lambda: requests.get(f"{model.url}/ledger/{ids[-1]}", timeout=5).ok)
    assert bill(model, ids[-1])["state"] == "running"
    for thread in threads:
        thread.join()
    assert all(bill(model, call_id)["calls"] == 1 for call_id in ids)
