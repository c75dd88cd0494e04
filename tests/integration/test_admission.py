"""What a call waits for before it is made, what it holds meanwhile, and what becomes of it where nobody waits
for it any more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.gated import GatedProvider, gated_provider
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually
from tests.support.wire import connected, post

pytestmark = pytest.mark.heavy

# Long enough for a request to come to where it waits.
UNDER_WAY_SECONDS = 0.25
TOKENS = 100
# A call of a model at a dollar costs at most 100 tokens and 14 of its prompt; what is left buys none.
ONE_CALL_USD, TWO_CALLS_USD = "0.000130", "0.000240"
CATALOG = """
[Narrow]
base_url = "{narrow}"
max_concurrency = 1
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Broken]
base_url = "{broken}"
auto = false
fallbacks = ["Narrow", "Wide"]
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Silent]
base_url = "{wide}"
auto = false
fallbacks = []
timeouts = {{first_byte = 0.2}}
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Wide]
base_url = "{wide}"
auto = false
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Dear]
base_url = "{dear}"
usd_per_million_tokens = {{input = 100, cached_input = 100, output = 100}}
"""
SETTINGS = {
    "WEB_CONCURRENCY": "1",
    "GATEWAY_ADMIN_KEY": ADMIN_KEY,
    "QUEUE_TIMEOUT_SECONDS": "3",
    "UPSTREAM_RETRIES": "2",
    "CIRCUIT_BREAKER": "off",
}


@dataclass(frozen=True)
class Providers:
    narrow: GatedProvider
    wide: GatedProvider
    dear: GatedProvider
    broken: GatedProvider

    @property
    def urls(self) -> dict[str, str]:
        return {name: provider.url for name, provider in vars(self).items()}


@pytest.fixture(scope="module")
def providers() -> Iterator[Providers]:
    with ExitStack() as opened:
        providers = Providers(*(opened.enter_context(gated_provider()) for _ in range(4)))
        providers.broken.fail(10**6, status=501)
        yield providers


@pytest.fixture(scope="module")
def catalog(providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("admission") / "models.toml"
    file.write_text(CATALOG.format(**providers.urls))
    return str(file)


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway, catalog: str) -> GatewayUnderTest:
    return start_gateway(MODELS_FILE=catalog)


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def chat(
    gateway: GatewayUnderTest,
    model: str = "auto",
    headers: dict[str, str] | None = None,
    content: str = SHORT,
) -> requests.Response:
    return gateway.post(body_of(model, content), headers=headers)


def body_of(model: str, content: str = SHORT) -> dict[str, Any]:
    return {"model": model, "max_tokens": TOKENS, "messages": [{"role": "user", "content": content}]}


def models_of(answer: requests.Response) -> list[str]:
    return [member.split(";")[0] for member in answer.headers["X-Gateway-Attempts"].split(", ")]


def test_who_waits_for_a_budget_holds_no_place_at_a_model(
    gateway: GatewayUnderTest, providers: Providers, clients: ThreadPoolExecutor
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd=ONE_CALL_USD)
    with providers.wide.closed():
        holding = clients.submit(chat, gateway, "Wide", headers)
        assert providers.wide.has(1)
        waiting = clients.submit(chat, gateway, "Narrow", headers)
        time.sleep(UNDER_WAY_SECONDS)

        assert chat(gateway, "Narrow").status_code == 200
        assert not waiting.done()
    assert [holding.result().status_code, waiting.result().status_code] == [200, 200]


def test_who_leaves_the_line_for_a_place_gives_its_budget_back(
    gateway: GatewayUnderTest, providers: Providers, clients: ThreadPoolExecutor
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd=ONE_CALL_USD)
    with providers.narrow.closed():
        held = clients.submit(chat, gateway, "Narrow")
        assert providers.narrow.has(1)
        body = json.dumps(body_of("Narrow")).encode()
        with connected(gateway.gateway_url) as client:
            client.send(post(body, f"Authorization: {headers['Authorization']}"))
            time.sleep(UNDER_WAY_SECONDS)
        # A hold that stayed would keep this one waiting for longer than the client does.
        answer = gateway.post(body_of("Wide"), headers={**headers, "X-Request-Timeout": "2"})
        assert answer.status_code == 200
    assert held.result().status_code == 200


def test_a_call_that_a_budget_takes_to_another_model_has_its_place_there(
    gateway: GatewayUnderTest, providers: Providers, clients: ThreadPoolExecutor
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="0.01", on_budget="downgrade")
    with providers.narrow.closed():
        asked = [clients.submit(chat, gateway, "auto", headers, LONG) for _ in range(2)]
        assert providers.narrow.has(1)
        assert not providers.narrow.has(2, UNDER_WAY_SECONDS)
    answers = [each.result() for each in asked]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [models_of(answer) for answer in answers] == [["Narrow"], ["Narrow"]]


def test_it_is_repeated_there_and_not_at_the_model_that_the_budget_is_to_be_spared(
    gateway: GatewayUnderTest, providers: Providers
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="0.01", on_budget="downgrade")
    providers.narrow.fail(1)
    answer = chat(gateway, "auto", headers, LONG)
    assert answer.status_code == 200
    assert models_of(answer) == ["Narrow", "Narrow"]
    assert "budget" in answer.headers["X-Gateway-Reason"]


def test_nobody_else_is_called_for_a_client_that_leaves_while_a_further_call_waits(
    gateway: GatewayUnderTest, providers: Providers, clients: ThreadPoolExecutor
) -> None:
    wide, broken = providers.wide.come, providers.broken.come
    with providers.narrow.closed():
        held = clients.submit(chat, gateway, "Narrow")
        assert providers.narrow.has(1)
        with connected(gateway.gateway_url) as client:
            client.send(post(json.dumps(body_of("Broken")).encode()))
            assert eventually(lambda: providers.broken.come == broken + 1)
            time.sleep(UNDER_WAY_SECONDS)  # and it stands in line for the next model
        assert eventually(lambda: line_of(gateway, "Broken") is not None)
    assert held.result().status_code == 200
    line = line_of(gateway, "Broken")
    assert line is not None
    assert (line["status"], line["client_left"]) == (499, True)
    assert [attempt["model"] for attempt in line["attempts"]] == ["Broken"]
    assert providers.wide.come == wide


def line_of(gateway: GatewayUnderTest, model: str) -> dict[str, Any] | None:
    """What the log says of the last request whose first call was of this model."""
    lines = [line for line in gateway.service.log_lines if line.get("attempts")]
    return next((line for line in reversed(lines) if line["attempts"][0]["model"] == model), None)


@pytest.mark.parametrize(("limit", "calls"), [(ONE_CALL_USD, 1), (TWO_CALLS_USD, 2), ("1", 3)])
def test_calls_of_which_nobody_will_say_what_they_cost_count_in_full_against_a_cost_limit(
    gateway: GatewayUnderTest, providers: Providers, limit: str, calls: int
) -> None:
    come = providers.wide.come
    with providers.wide.closed():
        answer = chat(gateway, "Silent", {"X-Gateway-Max-Cost-Usd": limit})
    assert answer.status_code == 504
    assert models_of(answer) == ["Silent"] * calls
    assert providers.wide.come == come + calls


def test_nobody_else_is_called_by_a_worker_that_stops_while_a_further_call_waits(
    start_gateway: StartGateway, catalog: str, providers: Providers, clients: ThreadPoolExecutor
) -> None:
    settings = {"QUEUE_TIMEOUT_SECONDS": "30", "SHUTDOWN_TIMEOUT_SECONDS": "5"}
    gateway = start_gateway(MODELS_FILE=catalog, **settings)
    wide, broken = providers.wide.come, providers.broken.come
    with providers.narrow.closed():
        held = clients.submit(chat, gateway, "Narrow")
        assert providers.narrow.has(1)
        waiting = clients.submit(chat, gateway, "Broken")
        assert eventually(lambda: providers.broken.come == broken + 1)
        time.sleep(UNDER_WAY_SECONDS)

        assert gateway.service.stop() == 0
        answers = [held.result(), waiting.result()]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert [answer.json()["error"]["code"] for answer in answers] == ["overloaded"] * 2
    assert models_of(answers[1]) == ["Broken"]
    assert providers.wide.come == wide
