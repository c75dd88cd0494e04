"""A second call beside one that takes unusually long."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from gateway.first_byte_times import NEEDED
from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.agreement import TOLERANCE_USD, books_of
from tests.support.processes import ROOT, running_model
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import SHORT
from tests.support.waiting import eventually
from tests.support.wire import Answer, ask, connected, post

pytestmark = [pytest.mark.heavy, pytest.mark.load]

SLOW_SECONDS = 3.0
USUAL_SECONDS = 0.2
UNUSUAL = "slow=1.2"
PROMPT_USD, ANSWER_USD = Decimal("0.0000014"), Decimal("0.0000050")
each_way = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])

Start = Callable[..., GatewayUnderTest]


@pytest.fixture(scope="module")
def start(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts gateways of one worker, which alone knows how long its answers took, before models of their
    own."""
    folder: Path = tmp_path_factory.mktemp("models")
    with running_model("cheap_model", folder) as cheap, running_model("expensive_model", folder) as dear:

        def start(**settings: str) -> GatewayUnderTest:
            gateway = start_gateway(
                CHEAP_MODEL_URL=f"{cheap.url}/v1",
                EXPENSIVE_MODEL_URL=f"{dear.url}/v1",
                WEB_CONCURRENCY="1",
                FORWARD_MOCK_FAULTS="on",
                GATEWAY_ADMIN_KEY=ADMIN_KEY,
                **settings,
            )
            return replace(gateway, model_urls={"CheapModel": cheap.url, "ExpensiveModel": dear.url})

        yield start


@pytest.fixture(scope="module")
def gateway(start: Start) -> GatewayUnderTest:
    """One that has seen what is usual."""
    gateway = start(UPSTREAM_HEDGING="on")
    learn(gateway)
    return gateway


def learn(gateway: GatewayUnderTest) -> None:
    """Let it see as many answers as it takes to know that they take about a fifth of a second."""
    for stream in (False, True):
        with ThreadPoolExecutor(NEEDED) as clients:
            asked = [
                clients.submit(request, gateway, fault=f"slow={USUAL_SECONDS}", stream=stream)
                for _ in range(NEEDED)
            ]
        assert [each.result().status for each in asked] == [200] * NEEDED


def request(
    gateway: GatewayUnderTest, *headers: str, fault: str | None = None, stream: bool = False
) -> Answer:
    return ask(gateway.gateway_url, bytes_of(*headers, fault=fault, stream=stream))


def bytes_of(*headers: str, fault: str | None, stream: bool) -> bytes:
    body = {"messages": [{"role": "user", "content": SHORT}], "stream": stream}
    mock = [f"X-Mock-Fault: {fault},id={uuid.uuid4().hex}"] if fault else []
    return post(json.dumps(body).encode(), *headers, *mock)


@dataclass(frozen=True)
class Told:
    """A member of `X-Gateway-Attempts`."""

    status: str
    error: str | None
    is_hedge: bool


def attempts_of(answer: Answer) -> list[Told]:
    told = []
    for member in answer.headers["X-Gateway-Attempts"].split(", "):
        fields = dict((field + "=").split("=")[:2] for field in member.split(";")[1:])
        told.append(Told(fields["status"], fields.get("error"), "hedge" in fields))
    return told


@contextmanager
def costing(gateway: GatewayUnderTest, usd: Decimal) -> Iterator[None]:
    """What is done meanwhile costs so much: the model says so, and the gateway agrees."""
    before = books_of(gateway)["CheapModel"]
    yield

    def agree() -> bool:
        since = books_of(gateway)["CheapModel"] - before
        return all(abs(each.cost_usd - usd) <= TOLERANCE_USD for each in (since.counted, since.billed))

    assert eventually(agree), books_of(gateway)["CheapModel"] - before


@each_way
def test_the_second_call_answers_where_the_first_is_slow_and_the_first_is_ended(
    gateway: GatewayUnderTest, stream: bool
) -> None:
    with costing(gateway, ANSWER_USD + PROMPT_USD):
        answer = request(gateway, fault=f"slow={SLOW_SECONDS},count=1", stream=stream)

        assert answer.status == 200
        assert answer.seconds < SLOW_SECONDS / 2
        assert attempts_of(answer) == [Told("499", "hedge_lost", False), Told("200", None, True)]
        assert calls_in_work(gateway) == 0


@each_way
def test_the_first_call_answers_where_the_second_is_no_quicker(
    gateway: GatewayUnderTest, stream: bool
) -> None:
    with costing(gateway, ANSWER_USD + PROMPT_USD):
        answer = request(gateway, fault=UNUSUAL, stream=stream)

        assert answer.status == 200
        assert attempts_of(answer) == [Told("200", None, False), Told("499", "hedge_lost", True)]


def test_a_plain_answer_tells_the_cost_of_both(gateway: GatewayUnderTest) -> None:
    with costing(gateway, ANSWER_USD + PROMPT_USD):
        answer = request(gateway, fault=f"slow={SLOW_SECONDS},count=1")
    assert Decimal(answer.headers["X-Gateway-Cost-Usd"]) == ANSWER_USD + PROMPT_USD


def test_both_together_stay_within_the_requests_cost_limit(gateway: GatewayUnderTest) -> None:
    before = books_of(gateway)["CheapModel"].billed.cost_usd
    limit = Decimal("0.0000100")
    body = {"messages": [{"role": "user", "content": "[[write 800 tokens]]"}]}
    headers = {"X-Gateway-Max-Cost-Usd": f"{limit}", "X-Mock-Fault": f"{UNUSUAL},id={uuid.uuid4().hex}"}

    assert gateway.post(body, headers=headers).status_code == 200

    assert eventually(lambda: calls_in_work(gateway) == 0)
    assert 0 < books_of(gateway)["CheapModel"].billed.cost_usd - before <= limit


def test_a_call_that_takes_its_usual_time_stays_alone(gateway: GatewayUnderTest) -> None:
    with costing(gateway, ANSWER_USD * 10):
        answers = [request(gateway) for _ in range(10)]
    assert [attempts_of(answer) for answer in answers] == [[Told("200", None, False)]] * 10


@each_way
def test_a_client_that_leaves_leaves_nothing_of_either_call_behind(
    gateway: GatewayUnderTest, stream: bool
) -> None:
    key_id, headers = create_key(gateway.gateway_url, budget_usd="1")
    seen = requests_seen(gateway)
    with costing(gateway, PROMPT_USD * 2):
        with connected(gateway.gateway_url) as connection:
            authorization = f"Authorization: {headers['Authorization']}"
            connection.send(bytes_of(authorization, fault=f"slow={SLOW_SECONDS}", stream=stream))
            assert eventually(lambda: requests_seen(gateway) == seen + 2)
            left = time.monotonic()
        assert eventually(lambda: calls_in_work(gateway) == 0)
        assert time.monotonic() - left < SLOW_SECONDS / 2
    held = f"{gateway.gateway_url}/admin/keys/{key_id}"
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert eventually(lambda: requests.get(held, headers=admin, timeout=5).json()["budget_held_usd"] == 0)


def test_many_at_once_are_all_answered_and_billed(gateway: GatewayUnderTest) -> None:
    with costing(gateway, (ANSWER_USD + PROMPT_USD) * 16), ThreadPoolExecutor(16) as clients:
        faults = [f"slow={SLOW_SECONDS},count=1"] * 16
        answers = list(clients.map(lambda fault: request(gateway, fault=fault), faults))
        assert [answer.status for answer in answers] == [200] * 16
        assert max(answer.seconds for answer in answers) < SLOW_SECONDS


@pytest.fixture(scope="module")
def unknowing_gateway(start: Start) -> GatewayUnderTest:
    """One that has seen next to nothing."""
    return start(UPSTREAM_HEDGING="on")


def test_nobody_knows_what_is_usual_of_the_first_calls(unknowing_gateway: GatewayUnderTest) -> None:
    answer = request(unknowing_gateway, fault=UNUSUAL)
    assert attempts_of(answer) == [Told("200", None, False)]


def test_refusals_say_nothing_of_what_is_usual(unknowing_gateway: GatewayUnderTest) -> None:
    for _ in range(NEEDED):
        assert request(unknowing_gateway, fault="status=400").status == 400
    answer = request(unknowing_gateway, fault=f"slow={USUAL_SECONDS}")
    assert attempts_of(answer) == [Told("200", None, False)]


def test_a_second_call_waits_for_no_place_at_its_model(start: Start, tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    models = (ROOT / "gateway" / "models.toml").read_text()
    catalog.write_text(models.replace("\n[CheapModel]\n", "\n[CheapModel]\nmax_concurrency = 1\n"))
    gateway = start(UPSTREAM_HEDGING="on", MODELS_FILE=str(catalog), QUEUE_TIMEOUT_SECONDS="10")
    for _ in range(NEEDED):
        assert request(gateway).status == 200

    answer = request(gateway, fault=UNUSUAL)

    assert attempts_of(answer) == [Told("200", None, False)]
    assert answer.seconds < SLOW_SECONDS


@pytest.mark.parametrize(
    "settings",
    [{}, {"UPSTREAM_HEDGING": "on", "RETRY_BUDGET_PERCENT": "0"}],
    ids=["by default", "without a budget for retries"],
)
def test_a_slow_call_stays_alone(start: Start, settings: dict[str, str]) -> None:
    gateway = start(**settings)
    learn(gateway)
    with costing(gateway, ANSWER_USD):
        answer = request(gateway, fault=UNUSUAL)
        assert attempts_of(answer) == [Told("200", None, False)]
        assert answer.seconds > USUAL_SECONDS * 2


def requests_seen(gateway: GatewayUnderTest) -> int:
    told: list[Any] = requests.get(f"{gateway.model_urls['CheapModel']}/requests", timeout=5).json()["data"]
    return sum(each["path"] == "/v1/chat/completions" for each in told)


def calls_in_work(gateway: GatewayUnderTest) -> int:
    """Those that the gateway has made and the model has not ended yet, by the log's and the model's word."""
    lines = [line for line in gateway.service.log_lines if "attempts" in line][-40:]
    ids = [attempt["call"] for line in lines for attempt in line["attempts"]]
    bills = [
        requests.get(f"{gateway.model_urls['CheapModel']}/ledger/{each}", timeout=5).json() for each in ids
    ]
    return sum(bill.get("state") == "running" for bill in bills)
