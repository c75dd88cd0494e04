"""What says that a model is ill, what says that it is well again, and who asks it while it is shut."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.gated import GatedProvider, gated_provider
from tests.support.spending import ADMIN_KEY, create_key
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

FAILURES = 3  # in a row shut a model
OPEN_SECONDS = 1.0
UNDER_WAY_SECONDS = 0.25
# Each model is shut by one test alone.
CATALOG = """
[Cheap]
base_url = "{provider}"
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Refusing]
base_url = "{provider}"
auto = false
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Probed]
base_url = "{provider}"
auto = false
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Tried]
base_url = "{provider}"
auto = false
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Hurried]
base_url = "{provider}"
auto = false
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Healed]
base_url = "{provider}"
auto = false
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Counting]
base_url = "{provider}"
apis = ["messages"]
auto = false
usd_per_million_tokens = {{input = 1, cached_input = 1, output = 1}}

[Dear]
base_url = "{dear}"
usd_per_million_tokens = {{input = 100, cached_input = 100, output = 100}}
"""
SETTINGS = {
    "WEB_CONCURRENCY": "1",
    "GATEWAY_ADMIN_KEY": ADMIN_KEY,
    "UPSTREAM_RETRIES": "1",
    "CIRCUIT_FAILURES": str(FAILURES),
    "CIRCUIT_OPEN_SECONDS": str(OPEN_SECONDS),
}


@pytest.fixture(scope="module")
def provider() -> Iterator[GatedProvider]:
    with gated_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def dear() -> Iterator[GatedProvider]:
    with gated_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def gateway(
    start_gateway: StartGateway,
    provider: GatedProvider,
    dear: GatedProvider,
    tmp_path_factory: pytest.TempPathFactory,
) -> GatewayUnderTest:
    catalog = tmp_path_factory.mktemp("shut") / "models.toml"
    catalog.write_text(CATALOG.format(provider=provider.url, dear=dear.url))
    return start_gateway(MODELS_FILE=str(catalog))


@pytest.fixture(autouse=True)
def well_again(provider: GatedProvider) -> Iterator[None]:
    yield
    provider.fail(0)


def ask(
    gateway: GatewayUnderTest,
    model: str,
    headers: dict[str, str] | None = None,
    *,
    content: str = SHORT,
    api: str = "chat/completions",
) -> requests.Response:
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    body = {"model": model, "max_tokens": 100, "messages": messages}
    return requests.post(f"{gateway.gateway_url}/v1/{api}", json=body, headers=headers, timeout=20)


def failing(gateway: GatewayUnderTest, provider: GatedProvider, model: str, *, status: int = 501) -> None:
    """One request that the provider fails, or refuses."""
    come = provider.come
    provider.fail(1, status)
    answer = ask(gateway, model)
    assert provider.come == come + 1, answer.text
    assert answer.status_code == (502 if status >= 500 else status)


def is_shut(gateway: GatewayUnderTest, model: str, *, api: str = "chat/completions") -> bool:
    answer = ask(gateway, model, api=api)
    return answer.status_code == 503 and "has failed too often just now" in answer.text


def test_what_is_refused_in_between_does_not_keep_a_model_that_fails_in_use(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    for _ in range(FAILURES):
        failing(gateway, provider, "Refusing", status=400)
        failing(gateway, provider, "Refusing")
    assert is_shut(gateway, "Refusing")


def test_a_refusal_does_not_show_that_a_model_is_well_again(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    for _ in range(FAILURES):
        failing(gateway, provider, "Probed")
    assert is_shut(gateway, "Probed")
    trial(gateway, provider, "Probed", status=400)
    trial(gateway, provider, "Probed", status=501)  # one is enough for a model that is not well yet
    assert is_shut(gateway, "Probed")


def test_a_model_on_trial_is_called_once_as_all_others_are_refused_meanwhile(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    for _ in range(FAILURES):
        failing(gateway, provider, "Tried")
    trial(gateway, provider, "Tried", status=503)  # which is tried again otherwise
    assert is_shut(gateway, "Tried")


def test_a_failure_counts_though_there_was_no_time_for_a_second_call_to_end(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    with provider.closed():
        for _ in range(FAILURES):
            provider.fail(1, status=503)
            answer = ask(gateway, "Hurried", {"X-Request-Timeout": "0.4"})
            assert answer.headers["X-Gateway-Attempts"].count("Hurried") == 2
            assert answer.status_code == 502
    assert is_shut(gateway, "Hurried")


def trial(gateway: GatewayUnderTest, provider: GatedProvider, model: str, *, status: int) -> None:
    """The next request that a model which is shut gets, which its provider fails or refuses."""
    come = provider.come
    provider.fail(1, status)  # a second call would be answered

    def comes() -> bool:
        ask(gateway, model)
        return provider.come == come + 1

    assert eventually(comes)


def test_who_waits_for_a_budget_does_not_keep_a_model_shut(
    gateway: GatewayUnderTest, provider: GatedProvider, dear: GatedProvider
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="0.0115")  # one call of Dear
    with ThreadPoolExecutor(2) as clients, dear.closed():
        holding = clients.submit(ask, gateway, "Dear", headers)
        assert dear.has(1)
        for _ in range(FAILURES):
            failing(gateway, provider, "Healed")
        time.sleep(OPEN_SECONDS)
        waiting = clients.submit(ask, gateway, "Healed", headers, content=LONG * 10)
        time.sleep(UNDER_WAY_SECONDS)
        assert not waiting.done()

        assert ask(gateway, "Healed").status_code == 200
        dear.open()
        assert [holding.result().status_code, waiting.result().status_code] == [200, 200]


def test_failures_of_calls_that_a_budget_took_to_a_model_shut_it_for_such_calls_too(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    _, headers = create_key(gateway.gateway_url, budget_usd="0.011", on_budget="downgrade")
    provider.fail(10**6, status=501)
    come = provider.come
    for _ in range(FAILURES):
        ask(gateway, "auto", headers, content=LONG)
    assert provider.come == come + FAILURES

    answer = ask(gateway, "auto", headers, content=LONG)

    assert provider.come == come + FAILURES
    assert "Cheap;" not in answer.headers["X-Gateway-Attempts"]


def test_the_tokens_of_a_prompt_are_estimated_while_who_could_count_them_is_shut(
    gateway: GatewayUnderTest, provider: GatedProvider
) -> None:
    provider.fail(10**6, status=501)
    for _ in range(FAILURES):
        ask(gateway, "Counting", api="messages")
    come = provider.come

    counted = ask(gateway, "Counting", api="messages/count_tokens")

    assert counted.json() == {"input_tokens": 14}
    assert provider.come == come
    assert is_shut(gateway, "Counting", api="messages")
