"""One suite for both set-ups: with REDIS_URL and GATEWAY_URL set (as in the `tests` container) it uses that
Redis and that stack, else it starts its own as local processes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from tests.support.processes import (
    RedisServer,
    Service,
    redis_server,
    running_gateway,
    running_model,
    running_redis,
)
from tests.support.stack import Stack
from tests.support.turns import turn

# How long an example takes says more about the machine than about the code. The same examples are drawn in
# every run, so that a failure is that of a change; `--hypothesis-profile explore` draws others.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("suite")

StartGateway = Callable[..., "GatewayUnderTest"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, those of a file stay together, as they share a gateway. So do
    those marked `load`, and all that count what the stack does where that is the same one for every process.
    What takes longest begins first."""
    if not hasattr(config, "workerinput"):
        return
    groups: dict[Path, str] = {}
    for item in items:
        if item.get_closest_marker("load"):
            groups[item.path] = "load"
        elif os.environ.get("GATEWAY_URL") and "stack" in getattr(item, "fixturenames", ()):
            groups[item.path] = "stack"
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups.get(item.path, item.path.stem)))
    heavy = {item.path for item in items if item.get_closest_marker("heavy")}
    items.sort(key=lambda item: (item.path not in groups, item.path not in heavy, "unit" in item.path.parts))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where several processes share the tests, those marked `alone` run while no other does."""
    if not hasattr(item.config, "workerinput"):
        return (yield)
    with turn(
        Path(item.config.getoption("basetemp")).parent, alone=item.get_closest_marker("alone") is not None
    ):
        return (yield)


@dataclass(frozen=True)
class GatewayUnderTest(Stack):
    """A gateway process of a test's own, with counters of its own, before shared mock models."""

    service: Service


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis."""
    if url := os.environ.get("REDIS_URL"):
        yield url
    else:
        with running_redis(tmp_path_factory.mktemp("redis")) as url:
            yield url


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed, paused and started again."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as server:
        yield server


@pytest.fixture(scope="session")
def model_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The two mock models as processes of this session, with their default latencies."""
    logs = tmp_path_factory.mktemp("models")
    with running_model("cheap_model", logs) as cheap, running_model("expensive_model", logs) as expensive:
        yield {"CheapModel": cheap.url, "ExpensiveModel": expensive.url}


@pytest.fixture(scope="module")
def start_gateway(
    request: pytest.FixtureRequest,
    redis_url: str,
    model_urls: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartGateway]:
    """Starts gateways with the given environment variables, beside those in the module's `SETTINGS`; the
    counters begin at zero, and are shared by those that are started with the same `REDIS_KEY_PREFIX`."""
    usual: dict[str, str] = getattr(request.module, "SETTINGS", {})
    logs = tmp_path_factory.mktemp("gateway")
    prefixes: dict[str, Stack] = {}
    services: list[Service] = []
    with ExitStack() as started:

        def start(**settings: str) -> GatewayUnderTest:
            prefix = settings.get("REDIS_KEY_PREFIX", f"test-{uuid.uuid4().hex}")
            # Four processes of tests on a small machine hold up their Redis for longer than a request waits.
            patience = (
                {} if settings.get("REDIS_URL", redis_url) != redis_url else {"REDIS_TIMEOUT_SECONDS": "1"}
            )
            environ = {
                "REDIS_URL": redis_url,
                **patience,
                "REDIS_KEY_PREFIX": prefix,
                "CHEAP_MODEL_URL": f"{model_urls['CheapModel']}/v1",
                "EXPENSIVE_MODEL_URL": f"{model_urls['ExpensiveModel']}/v1",
                **usual,
                **settings,
            }
            service = started.enter_context(running_gateway(logs, **environ))
            gateway = GatewayUnderTest(service.url, model_urls, redis_url, prefix, service)
            prefixes[prefix] = gateway
            services.append(service)
            return gateway

        yield start
        for service in services:  # all at once, since each takes a second or two
            service.process.terminate()
    for stack in prefixes.values():
        stack.forget()


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway with the default settings, of this module alone."""
    return start_gateway()


@pytest.fixture(scope="session")
def stack(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The running stack that the environment names, or one of local processes with the default settings."""
    if os.environ.get("PROVIDER_URLS"):
        pytest.exit("The stack serves real providers; the tests would spend money there.", returncode=1)
    if gateway_url := os.environ.get("GATEWAY_URL"):
        urls = {
            "CheapModel": os.environ["CHEAP_MODEL_URL"],
            "ExpensiveModel": os.environ["EXPENSIVE_MODEL_URL"],
        }
        stack = Stack(gateway_url, urls, redis_url, os.environ["REDIS_KEY_PREFIX"])
        before = stack.billed("CheapModel").calls
        stack.chat("hello")
        if stack.billed("CheapModel").calls != before + 1:
            pytest.exit(
                "The stack does not serve the mock models, or serves somebody else too.", returncode=1
            )
        yield stack
        return
    logs: Path = tmp_path_factory.mktemp("stack")
    with (
        running_model("cheap_model", logs) as cheap,
        running_model("expensive_model", logs) as expensive,
        running_gateway(
            logs,
            REDIS_URL=redis_url,
            CHEAP_MODEL_URL=f"{cheap.url}/v1",
            EXPENSIVE_MODEL_URL=f"{expensive.url}/v1",
        ) as service,
    ):
        urls = {"CheapModel": cheap.url, "ExpensiveModel": expensive.url}
        yield Stack(service.url, urls, redis_url, "gateway")
