"""Every cell of the fault matrix in docs/reliability.md holds."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
import redis

from gateway.retries import RETRIED_STATUSES
from model_server.faults import Kind
from tests.conftest import GatewayUnderTest
from tests.support.agreement import TOLERANCE_USD, books_of
from tests.support.fault_matrix import BROKEN, PAGE, REFUSED, TIMES, Cell, read_matrix
from tests.support.own_stack import PREFIX, own_gateway
from tests.support.ports import lasting_port
from tests.support.processes import redis_server, running_model
from tests.support.spending import ADMIN_KEY
from tests.support.stack import MODELS
from tests.support.waiting import eventually
from tests.support.wire import Answer, connected, head, post

pytestmark = [pytest.mark.heavy, pytest.mark.load, pytest.mark.timeout(240)]

CLIENTS = 8
TIMEOUT_SECONDS = "0.8"
BILLS_SECONDS = 10
NO_WAIT = {"FIRST_TOKEN_SECONDS": "0", "TOKEN_INTERVAL_SECONDS": "0.001"}
PAGE_TEXT = PAGE.read_text()
CELLS = read_matrix(PAGE_TEXT)
CHEAPEST = {"model": "CheapModel", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
ADMIN = f"Authorization: Bearer {ADMIN_KEY}"
# The page's names of models, by those of the catalog below.
CALLED = {"NoCheapModel": "CheapModel", "NoExpensiveModel": "ExpensiveModel"}
CATALOG = """
[CheapModel]
base_url = "{CheapModel}/v1"
bill_path = "/ledger/{{call_id}}"
usd_per_million_tokens = {{input = 0.10, cached_input = 0.025, output = 0.40}}
[ExpensiveModel]
base_url = "{ExpensiveModel}/v1"
bill_path = "/ledger/{{call_id}}"
usd_per_million_tokens = {{input = 1.00, cached_input = 0.10, output = 5.00}}
[NoCheapModel]
base_url = "{nowhere}/v1"
usd_per_million_tokens = {{input = 0.10, cached_input = 0.025, output = 0.40}}
[NoExpensiveModel]
base_url = "{nowhere}/v1"
usd_per_million_tokens = {{input = 1.00, cached_input = 0.10, output = 5.00}}
"""


@dataclass(frozen=True)
class Bill:
    """Tokens and USD, as one side has booked them."""

    input_tokens: int = 0
    output_tokens: int = 0
    usd: Decimal = Decimal(0)


@dataclass
class Seen:
    """What has come of a cell: for its client, and in the books once all bills were in."""

    request_id: str
    key_id: str
    answer: Answer
    seconds: float
    counted: Bill = Bill()
    billed: Bill = Bill()
    held: Decimal = Decimal(0)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayUnderTest]:
    """With short time-outs and no circuits; retries are a matter of single requests here, so that their
    budget is as large as can be."""
    folder = tmp_path_factory.mktemp("matrix")
    with (
        running_model("cheap_model", folder, **NO_WAIT) as cheap,
        running_model("expensive_model", folder, **NO_WAIT) as expensive,
        redis_server(folder, appendonly=False) as server,
    ):
        urls = {"CheapModel": cheap.url, "ExpensiveModel": expensive.url}
        catalog = folder / "models.toml"
        catalog.write_text(CATALOG.format(**urls, nowhere=f"http://127.0.0.1:{lasting_port()}"))
        with own_gateway(
            folder,
            urls,
            server,
            MODELS_FILE=str(catalog),
            WEB_CONCURRENCY="1",
            FORWARD_MOCK_FAULTS="on",
            CIRCUIT_BREAKER="off",
            RETRY_BUDGET_PERCENT="100",
            UPSTREAM_FIRST_BYTE_TIMEOUT_SECONDS=TIMEOUT_SECONDS,
            UPSTREAM_IDLE_TIMEOUT_SECONDS=TIMEOUT_SECONDS,
            REQUEST_TIMEOUT_SECONDS="30",
            REDIS_TIMEOUT_SECONDS="2",  # a busy machine is none of the faults
            GATEWAY_ADMIN_KEY=ADMIN_KEY,
        ) as gateway:
            yield gateway


@pytest.fixture(scope="module")
def seen(gateway: GatewayUnderTest) -> dict[Cell, Seen]:
    """What has come of every cell. Many are tried at once, since most of a cell's time is waiting; those that
    were late in the crowd, as they can be where a machine has much else to do, once more in a small one."""
    # The costly ones are spread, as the budget for retries lasts for so many at a time.
    cells = random.Random(5).sample(CELLS, len(CELLS))
    with ThreadPoolExecutor(CLIENTS) as clients:
        seen = dict(zip(cells, clients.map(lambda cell: try_cell(gateway, cell), cells), strict=True))
    late = [cell for cell, each in seen.items() if each.seconds > cell.promise.seconds[1]]
    print(f"{len(late)} of {len(cells)} cells were late in the crowd")
    with ThreadPoolExecutor(CLIENTS // 3) as clients:
        again = clients.map(lambda cell: try_cell(gateway, cell, f"{cell.id}-again"), late)
        seen |= dict(zip(late, again, strict=True))
    read_books(gateway, seen)
    return seen


def try_cell(gateway: GatewayUnderTest, cell: Cell, request_id: str | None = None) -> Seen:
    request_id = request_id or cell.id
    with connected(gateway.gateway_url) as connection:

        def ask(values: Any, *headers: str, path: str = "/v1/chat/completions") -> Answer:
            body = json.dumps(values).encode()
            connection.send(post(body, "Content-Type: application/json", *headers, path=path))
            return connection.answer()

        fields = {"name": cell.id, "budget_usd": 1, "models": models_of(cell)}
        made = ask(fields, ADMIN, path="/admin/keys")
        for _ in range(50):  # where Redis has too much to do to say at once that there is a key
            if made.status != 503:
                break
            time.sleep(0.2)
            made = ask(fields, ADMIN, path="/admin/keys")
        assert made.status == 201, made.body
        key = made.json()
        for _ in range(cell.promise.retries - 1):  # each request saves a retry
            assert ask(CHEAPEST).status == 200
        headers = [f"Authorization: Bearer {key['key']}", f"X-Request-Id: {request_id}"]
        if (fault := cell.fault_header(request_id)) is not None:
            headers.append(f"X-Mock-Fault: {fault}")
        body = {"messages": [{"role": "user", "content": cell.content}], "stream": cell.streamed}
        began = time.monotonic()
        answer = ask(body, *headers)
        return Seen(request_id, key["id"], answer, time.monotonic() - began)


def models_of(cell: Cell) -> list[str]:
    """The models that the request may go to."""
    if cell.fault != REFUSED:
        return list(MODELS)
    return [f"No{model}" if BROKEN[cell.broken] in (model, None) else model for model in MODELS]


def read_books(gateway: GatewayUnderTest, seen: dict[Cell, Seen]) -> None:
    """Note of each cell what the gateway has counted for its key, what is still held, and what the models
    bill for its calls, once nothing is held any more."""
    calls = {line["request_id"]: line["attempts"] for line in gateway.service.log_lines if "attempts" in line}
    with redis.Redis.from_url(gateway.redis_url, decode_responses=True) as client:

        def held() -> list[Decimal]:
            with client.pipeline() as pipeline:
                for each in seen.values():
                    pipeline.hget(f"{PREFIX}:budget:key:{each.key_id}:total", "held")
                return [Decimal(held or 0) for held in pipeline.execute()]

        eventually(lambda: not any(held()), BILLS_SECONDS)
        for each, still_held in zip(seen.values(), held(), strict=True):
            each.held = still_held
            usage = client.hgetall(f"{PREFIX}:key:{each.key_id}:usage")
            each.counted = Bill(
                int(usage.get("input_tokens", 0)),
                int(usage.get("output_tokens", 0)),
                Decimal(usage.get("cost_usd", 0)),
            )
    for model in MODELS:
        with connected(gateway.model_urls[model]) as connection:
            for each in seen.values():
                for call in calls[each.request_id]:
                    if call["model"] == model:
                        connection.send(head(method="GET", path=f"/ledger/{call['call']}"))
                        each.billed = added(each.billed, connection.answer("GET"))


def added(bill: Bill, answer: Answer) -> Bill:
    """The bill and that of one more call."""
    told = json.loads(answer.body, parse_float=Decimal)
    assert told["state"] == "ended"
    return Bill(
        bill.input_tokens + told["input_tokens"],
        bill.output_tokens + told["output_tokens"],
        bill.usd + told["cost_usd"],
    )


def calls_of(answer: Answer) -> list[tuple[str, int]]:
    """The calls by `X-Gateway-Attempts`."""
    calls = []
    for member in answer.headers["X-Gateway-Attempts"].split(", "):
        name, *parameters = member.split(";")
        told = {parameter.partition("=")[0]: parameter.partition("=")[2] for parameter in parameters}
        assert float(told["duration_ms"]) > 0
        calls.append((CALLED.get(name, name), int(told["status"])))
    return calls


def error_of(answer: Answer, streamed: bool) -> Any:
    """The error that ends the answer, None for one that is whole."""
    if answer.status != 200:
        return answer.json()["error"]
    if not streamed:
        assert answer.json()["choices"][0]["finish_reason"] == "stop"
        return None
    last = answer.body.decode().strip().rpartition("data: ")[2]
    return None if last == "[DONE]" else json.loads(last)["error"]


def test_the_matrix_has_every_fault_in_every_way_once() -> None:
    faults = {cell.fault for cell in CELLS} - {REFUSED}
    ways = [
        (fault, streamed, times, broken)
        for fault in [*faults, REFUSED]
        for streamed in (False, True)
        for times in (TIMES if fault != REFUSED else ("always",))
        for broken in BROKEN
    ]
    assert sorted(ways) == sorted((cell.fault, cell.streamed, cell.times, cell.broken) for cell in CELLS)
    assert {f"status={status}" for status in RETRIED_STATUSES} <= faults
    assert f"every one of its {len(CELLS)} cells" in PAGE_TEXT
    names = {re.split("[=,]", fault)[0] for fault in faults}
    assert names == {str(kind) for kind in Kind if kind is not Kind.NONE} | {"slow"}


def test_the_models_have_answered_no_call_that_is_not_counted(
    gateway: GatewayUnderTest, seen: dict[Cell, Seen]
) -> None:
    for model, books in books_of(gateway).items():
        difference = books.counted - books.billed
        assert (difference.input_tokens, difference.output_tokens) == (0, 0), model
        assert abs(difference.cost_usd) <= TOLERANCE_USD
        assert books.billed.calls > len(seen) / 4, "the models were hardly asked"


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_a_fault_does_what_the_page_says(seen: dict[Cell, Seen], cell: Cell) -> None:
    promise, this = cell.promise, seen[cell]
    answer = this.answer

    assert calls_of(answer) == list(promise.calls)
    model = answer.headers["X-Gateway-Model"]
    assert CALLED.get(model, model) == promise.calls[-1][0]
    assert answer.status == promise.status
    error = error_of(answer, cell.streamed)
    if promise.in_providers_words:
        assert error["message"] == f"The mock was asked to answer with status {promise.status}."
        asked = re.search(r"retry_after=(\d+)", cell.fault)
        assert answer.headers.get("Retry-After") == (asked[1] if asked else None)
    else:
        assert (error and error["code"]) == promise.code
    assert answer.headers.get("X-Should-Retry") == ("false" if promise.is_gateways_error else None)

    assert this.counted == this.billed
    assert promise.bill[0] <= this.counted.usd * 1_000_000 <= promise.bill[1]
    assert this.held == 0
    assert promise.seconds[0] <= this.seconds <= promise.seconds[1]
