"""The self-test in its container: what Docker alone can show."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.compose import Compose

PROMISES = "probes,privacy,holds,redis-restarted,worker-killed"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def stack() -> Iterator[Compose]:
    """A running stack with an admin key."""
    compose = Compose(settings={"GATEWAY_ADMIN_KEY": "stack-admin-key"})
    compose("build", "gateway", "cheap_model", "expensive_model", "selftest")
    try:
        compose.up()
        yield compose
    finally:
        compose.remove()


def test_it_restarts_redis_and_kills_workers_without_access_to_docker(stack: Compose) -> None:
    container = stack("ps", "--quiet", "gateway").stdout
    run = stack("run", "--rm", "--no-TTY", "selftest", "--json", "--only", PROMISES, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    promises = json.loads(run.stdout)["promises"]
    assert {promise["name"]: promise["verdict"] for promise in promises} == dict.fromkeys(
        PROMISES.split(","), "holds"
    )
    assert "docker.sock" not in stack("--profile", "selftest", "config").stdout
    assert stack("ps", "--quiet", "gateway").stdout == container


def test_it_refuses_a_stack_of_real_providers(stack: Compose) -> None:
    stack.settings["EXPENSIVE_MODEL_URL"] = "https://api.example.com/v1"
    try:
        run = stack("run", "--rm", "--no-TTY", "--no-deps", "selftest", check=False)
    finally:
        del stack.settings["EXPENSIVE_MODEL_URL"]
    assert run.returncode == 2
    assert "cost money" in run.stderr


def test_its_container_has_no_rights_that_it_does_not_need(stack: Compose) -> None:
    status = stack(
        *("run", "--rm", "--no-TTY", "--no-deps", "--entrypoint", "cat", "selftest", "/proc/self/status")
    ).stdout
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert set(fields["Uid"].split()) == {"10001"}
    assert int(fields["CapEff"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    written = stack(
        *("run", "--rm", "--no-TTY", "--no-deps", "--entrypoint", "touch", "selftest", "/app/x"), check=False
    )
    assert "Read-only file system" in written.stderr
