"""The catalog of running gateways: any number of models, changed while requests are in work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import ROOT
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

PICKED_UP_SECONDS = 3.0


def table(name: str, url: str, usd: int, *lines: str) -> str:
    """A table of the models file for one of the mock models."""
    upstream_name = "CheapModel" if "cheap" in name else "ExpensiveModel"
    price = f"{{input = {usd}, cached_input = {usd}, output = {usd}}}"
    head = [f"['{name}']", f'base_url = "{url}/v1"', f'upstream_name = "{upstream_name}"']
    return "\n".join([*head, f"usd_per_million_tokens = {price}", *lines]) + "\n"


def names_seen(gateway: GatewayUnderTest, looks: int = 20) -> set[tuple[str, ...]]:
    """What the workers list as models; each look is a connection of its own, so that all are asked."""
    return {
        tuple(
            model["id"]
            for model in requests.get(f"{gateway.gateway_url}/v1/models", timeout=5).json()["data"]
        )
        for _ in range(looks)
    }


def start(start_gateway: StartGateway, file: Path, **settings: str) -> GatewayUnderTest:
    # The models of the environment would stand beside those of the file.
    unset = {"CHEAP_MODEL_URL": "", "EXPENSIVE_MODEL_URL": ""}
    return start_gateway(MODELS_FILE=str(file), **unset, **settings)


def test_three_models_serve_and_are_counted_by_their_names(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    cheap, dear = model_urls["CheapModel"], model_urls["ExpensiveModel"]
    file.write_text(
        table("dear", dear, 9)
        + table("vendor/cheap:1", cheap, 1, 'capabilities = ["streaming"]')
        + table("middle", dear, 3, "context_window = 60")
    )
    gateway = start(start_gateway, file)
    tools = [{"type": "function", "function": {"name": "f"}}]

    assert gateway.chat(SHORT).headers["X-Gateway-Model"] == "vendor/cheap:1"
    assert gateway.chat(LONG).headers["X-Gateway-Model"] == "dear"
    assert gateway.chat(SHORT, tools=tools).headers["X-Gateway-Model"] == "middle"
    assert gateway.chat("x" * 140, tools=tools, max_tokens=30).headers["X-Gateway-Model"] == "dear"
    assert gateway.chat(LONG, model="vendor/cheap:1").headers["X-Gateway-Model"] == "vendor/cheap:1"
    refused = gateway.chat(SHORT, tools=tools, model="vendor/cheap:1")
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "tools"

    assert gateway.metrics()["modelUsageCount"] == {"vendor/cheap:1": 2, "middle": 1, "dear": 2}
    listed = requests.get(f"{gateway.gateway_url}/v1/models/vendor/cheap:1", timeout=5)
    assert listed.json()["id"] == "vendor/cheap:1"
    counters = gateway.counters()
    assert counters["model:vendor/cheap:1:requests"] == "2"
    # Nine dollars a million tokens is what all of it would have cost with the dearest.
    tokens = sum(int(value) for name, value in counters.items() if name.endswith("put_tokens"))
    assert float(counters["baseline_cost_usd"]) == tokens * 9 / 10**6


def test_every_worker_takes_a_changed_file_and_keeps_a_good_one(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    one = table("cheap", model_urls["CheapModel"], 1)
    two = one + table("dear", model_urls["ExpensiveModel"], 9)
    file.write_text(one)
    gateway = start(start_gateway, file, WEB_CONCURRENCY="2")
    assert names_seen(gateway) == {("auto", "cheap")}

    file.write_text(two)
    assert eventually(lambda: names_seen(gateway) == {("auto", "cheap", "dear")}, PICKED_UP_SECONDS)
    assert gateway.chat(LONG).headers["X-Gateway-Model"] == "dear"

    file.write_text(two + "[broken]\n")
    assert eventually(
        lambda: gateway.service.log.count("is refused; the models stay") == 2, PICKED_UP_SECONDS
    )
    assert "MODELS_FILE: broken: base_url is missing" in gateway.service.log
    assert names_seen(gateway) == {("auto", "cheap", "dear")}

    file.write_text(one)
    assert eventually(lambda: names_seen(gateway) == {("auto", "cheap")}, PICKED_UP_SECONDS)
    assert gateway.chat(LONG).headers["X-Gateway-Model"] == "cheap"
    assert gateway.chat(LONG, model="dear").status_code == 404


def test_a_worker_that_starts_while_the_file_is_broken_serves_what_the_others_serve(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    one = table("cheap", model_urls["CheapModel"], 1)
    file.write_text(one)
    gateway = start(start_gateway, file, WEB_CONCURRENCY="2")
    two = one + table("dear", model_urls["ExpensiveModel"], 9)
    file.write_text(two)
    assert eventually(lambda: names_seen(gateway) == {("auto", "cheap", "dear")}, PICKED_UP_SECONDS)
    file.write_text("[broken]\n")
    before = {worker.pid for worker in gateway.service.workers}

    os.kill(gateway.service.workers[0].pid, signal.SIGKILL)

    assert eventually(lambda: len({worker.pid for worker in gateway.service.workers} - before) == 1)
    assert eventually(lambda: names_seen(gateway) == {("auto", "cheap", "dear")})
    assert gateway.chat(LONG).headers["X-Gateway-Model"] == "dear"
    file.write_text(one)
    assert eventually(lambda: names_seen(gateway) == {("auto", "cheap")}, PICKED_UP_SECONDS)


def test_every_worker_tells_the_same_totals_also_of_models_that_came_and_went(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    one = table("cheap", model_urls["CheapModel"], 1)
    file.write_text(one)
    gateway = start(start_gateway, file, WEB_CONCURRENCY="2")
    gateway.metrics()
    file.write_text(one + table("guest", model_urls["ExpensiveModel"], 9))
    assert eventually(lambda: names_seen(gateway) == {("auto", "cheap", "guest")}, PICKED_UP_SECONDS)
    gateway.chat(SHORT, model="guest")
    file.write_text(one)
    assert eventually(lambda: names_seen(gateway) == {("auto", "cheap")}, PICKED_UP_SECONDS)

    seen = [gateway.metrics() for _ in range(20)]

    assert all(metrics == seen[0] for metrics in seen)
    assert seen[0]["totalRequests"] == 1
    assert seen[0]["modelUsageCount"] == {"cheap": 0, "guest": 1}


def test_what_a_model_has_answered_stays_in_the_totals_when_it_is_no_longer_listed(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    one = table("cheap", model_urls["CheapModel"], 1)
    file.write_text(one + table("dear", model_urls["ExpensiveModel"], 9) + table("idle", "http://idle", 5))
    prefix = f"test-{uuid.uuid4().hex}"
    gateway = start(start_gateway, file, REDIS_KEY_PREFIX=prefix)
    gateway.chat(SHORT)
    gateway.chat(LONG)
    expected = {"totalRequests": 2, "modelUsageCount": {"cheap": 1, "dear": 1}}

    file.write_text(one)
    assert eventually(lambda: names_seen(gateway) == {("auto", "cheap")}, PICKED_UP_SECONDS)
    restarted = start(start_gateway, file, REDIS_KEY_PREFIX=prefix)
    for each in (gateway, restarted):
        metrics = each.metrics()
        assert {name: metrics[name] for name in expected} == expected


def test_a_change_under_load_loses_no_request_and_mixes_up_no_bill(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"

    def write(dear_usd: int) -> None:
        text = table("cheap", model_urls["CheapModel"], 1) + table(
            "dear", model_urls["ExpensiveModel"], dear_usd
        )
        (tmp_path / "new.toml").write_text(text)
        (tmp_path / "new.toml").replace(file)

    write(5)
    gateway = start(start_gateway, file, WEB_CONCURRENCY="2")

    def ask(number: int) -> tuple[int, float, int]:
        answer = gateway.chat(LONG if number % 2 else SHORT)
        usage = answer.json()["usage"]
        return answer.status_code, float(answer.headers["X-Gateway-Cost-Usd"]), usage["total_tokens"]

    with ThreadPoolExecutor(16) as clients:
        asked = [clients.submit(ask, number) for number in range(400)]
        for usd in (7, 9, 7, 9):
            time.sleep(1.2)
            write(usd)
        answers = [answer.result() for answer in asked]

    assert {status for status, _, _ in answers} == {200}
    prices = {round(cost * 10**6 / tokens) for _, cost, tokens in answers}
    assert prices <= {1, 5, 7, 9}
    assert len(prices) > 2, "the file was never changed while requests were in work"
    assert float(gateway.counters()["cost_usd"]) == round(sum(cost for _, cost, _ in answers), 9)


def test_the_resolved_models_are_logged_at_the_start_and_shown_by_the_command_line(
    start_gateway: StartGateway, model_urls: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "models.toml"
    key = ['api_key_env = "SOME_KEY"']
    file.write_text(table("cheap", model_urls["CheapModel"], 1, *key) + table("dear", "http://dear", 9))
    environ = {"MODELS_FILE": str(file), "SOME_KEY": "sk-canary"}
    gateway = start(start_gateway, file, SOME_KEY="sk-canary")
    logged = [line for line in gateway.service.log_lines if line["message"] == "model"]

    def models_list(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flask", "--app", "gateway.cli", "models", "list", *options]
        environment = {"PATH": os.environ["PATH"], **environ}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)

    as_json, as_table = models_list("--json"), models_list()

    rows = json.loads(as_json.stdout)
    assert [(row["model"], row["key"]) for row in rows] == [("cheap", "set"), ("dear", "none")]
    assert rows[1]["usd_per_million_tokens"]["output"] == 9
    assert [{name: line[name] for name in rows[0]} for line in logged] == rows
    lines = as_table.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.strip() and not line.startswith(" ")][2:] == [
        "cheap",
        "dear",
    ]
    assert "canary" not in gateway.service.log + as_json.stdout + as_table.stdout + as_table.stderr

    file.write_text("[broken]\n")
    refused = models_list()
    assert refused.returncode != 0
    assert "MODELS_FILE: broken: base_url is missing" in refused.stderr
    assert "Traceback" not in refused.stderr
