"""Starting, and refusing to start; what the log says."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import requests

from tests.conftest import StartGateway
from tests.support.processes import ROOT
from tests.support.stack import SHORT
from tests.support.waiting import eventually

CANARY = "sk-canary-0123456789"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WEB_CONCURRENCY", "many"),
        ("WEB_CONCURRENCY", "0"),
        ("CHEAP_MODEL_URL", "not a url"),
        ("EXPENSIVE_MODEL_URL", "ftp://example.com/v1"),
        ("REDIS_URL", "http://redis:6379"),
        ("REDIS_URL", "redis://redis:6379/0?socket_timeout=abc"),
        ("REDIS_URL", "redis://redis:6379/0?foo=1"),
        ("REDIS_URL", "redis://redis:6379/abc"),
        ("ROUTING_POLICY", "by_mood"),
        ("ROUTING_THRESHOLD_CHARS", "-1"),
        ("CHEAP_MODEL_NAME", "no-such-model-anywhere"),
        ("GATEWAY_PORT", "99999"),
        ("GATEWAY_REQUIRE_KEYS", "maybe"),
        ("GATEWAY_BUDGET_USD", "$5"),
        ("MODELS_FILE", "/nowhere.toml"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_line_that_names_it(variable: str, value: str) -> None:
    environ = {"PATH": os.environ["PATH"], variable: value}
    started = subprocess.run(
        [sys.executable, "-m", "gateway"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=20
    )
    assert started.returncode != 0
    assert len(started.stderr.splitlines()) == 1
    assert variable in started.stderr
    assert started.stdout == ""


def test_a_providers_key_is_not_served_to_the_network() -> None:
    environ = {"PATH": os.environ["PATH"], "GATEWAY_BIND": "0.0.0.0", "CHEAP_MODEL_API_KEY": CANARY}
    started = subprocess.run(
        [sys.executable, "-m", "gateway"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=20
    )
    assert started.returncode != 0
    assert "GATEWAY_BIND" in started.stderr
    assert CANARY not in started.stderr


def test_each_request_is_one_line_of_the_log_without_prompt_or_key(start_gateway: StartGateway) -> None:
    gateway = start_gateway(LLM_GATEWAY_API_KEY=CANARY)
    body = {"messages": [{"role": "user", "content": f"{SHORT} prompt-canary"}], "user": "user-canary"}
    headers = {"Authorization": "Bearer client-canary", "X-Request-Id": "plain-1"}
    gateway.post(body, headers=headers)
    gateway.post(body | {"stream": True}, headers=headers | {"X-Request-Id": "stream-1"})
    gateway.post({"messages": []}, headers={"X-Request-Id": "bad-1"})
    requests.get(f"{gateway.gateway_url}/healthz", timeout=5)

    def lines(request_id: str) -> list[dict[str, object]]:
        return [line for line in gateway.service.log_lines if line.get("request_id") == request_id]

    assert eventually(lambda: bool(lines("stream-1") and lines("bad-1")))
    assert "canary" not in gateway.service.log
    assert "/healthz" not in gateway.service.log
    (plain,), (streamed,), (bad,) = lines("plain-1"), lines("stream-1"), lines("bad-1")
    for line in (plain, streamed):
        assert line["status"] == 200
        assert line["model"] == "CheapModel"
        assert line["policy"] == "prompt_length"
        assert line["reason"] == "44 characters, at most 150"
        assert line["prompt_tokens"] == 17
        assert line["completion_tokens"] == 9
        assert line["cost_usd"] == "0.0000053"
        assert line["recorded"] is True
    assert plain["stream"] is False
    assert streamed["stream"] is True
    assert 0 < streamed["time_to_first_token_ms"] <= streamed["duration_ms"]  # type: ignore[operator]
    assert bad["status"] == 400
    assert "model" not in bad
