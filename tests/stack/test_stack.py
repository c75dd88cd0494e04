"""The Docker stack itself: images, start, stop, restarts, volumes, networks, and the README's session."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.compose import SERVICES, Compose, docker
from tests.support.load import again_if_unavailable, run_load
from tests.support.processes import ROOT
from tests.support.readme import examples
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually

IMAGES = ("gateway", "cheap_model", "expensive_model")
MEBIBYTE = 2**20
SEED = {
    "totalRequests": 2,
    "totalCostUsd": 0.000185,
    "modelUsageCount": {"CheapModel": 1, "ExpensiveModel": 1},
}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="session")
def images() -> None:
    """Every image is built from the tree as it is."""
    Compose()("build", *IMAGES)


@pytest.fixture
def fresh(images: None) -> Iterator[Compose]:
    """A stack that has never run before."""
    compose = Compose()
    try:
        compose.up()
        yield compose
    finally:
        compose.remove()


@pytest.fixture(scope="module")
def stack(images: None) -> Iterator[Compose]:
    """A running stack that the tests which change no state of it share."""
    compose = Compose()
    try:
        compose.up()
        yield compose
    finally:
        compose.remove()


def test_a_stack_is_healthy_within_15_seconds_once_its_images_exist(images: None) -> None:
    compose = Compose()
    try:
        began = time.monotonic()
        compose("up", "--build", "--detach", "--wait")
        took = time.monotonic() - began
        print(f"healthy after {took:.1f} s")
        assert took < 15
    finally:
        compose.remove()


def test_the_readmes_session_gives_what_the_readme_says(fresh: Compose) -> None:
    (session,) = examples("Try it", "sh")
    (promised,) = examples("Try it", "json")
    script = session.replace("http://localhost:8080", fresh.url())
    *answers, metrics = subprocess.run(
        ["bash", "-ec", script.replace("\ncurl", "\necho; curl")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert json.loads(metrics) == json.loads(promised) == SEED
    assert [json.loads(answer)["model"] for answer in answers if answer] == ["CheapModel", "ExpensiveModel"]


def test_the_readmes_other_apis_answer(fresh: Compose) -> None:
    (session,) = examples("Other APIs", "sh")
    script = session.replace("http://localhost:8080", fresh.url()).replace("\ncurl", "\necho; curl")
    shown = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True).stdout
    response, message = (json.loads(line) for line in shown.splitlines() if line)
    said = "CheapModel: What is the capital of …"
    assert response["output"][0]["content"][0]["text"] == message["content"][0]["text"] == said
    assert fresh.metrics()["totalRequests"] == 2


def test_the_readmes_python_example_runs(fresh: Compose) -> None:
    (example,) = examples("Try it", "python")
    script = example.replace("http://localhost:8080", fresh.url())
    ran = subprocess.run(["python", "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "CheapModel 23\n"


def test_the_readmes_key_pays_for_its_call_and_is_revoked(fresh: Compose) -> None:
    (session,) = examples("Keys and budgets", "sh")
    script = session.replace("docker compose", f"docker compose --project-name {fresh.project}")
    script = script.replace("http://localhost:8080", fresh.url()).replace("\ndocker", "\necho; docker")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'{script}echo "$key"'], capture_output=True, text=True, check=True
    )
    shown = ran.stdout
    assert json.loads(shown.splitlines()[0])["model"] == "CheapModel"
    (listed,) = [line for line in shown.splitlines() if " app " in line]
    for fact in ("active", "$5 month", "$0.000005"):
        assert fact in listed
    key = shown.splitlines()[-1]
    body = {"messages": [{"role": "user", "content": SHORT}]}

    def is_refused() -> bool:
        headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
        answer = requests.post(f"{fresh.url()}/v1/chat/completions", json=body, headers=headers, timeout=30)
        return answer.status_code == 401

    assert eventually(is_refused, 1)


def test_the_readmes_inspection_shows_the_counters(fresh: Compose) -> None:
    fresh.chat(SHORT)
    fresh.chat(LONG)
    (session,) = examples("Look inside", "sh")
    script = session.replace("docker compose", f"docker compose --project-name {fresh.project}")
    script = script.replace("http://localhost:8081", fresh.url(8081))
    script = script.replace("http://localhost:8080", fresh.url())
    shown = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True).stdout
    assert "2\n0.000185\n0.000239\n" in shown
    assert "gateway:model:ExpensiveModel:output_tokens\n" in shown
    assert "\n0.000005\n" in shown
    assert '"calls": 1' in shown
    assert 'llm_gateway_degraded{reason="ledger_unavailable"} 0.0\n' in shown
    assert '"message":"request"' in shown


def test_counters_survive_restarts_and_a_new_stack_but_not_the_loss_of_the_volume(fresh: Compose) -> None:
    fresh.chat(SHORT)
    fresh.chat(LONG)
    assert fresh.metrics() == SEED

    fresh("restart", "gateway")
    fresh.up()
    assert fresh.metrics() == SEED

    fresh("kill", "redis")
    fresh.up()
    assert fresh.metrics() == SEED

    fresh("down")
    fresh.up()
    assert fresh.metrics() == SEED

    fresh("down", "--volumes")
    fresh.up()
    assert fresh.metrics() == {
        "totalRequests": 0,
        "totalCostUsd": 0,
        "modelUsageCount": {"CheapModel": 0, "ExpensiveModel": 0},
    }


def test_a_stop_is_clean_and_quick(fresh: Compose) -> None:
    with requests.Session() as idle:
        assert idle.get(f"{fresh.url()}/healthz", timeout=5).ok
        fresh.chat(SHORT)
        began = time.monotonic()
        fresh("stop")
        took = time.monotonic() - began
    print(f"stopped after {took:.1f} s")
    assert took < 12
    for service in SERVICES:
        container = fresh("ps", "--all", "--quiet", service).stdout.strip()
        assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0", service


def test_a_redis_that_is_gone_is_said_at_once_and_missed_by_nobody(fresh: Compose) -> None:
    fresh.chat(SHORT)
    fresh("stop", "redis")
    for _ in range(3):
        began = time.monotonic()
        assert fresh.chat(SHORT).status_code == 200
        assert time.monotonic() - began < 5
    ready = requests.get(f"{fresh.url()}/readyz", timeout=10)
    assert ready.status_code == 503
    assert ready.json()["reasons"][0].startswith("ledger_unavailable: ")
    assert requests.get(f"{fresh.url()}/healthz", timeout=1).status_code == 200
    fresh.up()
    assert eventually(lambda: fresh.metrics().get("totalRequests") == 4)


def test_no_cent_is_lost_whatever_container_is_killed(fresh: Compose) -> None:
    def body(number: int) -> dict[str, Any]:
        content = f"{number}: {LONG if number % 3 == 0 else SHORT}"
        return {"messages": [{"role": "user", "content": content}], "stream": number % 2 == 0}

    def disturb() -> None:
        for service in ("gateway", "redis", "gateway"):
            time.sleep(1)
            fresh("kill", service)
            fresh("start", service)
        time.sleep(1)
        fresh("pause", "redis")
        time.sleep(3)
        fresh("unpause", "redis")
        time.sleep(1)
        fresh("kill", "gateway", "redis")
        fresh("start", "gateway", "redis")

    def total(ledger: str) -> Any:
        return sum(
            requests.get(fresh.url(port) + "/ledger", timeout=5).json()[ledger] for port in (8081, 8082)
        )

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    result = run_load(
        [fresh.url()], clients=16, seconds=25, body=body, retry=again_if_unavailable, request_seconds=10
    )
    disturbing.join()
    print(result)

    def agree() -> bool:
        try:
            metrics = fresh.metrics()
        except requests.RequestException:
            return False
        return bool(metrics.get("totalRequests") == total("calls")) and metrics[
            "totalCostUsd"
        ] == pytest.approx(total("cost_usd"), abs=1e-9)

    assert len(result.whole) > 100
    assert eventually(agree, 30), (fresh.metrics(), total("calls"), total("cost_usd"))


def test_a_worker_that_is_killed_is_replaced(fresh: Compose) -> None:
    kill = (
        "import os, pathlib, signal\n"
        "children = pathlib.Path('/proc').glob('[0-9]*/stat')\n"
        "stats = [path.read_text().rsplit(')', 1) for path in children]\n"
        "parents = {int(head.split()[0]): int(tail.split()[1]) for head, tail in stats}\n"
        "master = next(pid for pid, parent in parents.items() if parent == 1 and pid != os.getpid())\n"
        "worker = next(pid for pid, parent in parents.items() if parent == master)\n"
        "os.kill(worker, signal.SIGKILL)\n"
    )
    assert fresh.python("gateway", kill).returncode == 0
    for _ in range(10):
        assert fresh.chat(SHORT).status_code == 200
    assert fresh.metrics()["totalRequests"] == 10


@pytest.mark.parametrize("service", IMAGES)
def test_an_image_adds_less_than_75_mb_and_holds_no_compiler(stack: Compose, service: str) -> None:
    def size(image: str) -> int:
        return int(docker("image", "inspect", "--format", "{{.Size}}", image))

    added = size(f"llm-gateway/{service}") - size("python:3.13-slim")
    print(f"{service}: {added / MEBIBYTE:.1f} MiB over its base")
    assert added < 75_000_000
    compilers = ["gcc", "cc", "g++", "c++", "clang", "make", "as", "ld"]
    find = f"import shutil; print([name for name in {compilers} if shutil.which(name)])"
    assert stack.python(service, find).stdout == "[]\n"


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_has_no_rights_that_it_does_not_need(stack: Compose, service: str) -> None:
    container = stack("ps", "--quiet", service).stdout.strip()
    host = json.loads(docker("inspect", "--format", "{{json .HostConfig}}", container))
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] is None
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Init"] is True
    status = stack("exec", "-T", service, "cat", "/proc/1/status").stdout
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert "0" not in fields["Uid"].split()
    assert int(fields["CapEff"], 16) == 0


def test_ports_are_published_on_loopback_alone_and_redis_not_at_all(stack: Compose) -> None:
    for service in SERVICES:
        container = stack("ps", "--quiet", service).stdout.strip()
        published = json.loads(docker("inspect", "--format", "{{json .HostConfig.PortBindings}}", container))
        bindings = [binding for port in (published or {}).values() for binding in port]
        assert all(binding["HostIp"] == "127.0.0.1" for binding in bindings)
        assert len(bindings) == (0 if service == "redis" else 1)


@pytest.mark.parametrize(
    ("service", "reached"), [("gateway", True), ("cheap_model", False), ("expensive_model", False)]
)
def test_only_the_gateway_reaches_redis(stack: Compose, service: str, reached: bool) -> None:
    container = stack("ps", "--quiet", "redis").stdout.strip()
    address = docker(
        "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container
    )
    connect = f"import socket; socket.create_connection(({address!r}, 6379), 2).close()"
    assert (stack.python(service, connect).returncode == 0) is reached


@pytest.mark.parametrize("setting", ["WEB_CONCURRENCY=many", "CHEAP_MODEL_URL=nonsense"])
def test_a_bad_setting_stops_the_container_with_one_line(stack: Compose, setting: str) -> None:
    ran = stack("run", "--rm", "--no-deps", "--env", setting, "gateway", check=False)
    assert ran.returncode == 1
    lines = [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("llm-gateway:")]
    assert len(lines) == 1
    assert setting.split("=")[0] in lines[0]
    assert "Traceback" not in ran.stdout + ran.stderr


def test_a_real_key_is_not_published_to_the_network_where_anybody_could_use_it(images: None) -> None:
    compose = Compose(settings={"GATEWAY_BIND": "0.0.0.0", "LLM_GATEWAY_API_KEY": "sk-test"})
    ran = compose("run", "--rm", "--no-deps", "gateway", check=False)
    compose.remove()
    assert ran.returncode == 1
    assert "GATEWAY_BIND" in ran.stdout + ran.stderr


def test_the_gateways_image_has_flasks_command_line(stack: Compose) -> None:
    routes = stack("exec", "-T", "gateway", "flask", "routes").stdout
    assert "/v1/chat/completions" in routes


def test_a_changed_models_file_and_a_key_from_the_env_file_reach_the_containers(
    images: None, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    file = folder / "gateway" / "models.toml"
    file.parent.mkdir(parents=True)
    shipped = (ROOT / "gateway" / "models.toml").read_text()
    file.write_text(shipped)
    (folder / ".env").write_text("MY_OWN_KEY=sk-canary-1\n")
    for path in (tmp_path, folder, file.parent):
        path.chmod(0o755)  # the container's user is another one
    compose = Compose(folder=folder)
    third = '[Third]\nbase_url = "http://cheap_model:8081/v1"\nupstream_name = "CheapModel"\nprice = "free"\n'
    try:
        compose.up()
        new = file.with_suffix(".new")
        new.write_text(f'{shipped}\n{third}api_key_env = "MY_OWN_KEY"\n')
        new.replace(file)
        assert eventually(lambda: "Third" in compose.metrics()["modelUsageCount"])
        # The other worker may take a moment longer.
        assert eventually(
            lambda: compose.chat(SHORT, model="Third").headers.get("X-Gateway-Model") == "Third", 5
        )
        listed = json.loads(compose("exec", "-T", "gateway", "flask", "models", "list", "--json").stdout)
        assert [(row["model"], row["key"]) for row in listed] == [
            ("Third", "set"),
            ("CheapModel", "none"),
            ("ExpensiveModel", "none"),
        ]
        assert "canary" not in compose("logs", "--no-color").stdout
    finally:
        compose.remove()
