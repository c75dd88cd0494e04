"""Whoever got an answer can say how good it was; nobody else can, and nothing else is taken for a score."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.decisions import decisions
from tests.support.own_stack import own_gateway
from tests.support.processes import RedisServer
from tests.support.refusals import assert_error_shape
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

PATH = "/v1/feedback"


@pytest.fixture(scope="module")
def keyed(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(GATEWAY_ADMIN_KEY=ADMIN_KEY, GATEWAY_REQUIRE_KEYS="on")


def tell(gateway: GatewayUnderTest, body: object, **headers: str) -> requests.Response:
    return requests.post(f"{gateway.gateway_url}{PATH}", json=body, headers=headers, timeout=10)


def asked(gateway: GatewayUnderTest, **headers: str) -> str:
    """The id of a request that was answered just now."""
    answer = gateway.post({"messages": [{"role": "user", "content": SHORT}]}, headers=headers)
    assert answer.status_code == 200
    return answer.headers["X-Request-Id"]


def score_of(gateway: GatewayUnderTest, request_id: str, key_id: str | None = None) -> float | None:
    (found,) = [each for each in decisions(gateway) if (each.request_id, each.key_id) == (request_id, key_id)]
    return found.feedback


def test_an_answer_can_be_scored_as_soon_as_it_is_there(gateway: GatewayUnderTest) -> None:
    for score in (0, 1, 0.25, 1.0):
        request_id = asked(gateway)
        told = tell(gateway, {"id": request_id, "score": score})
        assert (told.status_code, told.json()) == (
            200,
            {"object": "feedback", "id": request_id, "score": score},
        )
        assert score_of(gateway, request_id) == score


def test_the_last_score_counts(gateway: GatewayUnderTest) -> None:
    request_id = asked(gateway)
    for score in (0.1, 0.9):
        assert tell(gateway, {"id": request_id, "score": score}).status_code == 200
    assert score_of(gateway, request_id) == 0.9


def test_an_id_that_is_used_again_has_no_score_yet(gateway: GatewayUnderTest) -> None:
    request_id = uuid.uuid4().hex
    asked(gateway, **{"X-Request-Id": request_id})
    tell(gateway, {"id": request_id, "score": 1})
    asked(gateway, **{"X-Request-Id": request_id})
    assert score_of(gateway, request_id) is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "id"),
        ({"id": "a"}, "score"),
        ({"score": 1}, "id"),
        *(({"id": bad, "score": 1}, "id") for bad in (None, 1, "", "a b", "a" * 129, ["a"], "a\n")),
        *(({"id": "a", "score": bad}, "score") for bad in (None, True, "1", -0.1, 1.1, 10**400, [1])),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_feedback_is_refused_by_the_name_of_the_field(
    gateway: GatewayUnderTest, body: object, param: str
) -> None:
    told = tell(gateway, body)
    assert told.status_code == 400
    assert_error_shape(PATH, told.json(), own=True)
    assert told.json()["error"]["param"] == param


@pytest.mark.parametrize("body", ["", "[]", "{", '{"id": "a", "score": NaN}', '{"id": "a", "score": 1e999}'])
def test_what_is_no_json_is_refused(gateway: GatewayUnderTest, body: str) -> None:
    told = requests.post(f"{gateway.gateway_url}{PATH}", data=body, timeout=10)
    assert told.status_code == 400
    assert_error_shape(PATH, told.json(), own=True)


def test_a_request_that_is_not_known_is_told_so(gateway: GatewayUnderTest) -> None:
    named = gateway.chat(SHORT, model="CheapModel").headers["X-Request-Id"]
    for request_id in (uuid.uuid4().hex, named):
        told = tell(gateway, {"id": request_id, "score": 1})
        assert told.status_code == 404
        assert told.json()["error"]["code"] == "request_not_found"


def test_a_key_scores_its_own_requests_and_no_others(keyed: GatewayUnderTest) -> None:
    (one, of_one), (other, of_other) = create_key(keyed.gateway_url), create_key(keyed.gateway_url)
    request_id = asked(keyed, **of_one)
    body = {"id": request_id, "score": 1}
    assert tell(keyed, body).status_code == 401
    assert tell(keyed, body, **of_other).status_code == 404
    assert tell(keyed, body, **of_one).status_code == 200
    # The other may choose the same id for a request of its own.
    asked(keyed, **of_other, **{"X-Request-Id": request_id})
    assert tell(keyed, {"id": request_id, "score": 0}, **of_other).status_code == 200
    assert (score_of(keyed, request_id, one), score_of(keyed, request_id, other)) == (1, 0)


def test_a_later_request_can_bring_the_score_of_an_earlier_one(gateway: GatewayUnderTest) -> None:
    first = asked(gateway)
    second = asked(gateway, **{"X-Gateway-Feedback": f"{first};score=0.5"})
    assert eventually(lambda: score_of(gateway, first) == 0.5, 5)
    assert score_of(gateway, second) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        ";",
        "x",
        "ID",
        "ID;score=",
        "ID;score=2",
        "ID;score=-1",
        "ID;score=nan",
        "ID;rank=1",
        "a b;score=1",
    ],
)
def test_a_header_that_cannot_be_read_is_passed_over(gateway: GatewayUnderTest, header: str) -> None:
    first = asked(gateway)
    asked(gateway, **{"X-Gateway-Feedback": header.replace("ID", first)})
    asked(gateway, **{"X-Gateway-Feedback": f"{uuid.uuid4().hex};score=1"})
    assert score_of(gateway, first) is None


def test_a_score_that_nobody_can_take_now_is_refused_and_not_lost_silently(
    own_redis: RedisServer, model_urls: dict[str, str], tmp_path: Path
) -> None:
    with own_gateway(tmp_path, model_urls, own_redis) as gateway:
        request_id = asked(gateway)
        own_redis.kill()
        told = tell(gateway, {"id": request_id, "score": 1})
        assert (told.status_code, told.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert "Retry-After" in told.headers
        own_redis.start()
        assert eventually(lambda: tell(gateway, {"id": request_id, "score": 1}).status_code == 200, 10)
