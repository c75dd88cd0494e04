"""The self-test holds a healthy stack for healthy, and finds every defect that is planted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from selftest.cli import main
from selftest.promises import PROMISES
from selftest.settings import Settings
from tests.support.defects import DEFECTS, defective_gateway
from tests.support.processes import ROOT, RedisServer, Service, redis_server, running_gateway, running_model
from tests.support.waiting import eventually

ADMIN_KEY = "selftest-admin-key"
AT_MOST_SECONDS = 180
PATIENCE = "4"

pytestmark = pytest.mark.heavy


@dataclass(frozen=True)
class Around:
    """What a gateway under test stands between."""

    models: dict[str, str]
    redis: RedisServer

    def settings(self, prefix: str) -> dict[str, str]:
        return {
            "CHEAP_MODEL_URL": f"{self.models['CheapModel']}/v1",
            "EXPENSIVE_MODEL_URL": f"{self.models['ExpensiveModel']}/v1",
            "REDIS_URL": self.redis.url,
            "REDIS_KEY_PREFIX": prefix,
            "GATEWAY_ADMIN_KEY": ADMIN_KEY,
        }


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Around]:
    """Mocks and a Redis of this module alone, whose faults and pauses concern nobody else."""
    folder = tmp_path_factory.mktemp("selftest")
    with (
        running_model("cheap_model", folder) as cheap,
        running_model("expensive_model", folder) as expensive,
        redis_server(folder) as redis,
    ):
        yield Around({"CheapModel": cheap.url, "ExpensiveModel": expensive.url}, redis)


@pytest.fixture(scope="module")
def healthy(around: Around, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A gateway as it should be."""
    folder = tmp_path_factory.mktemp("healthy")
    with running_gateway(folder, **around.settings("healthy")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def defective(around: Around, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path]]:
    """A gateway that has the defect whose name is in the file."""
    folder = tmp_path_factory.mktemp("defective")
    switch = folder / "defect"
    with defective_gateway(folder, switch, **around.settings("defective")) as gateway:
        yield gateway, switch


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "selftest", "--patience", PATIENCE, *arguments]


def environ(around: Around, gateway: Service, prefix: str, **changes: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "GATEWAY_URL": gateway.url,
        "CHEAP_MODEL_URL": around.models["CheapModel"],
        "EXPENSIVE_MODEL_URL": around.models["ExpensiveModel"],
        "REDIS_URL": around.redis.url,
        "OWN_REDIS_URL": around.redis.url,
        "REDIS_KEY_PREFIX": prefix,
        "GATEWAY_ADMIN_KEY": ADMIN_KEY,
        "GATEWAY_PID": str(gateway.process.pid),
        **changes,
    }


def selftest(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=AT_MOST_SECONDS
    )


def standing_faults(around: Around) -> list[Any]:
    return [requests.get(f"{url}/fault", timeout=5).json()["fault"] for url in around.models.values()]


def keys_of(gateway: Service) -> list[dict[str, Any]]:
    answer = requests.get(
        f"{gateway.url}/admin/keys", headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=5
    )
    keys: list[dict[str, Any]] = answer.json()["data"]
    return keys


def test_with_no_defect_switched_on_the_same_gateway_is_found_well(
    around: Around, defective: tuple[Service, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.from_env(environ(around, defective[0], "defective"))
    promises = "bad-input,streaming,privacy"
    assert main(["--json", "--patience", PATIENCE, "--only", promises], settings) == 0, (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(
    around: Around, defective: tuple[Service, Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (gateway, switch), defect = defective, DEFECTS[name]
    switch.write_text(name)
    settings = Settings.from_env(environ(around, gateway, "defective"))
    status = main(["--json", "--patience", PATIENCE, "--only", defect.breaks], settings)
    switch.write_text("")
    report = json.loads(capsys.readouterr().out)
    (promise,) = report["promises"]
    assert (promise["name"], promise["verdict"]) == (defect.breaks, "does_not_hold"), promise
    assert defect.seen in promise["seen"]
    assert (status, report["holds"]) == (1, False)
    assert standing_faults(around) == [None, None]


@pytest.mark.timeout(300)
def test_every_promise_holds_of_a_healthy_stack_in_less_than_three_minutes() -> None:
    begun = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.selftest", "--json"],
        cwd=ROOT,
        env={name: os.environ[name] for name in ("PATH", "HOME", "REDIS_SERVER") if name in os.environ},
        capture_output=True,
        text=True,
        timeout=AT_MOST_SECONDS,
    )
    assert time.monotonic() - begun < AT_MOST_SECONDS
    promises = json.loads(run.stdout)["promises"]
    assert [(each["name"], each["seen"]) for each in promises if each["verdict"] != "holds"] == []
    assert [each["name"] for each in promises] == [promise.name for promise in PROMISES]
    assert run.returncode == 0
    progress = run.stderr.splitlines()
    assert [line.split("/")[0].strip() for line in progress] == [str(n + 1) for n in range(len(PROMISES))]


def test_what_was_tried_is_told_in_a_table(around: Around, healthy: Service) -> None:
    run = selftest(environ(around, healthy, "healthy"), "--only", "probes,bad-input")
    assert run.returncode == 0, run.stdout + run.stderr
    for text in ("promise", "tried", "times", "seen", "probes", "bad-input", "holds"):
        assert text in run.stdout
    assert run.stdout.splitlines()[-1].startswith("2 of 2 promises hold; ")


def test_promises_about_budgets_are_not_tried_without_the_admin_key(around: Around, healthy: Service) -> None:
    run = selftest(
        environ(around, healthy, "healthy", GATEWAY_ADMIN_KEY=""), "--json", "--only", "probes,budget,holds"
    )
    assert run.returncode == 0
    verdicts = [promise["verdict"] for promise in json.loads(run.stdout)["promises"]]
    assert verdicts == ["holds", "not_tried", "not_tried"]
    assert "GATEWAY_ADMIN_KEY" in run.stdout


def test_where_nothing_can_be_tried_the_status_says_so(around: Around, healthy: Service) -> None:
    run = selftest(environ(around, healthy, "healthy", GATEWAY_ADMIN_KEY=""), "--only", "budget")
    assert run.returncode == 2
    assert "1 not tried" in run.stdout


def test_a_redis_that_may_be_somebody_elses_is_left_alone(around: Around, healthy: Service) -> None:
    settings = environ(around, healthy, "healthy", OWN_REDIS_URL="redis://redis:6379/0")
    run = selftest(settings, "--json", "--only", "probes,redis-paused,redis-restarted")
    verdicts = [promise["verdict"] for promise in json.loads(run.stdout)["promises"]]
    assert verdicts == ["holds", "not_tried", "not_tried"]


@pytest.mark.parametrize(
    ("changes", "arguments", "reason"),
    [
        ({"PROVIDER_URLS": "https://api.example.com/v1"}, (), "cost money"),
        ({"GATEWAY_URL": ""}, (), "GATEWAY_URL is not set"),
        ({"GATEWAY_URL": "http://127.0.0.1:1"}, (), "127.0.0.1:1 does not answer"),
        ({"REDIS_URL": "redis://127.0.0.1:1/0"}, (), "Redis does not answer"),
        ({}, ("--only", "no-such-promise"), "no-such-promise"),
    ],
)
def test_where_it_cannot_or_must_not_run_it_says_why(
    around: Around, healthy: Service, changes: dict[str, str], arguments: tuple[str, ...], reason: str
) -> None:
    run = selftest(environ(around, healthy, "healthy", **changes), "--json", *arguments)
    assert run.returncode == 2
    assert run.stdout == ""
    assert reason in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_gateway_before_other_models_is_not_tried(around: Around, healthy: Service) -> None:
    swapped = {
        "CHEAP_MODEL_URL": around.models["ExpensiveModel"],
        "EXPENSIVE_MODEL_URL": around.models["CheapModel"],
    }
    run = selftest(environ(around, healthy, "healthy", **swapped))
    assert run.returncode == 2
    assert "serves other models" in run.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_the_stack_as_it_was(
    around: Around, healthy: Service, number: signal.Signals
) -> None:
    settings = environ(around, healthy, "healthy")
    with subprocess.Popen(
        command("--only", "holds"), cwd=ROOT, env=settings, stderr=subprocess.PIPE, text=True
    ) as run:
        assert eventually(lambda: any(standing_faults(around)), 20)
        assert eventually(lambda: any(key["status"] == "active" for key in keys_of(healthy)), 20)
        run.send_signal(number)
        _, errors = run.communicate(timeout=30)
    assert run.returncode == 130, errors
    assert "stopped" in errors
    assert standing_faults(around) == [None, None]
    assert not any(key["status"] == "active" for key in keys_of(healthy))
