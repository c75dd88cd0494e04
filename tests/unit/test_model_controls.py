"""The mocks' routes for tests: the standing fault, and what reached the model."""

import json

import pytest
from flask.testing import FlaskClient

from cheap_model.app import PROFILE
from model_server.app import create_app
from model_server.config import Settings
from model_server.seen import MAX_REMEMBERED_REQUESTS, SeenRequests

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def client() -> FlaskClient:
    return create_app(PROFILE, Settings(first_token_seconds=0, token_interval_seconds=0)).test_client()


def test_a_standing_fault_is_set_shown_and_ended(client: FlaskClient) -> None:
    assert client.get("/fault").json == {"fault": None}
    assert client.put("/fault", data="status=503,count=1").json == {
        "fault": "status=503,count=1",
        "seen": 0,
        "failed": 0,
    }
    assert [client.post(CHAT, json=HELLO).status_code for _ in range(2)] == [503, 200]
    assert client.get("/fault").json == {"fault": "status=503,count=1", "seen": 2, "failed": 1}
    assert client.delete("/fault").json == {"fault": None}
    assert client.get("/fault").json == {"fault": None}


def test_a_standing_fault_of_another_model_fails_nothing_here(client: FlaskClient) -> None:
    client.put("/fault", data="status=503,model=ExpensiveModel")
    assert client.post(CHAT, json=HELLO).status_code == 200
    client.put("/fault", data="status=503,model=CheapModel")
    assert client.post(CHAT, json=HELLO).status_code == 503


def test_a_standing_fault_serves_every_dialect(client: FlaskClient) -> None:
    client.put("/fault", data="status=529")
    message = {"model": "x", "max_tokens": 5, **HELLO}
    assert client.post("/v1/messages", json=message).status_code == 529
    assert client.post("/v1/embeddings", json={"model": "x", "input": "a"}).status_code == 529


@pytest.mark.parametrize("text", ["", "explode", "status=200", "model=", "\x00"])
def test_an_ill_formed_standing_fault_is_refused_and_changes_nothing(client: FlaskClient, text: str) -> None:
    client.put("/fault", data="status=500")
    refused = client.put("/fault", data=text)
    assert refused.status_code == 400
    assert refused.json is not None
    assert refused.json["error"]["param"] == "X-Mock-Fault"
    fault = client.get("/fault").json
    assert fault is not None
    assert fault["fault"] == "status=500"


def test_what_reached_the_model_is_told_without_its_values(client: FlaskClient) -> None:
    client.post(f"{CHAT}?api-key=k-123", json=HELLO, headers={"X-Key": "k-456"})
    client.post(CHAT, json=HELLO)
    told = client.get("/requests")
    assert told.json is not None
    first, second = told.json["data"]
    assert first["path"] == CHAT
    assert "x-key" in first["headers"]
    assert "x-key" not in second["headers"]
    assert "k-" not in json.dumps(told.json)


@pytest.mark.parametrize(("canary", "seen"), [("k-123", True), ("k-456", True), ("k-789", False)])
def test_a_canary_in_the_head_is_found(client: FlaskClient, canary: str, seen: bool) -> None:
    client.post(f"{CHAT}?api-key=k-123", json=HELLO, headers={"X-Key": "k-456"})
    told = client.get("/requests", query_string={"canary": canary}).json
    assert told is not None
    assert [each["canary"] for each in told["data"]] == [seen]


def test_the_memory_of_requests_is_bounded() -> None:
    app = create_app(PROFILE, Settings())
    seen = SeenRequests()
    with app.test_request_context("/x") as context:
        for _ in range(MAX_REMEMBERED_REQUESTS + 1):
            seen.note(context.request)
    assert len(seen.as_json(None)) == MAX_REMEMBERED_REQUESTS
