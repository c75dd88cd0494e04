"""5,000 requests of mixed kind, a fifth of them with a fault and a fifth with a client that leaves: the
gateway's bill is the providers'."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from functools import cached_property
from urllib.parse import urlsplit

import pytest

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.mix import (
    APIS,
    FAULTS_WITH_USAGE,
    FAULTS_WITHOUT_USAGE,
    Group,
    Planned,
    catalog_name,
    plan,
)
from tests.support.processes import running_model
from tests.support.prompts import prompts
from tests.support.stack import MODELS, ONE_CALL, Bill
from tests.support.wire import post

SETTINGS = ONE_CALL

SEED = 3
REQUESTS = 3000
CLIENTS = 32
EXACT = Decimal("1e-9")  # USD
ESTIMATED = Decimal("0.02")  # of the providers' bill
UPSTREAM_SECONDS = "2"
CLIENT_SECONDS = 30
pytestmark = [pytest.mark.timeout(400), pytest.mark.heavy, pytest.mark.load, pytest.mark.alone]
# Nobody leaves the first group, so its answers may come fast. The others are slow enough for clients to leave
# between two tokens, at the pace of real models.
FAST = {"FIRST_TOKEN_SECONDS": "0.02", "TOKEN_INTERVAL_SECONDS": "0.001"}
STEADY = {"FIRST_TOKEN_SECONDS": "0.3", "TOKEN_INTERVAL_SECONDS": "0.025"}
PACKAGES = {"CheapModel": "cheap_model", "ExpensiveModel": "expensive_model"}
PRICES = {
    "CheapModel": "input = 0.10\ncached_input = 0.025\noutput = 0.40",
    "ExpensiveModel": "input = 1.00\ncached_input = 0.10\noutput = 5.00",
}
# What the mocks' caches take off a token, in USD.
DISCOUNTS = {"CheapModel": Decimal("0.000000075"), "ExpensiveModel": Decimal("0.0000009")}
TRANSLATING = '["chat_completions", "completions", "embeddings"]'
NATIVE = '["chat_completions", "responses", "messages"]'


@dataclass(frozen=True)
class Mix:
    """All requests, served and billed, with how each ended for its client."""

    gateway: GatewayUnderTest
    planned: list[Planned]
    outcomes: list[str]
    seconds: float

    @cached_property
    def counted(self) -> dict[tuple[Group, str], Bill]:
        """The gateway's bill of each provider, which its catalog has under two names."""
        return {
            (group, model): total(
                self.gateway.counted(catalog_name(model, group, native=native)) for native in (False, True)
            )
            for group in Group
            for model in MODELS
        }

    @cached_property
    def billed(self) -> dict[tuple[Group, str], Bill]:
        """Each provider's own bill."""
        return {
            (group, model): self.gateway.billed(catalog_name(model, group, native=False))
            for group in Group
            for model in MODELS
        }

    def costs(self, group: Group) -> tuple[Decimal, Decimal]:
        """What the gateway and what the providers say that the calls of a group cost in USD."""
        ours, theirs = (
            sum((bills[group, model].cost_usd for model in MODELS), Decimal(0))
            for bills in (self.counted, self.billed)
        )
        return ours, theirs

    def report(self) -> str:
        """The figures for people."""
        lines = [
            f"\n{len(self.planned):,} requests by {CLIENTS} clients in {self.seconds:.0f} s, seed {SEED}"
        ]
        lines.append(f"ends: {dict(Counter(self.outcomes).most_common())}")
        for group in Group:
            calls = sum(planned.group is group for planned in self.planned)
            ours, theirs = self.costs(group)
            off = (ours - theirs) / theirs
            lines.append(
                f"{group}: {calls:,} requests; gateway {ours:.9f} USD, providers {theirs:.9f}: {off:+.3%}"
            )
            for model in MODELS:
                lines.append(f"  {model}: {self.counted[group, model]}")
                lines.append(f"  {' ' * len(model)}  {self.billed[group, model]}")
        return "\n".join(lines)


def total(bills: Iterable[Bill]) -> Bill:
    every = list(bills)
    return Bill(*(sum(getattr(bill, field.name) for bill in every) for field in fields(Bill)))


def catalog(urls: dict[str, str]) -> str:
    """Each provider twice: as one that is translated for, and as one that serves Responses and Messages
    itself. `auto` means the first pair alone."""
    tables = []
    for group in Group:
        for model in MODELS:
            for native in (False, True):
                name = catalog_name(model, group, native=native)
                tables.append(
                    f'[{name}]\nbase_url = "{urls[catalog_name(model, group, native=False)]}/v1"\n'
                    f"upstream_name = '{model}'\napis = {NATIVE if native else TRANSLATING}\n"
                    f"auto = {str(name in MODELS).lower()}\n"
                    f"[{name}.usd_per_million_tokens]\n{PRICES[model]}\n"
                )
    return "\n".join(tables)


def ask(url: str, planned: Planned) -> str:
    """Send one request as its client would, and say how that ended."""
    fault = [] if planned.fault is None else [f"X-Mock-Fault: {planned.fault}"]
    request = post(json.dumps(planned.body).encode(), *fault, "Connection: close", path=f"/v1/{planned.api}")
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 80)
    with socket.create_connection(address, CLIENT_SECONDS) as client:
        client.sendall(request)
        if planned.leave is not None and not planned.leave.events:
            time.sleep(planned.leave.seconds)
            return "left before the answer"
        received = b""
        while piece := client.recv(65536):
            received += piece
            if planned.leave is not None and received.count(b"\n\n") >= planned.leave.events:
                return "left in the middle"
    if planned.leave is not None:
        return "would have left later"
    status = received.split(b" ", 2)[1].decode()
    return f"{status}, broken" if b'"upstream_' in received and status == "200" else status


@pytest.fixture(scope="module")
def mix(start_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mix]:
    folder = tmp_path_factory.mktemp("mix")
    with ExitStack() as started:
        urls = {
            catalog_name(model, group, native=False): started.enter_context(
                running_model(PACKAGES[model], folder, **(FAST if group is Group.STATED else STEADY))
            ).url
            for group in Group
            for model in MODELS
        }
        models_file = folder / "models.toml"
        models_file.write_text(catalog(urls))
        gateway = start_gateway(
            MODELS_FILE=str(models_file),
            CHEAP_MODEL_URL=f"{urls['CheapModel']}/v1",
            EXPENSIVE_MODEL_URL=f"{urls['ExpensiveModel']}/v1",
            UPSTREAM_READ_TIMEOUT_SECONDS=UPSTREAM_SECONDS,
            FORWARD_MOCK_FAULTS="on",
        )
        gateway = replace(gateway, model_urls=urls)
        planned = plan(SEED, REQUESTS, prompts())
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as clients:
            outcomes = list(clients.map(lambda one: ask(gateway.gateway_url, one), planned))
        seconds = time.monotonic() - began
        await_quiet(gateway)
        yield Mix(gateway, planned, outcomes, seconds)


def await_quiet(gateway: GatewayUnderTest) -> None:
    """Wait until neither side writes anything to its bill any more."""
    last: object = None
    for _ in range(60):
        bills = [gateway.counters(), [gateway.billed(name) for name in gateway.model_urls]]
        if bills == last:
            return
        last = bills
        time.sleep(1)
    raise AssertionError("the bills do not come to rest")


def test_the_mix_is_what_it_claims_to_be(mix: Mix) -> None:
    faulted = [planned for planned in mix.planned if planned.fault is not None]
    leaving = [planned for planned in mix.planned if planned.leave is not None]
    assert len(mix.planned) == REQUESTS
    assert len(faulted) == len(leaving) == REQUESTS // 5
    faults = Counter(str(planned.fault).partition(",id=")[0] for planned in faulted)
    assert set(faults) == {*FAULTS_WITH_USAGE, *FAULTS_WITHOUT_USAGE}
    assert min(faults.values()) > REQUESTS // 100
    kinds = Counter((planned.api, planned.feature, planned.stream) for planned in mix.planned)
    assert set(kinds) == {
        (name, feature, stream)
        for name, api in APIS.items()
        for feature in api.features
        for stream in ((False, True) if api.streams else (False,))
    }
    natives = sum(planned.body["model"].endswith("native") for planned in mix.planned)
    assert natives > REQUESTS // 10
    left = Counter(mix.outcomes)["left in the middle"] + Counter(mix.outcomes)["left before the answer"]
    assert left > 0.98 * len(leaving)
    whole = [outcome for planned, outcome in zip(mix.planned, mix.outcomes, strict=True) if is_plain(planned)]
    assert set(whole) == {"200"}


def is_plain(planned: Planned) -> bool:
    """Whether nothing is in the way of its answer."""
    return planned.leave is None and planned.fault in (None, "no_usage", "slow=0.3")


def test_the_metrics_are_the_sum_of_all_bills(mix: Mix) -> None:
    total_cost = sum((bill.cost_usd for bill in mix.counted.values()), Decimal(0))
    assert Decimal(str(mix.gateway.metrics()["totalCostUsd"])) == pytest.approx(total_cost, abs=EXACT)
    assert "unexpected" not in mix.gateway.service.log


def test_where_the_provider_states_its_usage_the_bill_is_the_providers_to_a_billionth_of_a_dollar(
    mix: Mix, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(mix.report())
    for model in MODELS:
        counted, billed = mix.counted[Group.STATED, model], mix.billed[Group.STATED, model]
        assert counted.rounded() == billed.rounded(), model
    ours, theirs = mix.costs(Group.STATED)
    assert abs(ours - theirs) <= EXACT


def test_where_it_does_not_the_bill_is_the_providers_within_two_percent(mix: Mix) -> None:
    """The discount for what was cached included, which nobody has stated of these calls."""
    groups = [mix.costs(group) for group in (Group.UNSTATED, Group.UNDISCOUNTED)]
    ours, theirs = (sum(costs, Decimal(0)) for costs in zip(*groups, strict=True))
    hidden = sum(
        mix.billed[Group.UNDISCOUNTED, model].cached_input_tokens * DISCOUNTS[model] for model in MODELS
    )
    assert hidden > theirs * ESTIMATED, "nothing was hidden"
    assert abs(ours - theirs) <= ESTIMATED * theirs, f"{ours} and {theirs}"
