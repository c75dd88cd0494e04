"""The bill of a single call, without a network."""

import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
from flask.testing import FlaskClient
from gevent import GreenletExit

from cheap_model.app import PROFILE
from model_server import wire
from model_server.app import create_app
from model_server.completion import Usage
from model_server.config import Settings
from model_server.errors import UnknownCall
from model_server.ledger import MAX_REMEMBERED_CALLS, Ledger

CHAT = "/v1/chat/completions"
FAST = Settings(first_token_seconds=0, token_interval_seconds=0, max_body_bytes=200_000)
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
BODIES: dict[str, dict[str, Any]] = {
    CHAT: HELLO,
    "/v1/completions": {"prompt": "Hello"},
    "/v1/embeddings": {"input": "Hello"},
    "/v1/messages": {**HELLO, "max_tokens": 99},
    "/v1/responses": {"input": "Hello"},
}
NOTHING = {"calls": 0, "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0, "cost_usd": 0}


@pytest.fixture
def client() -> FlaskClient:
    return create_app(PROFILE, FAST).test_client()


def begin(client: FlaskClient, call_id: str, path: str = CHAT, fault: str | None = None, **body: Any) -> Any:
    """A call whose answer is still to be read and closed."""
    headers = {"X-Client-Request-Id": call_id} | ({"X-Mock-Fault": fault} if fault else {})
    return client.post(path, json=BODIES[path] | body, headers=headers, buffered=False)


def post(client: FlaskClient, call_id: str, path: str = CHAT, fault: str | None = None, **body: Any) -> Any:
    """A call that has ended, its answer read."""
    answer = begin(client, call_id, path, fault, **body)
    assert answer.data
    answer.close()
    return answer


def bill(client: FlaskClient, call_id: str) -> dict[str, Any]:
    answer = client.get(f"/ledger/{call_id}")
    assert answer.status_code == 200, answer.data
    one: dict[str, Any] = json.loads(answer.data, parse_float=Decimal)
    return one


def totals(client: FlaskClient) -> dict[str, Any]:
    of_all: dict[str, Any] = json.loads(client.get("/ledger").data, parse_float=Decimal)
    assert of_all.pop("model") == "CheapModel"
    return of_all


def ended(call_id: str, booked: dict[str, Any]) -> dict[str, Any]:
    return {"id": call_id, "state": "ended", **booked}


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        (path, stream)
        for path, stream in itertools.product(BODIES, (False, True))
        if not (stream and path == "/v1/embeddings")
    ],
)
def test_the_bill_of_the_only_call_is_that_of_the_model(client: FlaskClient, path: str, stream: bool) -> None:
    post(client, "call-1", path, None, **({"stream": True} if stream else {}))
    assert totals(client)["calls"] == 1
    assert totals(client)["cost_usd"] > 0
    assert bill(client, "call-1") == ended("call-1", totals(client))


def test_counting_tokens_is_a_call_that_costs_nothing(client: FlaskClient) -> None:
    headers = {"X-Client-Request-Id": "call-1"}
    client.post("/v1/messages/count_tokens", json=HELLO, headers=headers).close()
    assert bill(client, "call-1") == ended("call-1", NOTHING)


@pytest.mark.parametrize("call_id", ["unknown", "x" * 129, "a/b", "%C3%A9"])
def test_an_unknown_call_is_not_found(client: FlaskClient, call_id: str) -> None:
    answer = client.get(f"/ledger/{call_id}")
    assert answer.status_code == 404
    assert answer.json is not None
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}
    assert (answer.json["error"]["code"], answer.json["error"]["param"]) == ("call_not_found", "id")


@pytest.mark.parametrize("call_id", ["", "x" * 129, "a\tb", "a\x7f", "é"])
def test_a_call_without_a_usable_id_is_billed_in_all_only(client: FlaskClient, call_id: str) -> None:
    assert post(client, call_id).status_code == 200
    assert totals(client)["calls"] == 1
    assert client.get(f"/ledger/{call_id or '/'}").status_code == 404


@pytest.mark.parametrize("call_id", ["x" * 128, "req_0-9.:~ {}", "team/a/7"])
def test_any_printable_id_will_do(client: FlaskClient, call_id: str) -> None:
    post(client, call_id)
    assert bill(client, call_id)["id"] == call_id


@pytest.mark.parametrize(
    ("path", "fault", "body", "status"),
    [
        (CHAT, "status=503", {}, 503),
        (CHAT, "status=429", {"stream": True}, 429),
        (CHAT, "explode", {}, 400),
        (CHAT, None, {"messages": []}, 400),
        (CHAT, None, {"user": "x" * 300_000}, 413),
        ("/v1/messages", "status=529", {}, 529),
        ("/v1/embeddings", None, {"input": 1.5}, 400),
    ],
)
def test_a_call_that_is_refused_ends_with_nothing(
    client: FlaskClient, path: str, fault: str | None, body: dict[str, Any], status: int
) -> None:
    answer = post(client, "call-1", path, fault, **body)
    assert answer.status_code == status
    assert bill(client, "call-1") == ended("call-1", NOTHING)
    assert totals(client) == NOTHING


@pytest.mark.parametrize("fault", ["connect_reset", "stall_before_first_byte=0"])
def test_a_call_that_breaks_before_its_answer_ends_with_nothing(client: FlaskClient, fault: str) -> None:
    with pytest.raises(ConnectionResetError):
        begin(client, "call-1", fault=fault)
    assert totals(client) == NOTHING


@pytest.mark.parametrize("events", [0, 1, 3, 7])
def test_a_stream_runs_until_it_is_left_and_then_says_what_it_cost(client: FlaskClient, events: int) -> None:
    answer = begin(client, "call-1", stream=True)
    chunks = answer.iter_encoded()
    for _ in range(events):
        next(chunks)
    begun = bill(client, "call-1")
    # The test client itself takes the first event.
    assert (begun["state"], begun["calls"], begun["input_tokens"]) == ("running", 1, 0)
    assert begun == {"id": "call-1", "state": "running", **totals(client)}
    answer.close()
    assert bill(client, "call-1") == ended("call-1", totals(client))
    assert totals(client)["input_tokens"] == 8


def test_a_stream_runs_until_its_last_event_is_sent(client: FlaskClient) -> None:
    answer = begin(client, "call-1", stream=True)
    for event in answer.iter_encoded():
        if b"[DONE]" in event:
            assert bill(client, "call-1")["state"] == "running"
    answer.close()
    assert bill(client, "call-1")["state"] == "ended"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "fault",
    [
        None,
        "slow=0",
        "cut_midstream",
        "cut_before_content",
        "malformed_json",
        "no_usage",
        "stall_midstream=0",
    ],
)
def test_every_call_is_in_the_totals_and_its_bill_alike(
    client: FlaskClient, fault: str | None, stream: bool
) -> None:
    answer = begin(client, "call-1", fault=fault, stream=stream)
    if fault in ("cut_midstream", "cut_before_content", "stall_midstream=0"):
        with pytest.raises(ConnectionResetError):
            list(answer.iter_encoded())
    else:
        list(answer.iter_encoded())
    answer.close()
    assert bill(client, "call-1") == ended("call-1", totals(client))
    assert totals(client)["calls"] == 1


def test_a_client_that_leaves_while_it_waits_pays_its_prompt(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(connection: object, seconds: float) -> None:
        assert bill(client, "call-1") == {"id": "call-1", "state": "running", **NOTHING}
        raise ConnectionResetError

    monkeypatch.setattr(wire, "wait", leave)
    post(client, "call-1")
    assert bill(client, "call-1") == ended("call-1", totals(client))
    assert (totals(client)["calls"], totals(client)["input_tokens"], totals(client)["output_tokens"]) == (
        0,
        8,
        0,
    )


def test_a_call_that_the_worker_ends_has_ended(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(connection: object, seconds: float) -> None:
        raise GreenletExit

    monkeypatch.setattr(wire, "wait", end)
    with pytest.raises(GreenletExit):
        begin(client, "call-1")
    assert bill(client, "call-1") == ended("call-1", NOTHING)


def test_calls_with_the_same_id_add_up_and_run_while_one_does(client: FlaskClient) -> None:
    post(client, "call-1")
    stream = begin(client, "call-1", stream=True)
    assert (bill(client, "call-1")["state"], bill(client, "call-1")["calls"]) == ("running", 2)
    post(client, "call-1")
    assert bill(client, "call-1")["state"] == "running"
    list(stream.iter_encoded())
    stream.close()
    assert bill(client, "call-1") == ended("call-1", totals(client))
    assert totals(client)["calls"] == 3


def test_the_latest_calls_are_remembered_and_all_are_counted() -> None:
    ledger = Ledger(PROFILE)
    usage = Usage(8, 0, 5)
    for number in range(MAX_REMEMBERED_CALLS + 2):
        call = ledger.open_call(f"call-{number}")
        call.bill(usage)
        call.end()
    for forgotten in ("call-0", "call-1"):
        with pytest.raises(UnknownCall):
            ledger.bill_to_json(forgotten)
    for kept in (2, MAX_REMEMBERED_CALLS + 1):
        assert json.loads(ledger.bill_to_json(f"call-{kept}"))["calls"] == 1
    assert json.loads(ledger.to_json())["calls"] == MAX_REMEMBERED_CALLS + 2


def test_a_call_ends_once_however_often_that_is_said() -> None:
    ledger = Ledger(PROFILE)
    first, second = ledger.open_call("call-1"), ledger.open_call("call-1")
    first.end()
    first.end()
    assert json.loads(ledger.bill_to_json("call-1"))["state"] == "running"
    second.end()
    assert json.loads(ledger.bill_to_json("call-1"))["state"] == "ended"
