"""Virtual keys over HTTP, by those who hold the admin key."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
import requests

from gateway.keys.virtual_key import new_key
from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.stack import SHORT
from tests.support.waiting import eventually

ADMIN = "admin-canary-0123456789"
AUTHORIZED = {"Authorization": f"Bearer {ADMIN}"}
ROUTES = [
    ("POST", "/admin/keys"),
    ("GET", "/admin/keys"),
    ("GET", "/admin/keys/0123456789ab"),
    ("PATCH", "/admin/keys/0123456789ab"),
    ("DELETE", "/admin/keys/0123456789ab"),
    ("POST", "/admin/keys/0123456789ab/rotate"),
    ("PUT", "/admin/owners/ann"),
    ("GET", "/admin/owners/ann"),
    ("DELETE", "/admin/owners/ann"),
]


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(GATEWAY_ADMIN_KEY=ADMIN, GATEWAY_REQUIRE_KEYS="on")


@pytest.fixture(scope="module")
def gateway_without_admin(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway()


def ask(gateway: GatewayUnderTest, method: str, path: str, **options: Any) -> requests.Response:
    options.setdefault("headers", AUTHORIZED)
    return requests.request(method, gateway.gateway_url + path, timeout=10, **options)


def create(gateway: GatewayUnderTest, **fields: Any) -> dict[str, Any]:
    answer = ask(gateway, "POST", "/admin/keys", json={"name": "a", **fields})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    created: dict[str, Any] = answer.json()
    return created


def show(gateway: GatewayUnderTest, key_id: str) -> Any:
    return ask(gateway, "GET", f"/admin/keys/{key_id}").json()


def chat(gateway: GatewayUnderTest, text: str) -> requests.Response:
    body = {"messages": [{"role": "user", "content": SHORT}]}
    return gateway.post(body, headers={"Authorization": f"Bearer {text}", "Connection": "close"})


def error_of(answer: requests.Response) -> Any:
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    return answer.json()["error"]


def test_a_key_that_is_created_is_shown_whole_once_and_works_at_once(gateway: GatewayUnderTest) -> None:
    created = create(
        gateway,
        name="näme",
        owner="ann",
        budget_usd=0.1,
        period="week",
        on_budget="downgrade",
        rpm=100,
        tpm=100000,
        models=["ExpensiveModel", "CheapModel"],
        policy="prompt_length",
        expires="2999-01-31T12:00:00+02:00",
    )
    text = created.pop("key")
    assert text.startswith(f"gw-{created['id']}-")
    expected = {
        "name": "näme",
        "owner": "ann",
        "status": "active",
        "budget_usd": 0.1,
        "period": "week",
        "budget_spent_usd": 0,
        "budget_held_usd": 0,
        "on_budget": "downgrade",
        "rpm": 100,
        "tpm": 100000,
        "models": ["CheapModel", "ExpensiveModel"],
        "policy": "prompt_length",
        "expires_at": "2999-01-31T10:00:00Z",
        "revoked_at": None,
        "usage": {
            "requests": 0,
            "cost_usd": 0,
            "input_tokens": 0,
            "cached_input_tokens": 0,
            "output_tokens": 0,
        },
    }
    assert {name: created[name] for name in expected} == expected
    assert created.keys() - expected.keys() == {"id", "created_at", "budget_resets_at"}
    assert created["created_at"].endswith("Z")
    assert created["budget_resets_at"].endswith("T00:00:00Z")
    assert show(gateway, created["id"]) == created
    assert chat(gateway, text).status_code == 200


def test_what_a_key_has_used_is_in_its_record(gateway: GatewayUnderTest) -> None:
    created = create(gateway, budget_usd="1.5")
    answers = [chat(gateway, created["key"]) for _ in range(3)]
    cost = sum(float(answer.headers["X-Gateway-Cost-Usd"]) for answer in answers)
    tokens = [answer.json()["usage"] for answer in answers]
    assert eventually(lambda: show(gateway, created["id"])["usage"]["requests"] == 3)
    record = show(gateway, created["id"])
    assert record["usage"]["cost_usd"] == pytest.approx(cost, abs=1e-12)
    assert record["budget_spent_usd"] == pytest.approx(cost, abs=1e-12)
    assert record["budget_held_usd"] == 0
    assert record["usage"]["input_tokens"] == sum(usage["prompt_tokens"] for usage in tokens)
    assert record["usage"]["output_tokens"] == sum(usage["completion_tokens"] for usage in tokens)


def test_changing_a_key_touches_only_what_is_named(gateway: GatewayUnderTest) -> None:
    created = create(gateway, owner="ann", budget_usd=5, period="day", rpm=7)
    del created["key"]
    path = f"/admin/keys/{created['id']}"
    changed = ask(gateway, "PATCH", path, json={"rpm": None, "budget_usd": 6, "name": "b"}).json()
    assert changed == created | {"rpm": None, "budget_usd": 6, "name": "b"}
    assert ask(gateway, "PATCH", path, json={}).json() == changed
    bare = ask(gateway, "PATCH", path, json={"budget_usd": None, "owner": None}).json()
    assert (bare["budget_usd"], bare["period"], bare["owner"]) == (None, None, None)
    assert show(gateway, created["id"]) == bare


def test_rotating_gives_a_new_text_in_place_of_the_old_one(gateway: GatewayUnderTest) -> None:
    created = create(gateway)
    answer = ask(gateway, "POST", f"/admin/keys/{created['id']}/rotate")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    rotated = answer.json()
    assert rotated["key"] != created["key"]
    assert rotated == created | {"key": rotated["key"]}
    assert chat(gateway, rotated["key"]).status_code == 200
    assert eventually(lambda: chat(gateway, created["key"]).status_code == 401, 1)


def test_a_deleted_key_is_refused_and_stays_in_the_list_as_revoked(gateway: GatewayUnderTest) -> None:
    created = create(gateway)
    path = f"/admin/keys/{created['id']}"
    assert chat(gateway, created["key"]).status_code == 200
    revoked = ask(gateway, "DELETE", path)
    assert revoked.status_code == 200
    assert revoked.json()["status"] == "revoked"
    assert revoked.json()["revoked_at"].endswith("Z")
    assert ask(gateway, "DELETE", path).json() == revoked.json() == show(gateway, created["id"])
    assert eventually(lambda: chat(gateway, created["key"]).status_code == 401, 1)
    for method, further in (("PATCH", ""), ("POST", "/rotate")):
        refused = ask(gateway, method, path + further, json={"name": "b"})
        assert (refused.status_code, error_of(refused)["type"]) == (400, "invalid_request_error")


def test_the_list_comes_by_pages_in_the_order_of_creation(start_gateway: StartGateway) -> None:
    gateway = start_gateway(GATEWAY_ADMIN_KEY=ADMIN)
    assert ask(gateway, "GET", "/admin/keys").json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "last_id": None,
    }
    ids = [create(gateway)["id"] for _ in range(5)]
    found: list[str] = []
    after = ""
    for size, has_more in ((2, True), (2, True), (1, False)):
        page = ask(gateway, "GET", f"/admin/keys?limit=2&after={after}").json()
        assert page["object"] == "list"
        assert len(page["data"]) == size
        assert page["has_more"] is has_more
        assert page["last_id"] == page["data"][-1]["id"]
        assert not any("key" in record or "secret_hash" in record for record in page["data"])
        found += [record["id"] for record in page["data"]]
        after = page["last_id"]
    assert found == ids
    assert len(ask(gateway, "GET", "/admin/keys").json()["data"]) == 5


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("limit=٣", "limit"),
        ("limit=9999999", "limit"),
        ("after=0123456789ab", "after"),
        ("after=nonsense", "after"),
    ],
)
def test_a_page_that_cannot_be_is_refused(gateway: GatewayUnderTest, query: str, param: str) -> None:
    refused = ask(gateway, "GET", f"/admin/keys?{query}")
    assert (refused.status_code, error_of(refused)["param"]) == (400, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"[]", None),
        (b"{", None),
        (b'{"name":"a","name":"b"}', "name"),
        (b'{"name":"a","budget_usd":NaN}', None),
        (b'{"name":"a","budget_usd":1e999}', None),
        (b"{}", "name"),
        (b'{"name":null}', "name"),
        (b'{"name":""}', "name"),
        (b'{"name":"a\\u0000"}', "name"),
        (b'{"name":"a","color":"red"}', "color"),
        (b'{"name":"a","expires_at":"2999-01-01T00:00:00Z"}', "expires_at"),
        (b'{"name":"a","budget_usd":-0.01}', "budget_usd"),
        (b'{"name":"a","budget_usd":0.0000000000001}', "budget_usd"),
        (b'{"name":"a","budget_usd":"much"}', "budget_usd"),
        (b'{"name":"a","budget_usd":true}', "budget_usd"),
        (b'{"name":"a","period":"day"}', "period"),
        (b'{"name":"a","rpm":0}', "rpm"),
        (b'{"name":"a","tpm":1.0}', "tpm"),
        (b'{"name":"a","models":["NoModel"]}', "models"),
        (b'{"name":"a","policy":"by_mood"}', "policy"),
        (b'{"name":"a","policy":1}', "policy"),
        (b'{"name":"a","expires":"2999-01-01T00:00:00"}', "expires"),
        (b'{"name":"a","on_budget":"pay"}', "on_budget"),
    ],
    ids=str,
)
def test_a_key_that_cannot_be_is_refused_by_its_field(
    gateway: GatewayUnderTest, body: bytes, param: str | None
) -> None:
    refused = ask(gateway, "POST", "/admin/keys", data=body)
    assert refused.status_code == 400, refused.text
    error = error_of(refused)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert (
        param is None
        or f"'{param}'" in error["message"]
        or "twice" in error["message"]
        or "NUL" in error["message"]
    )


def test_a_budget_is_kept_to_the_last_digit(gateway: GatewayUnderTest) -> None:
    for written in ("0.1", "123456.123456789", "1e-12", '"0.30"', "0"):
        body = b'{"name":"a","budget_usd":' + written.encode() + b"}"
        created = ask(gateway, "POST", "/admin/keys", data=body).json()
        assert created["budget_usd"] == float(written.strip('"'))


def test_an_unknown_key_is_not_found(gateway: GatewayUnderTest) -> None:
    for key_id in (new_key()[0], "nonsense", "0123456789ab:usage"):
        for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/rotate")):
            answer = ask(gateway, method, f"/admin/keys/{key_id}{path}", json={})
            assert (answer.status_code, error_of(answer)["code"]) == (404, "key_not_found")


def test_an_owner_s_budget_is_set_shown_and_taken_away(gateway: GatewayUnderTest) -> None:
    for name in ("bob", "B%20%2F%20ö"):
        path = f"/admin/owners/{name}"
        none = ask(gateway, "GET", path).json()
        assert (none["budget_usd"], none["period"], none["budget_spent_usd"]) == (None, None, None)
        put = ask(gateway, "PUT", path, json={"budget_usd": "2.5", "period": "month"})
        assert put.status_code == 200
        assert put.json()["name"] == unquote(name)
        assert (put.json()["budget_usd"], put.json()["period"]) == (2.5, "month")
        assert put.json()["budget_resets_at"].endswith("-01T00:00:00Z")
        assert ask(gateway, "GET", path).json() == put.json()
        assert ask(gateway, "DELETE", path).json() == none == ask(gateway, "GET", path).json()


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "budget_usd"), ({"budget_usd": None}, "budget_usd"), ({"budget_usd": 1, "rpm": 1}, "rpm")],
)
def test_an_owner_s_budget_that_cannot_be_is_refused(
    gateway: GatewayUnderTest, body: dict[str, Any], param: str
) -> None:
    refused = ask(gateway, "PUT", "/admin/owners/ann", json=body)
    assert (refused.status_code, error_of(refused)["param"]) == (400, param)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_the_admin_key_nothing_is_looked_at(
    gateway: GatewayUnderTest, method: str, path: str
) -> None:
    virtual = create(gateway)["key"]
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {virtual}"}):
        refused = ask(gateway, method, path, headers=headers, data=b"{ no json")
        assert (refused.status_code, error_of(refused)["code"]) == (401, "invalid_api_key")
        assert refused.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_where_no_admin_key_is_set_there_is_nothing(
    gateway_without_admin: GatewayUnderTest, method: str, path: str
) -> None:
    for headers in ({}, AUTHORIZED, {"Authorization": "Bearer None"}, {"x-api-key": ""}):
        answer = ask(gateway_without_admin, method, path, headers=headers, data=b"{ no json")
        elsewhere = ask(gateway_without_admin, method, "/admin/elsewhere", headers=headers)
        assert answer.status_code == elsewhere.status_code == 404
        assert answer.json() == elsewhere.json()


def test_the_admin_key_is_no_virtual_key(gateway: GatewayUnderTest) -> None:
    assert chat(gateway, ADMIN).status_code == 401


def test_the_log_holds_neither_the_admin_key_nor_a_virtual_one(gateway: GatewayUnderTest) -> None:
    created = create(gateway)
    chat(gateway, created["key"])
    refused = chat(gateway, f"{created['key'][:-1]}!")
    assert refused.status_code == 401
    assert created["key"][:30] not in refused.text
    assert eventually(lambda: created["id"] in gateway.service.log)
    assert created["key"][20:] not in gateway.service.log
    assert ADMIN not in gateway.service.log
    assert json.dumps(ADMIN)[1:-1] not in gateway.service.log
