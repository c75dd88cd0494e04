"""The commands of `docs/keys.md` do what the page says, run as they stand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.keys.virtual_key import id_of
from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import ROOT
from tests.support.readme import examples
from tests.support.stack import SHORT
from tests.support.waiting import eventually

ADMIN = "admin-key-of-the-tests"
PAGE = "docs/keys.md"
# A refusal must end the script, and what is shown be the answer alone.
STRICTLY = 'set -euo pipefail\ncurl() { command curl --silent --show-error --fail-with-body "$@"; echo; }\n'

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(GATEWAY_ADMIN_KEY=ADMIN, GATEWAY_REQUIRE_KEYS="on")


def run(gateway: GatewayUnderTest, script: str, **variables: str) -> list[str]:
    """The lines that the commands of a page print."""
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FLASK_APP": "gateway.cli",
        "GATEWAY_ADMIN_KEY": ADMIN,
        "REDIS_URL": gateway.redis_url,
        "REDIS_KEY_PREFIX": gateway.redis_prefix,
        **variables,
    }
    script = STRICTLY + script.replace("http://localhost:8080", gateway.gateway_url)
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line]


def answers(lines: list[str]) -> list[Any]:
    return [json.loads(line) for line in lines if line.startswith("{")]


def chat(gateway: GatewayUnderTest, key: str) -> int:
    body = {"messages": [{"role": "user", "content": SHORT}]}
    headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
    return gateway.post(body, headers=headers).status_code


def facts(lines: list[str]) -> dict[str, str]:
    """What `show` and its like print, by its name."""
    pairs = (line.split("  ", 1) for line in lines if "  " in line)
    return {name: value.strip() for name, value in pairs}


def test_a_key_is_used_changed_rotated_and_revoked_by_the_page_s_commands(gateway: GatewayUnderTest) -> None:
    (session,) = examples("Commands", "sh", PAGE)
    before_rotation, rotation = session.split("key=$(flask keys rotate")
    lines = run(gateway, f'{before_rotation}echo "$key"\n')
    (answer,) = answers(lines)
    assert answer["model"] == "CheapModel"
    listed = next(line for line in lines if " app " in line)
    assert "$5 month" in listed
    assert "$0.000005" in listed
    shown = facts(lines[lines.index(listed) + 1 :])  # `show`, then `update`, of which the latter stays
    assert (shown["budget"], shown["models"], shown["status"]) == ("$10 month", "CheapModel", "active")
    assert [line.split()[3] for line in lines if line.startswith("requests per minute ")] == ["60"]
    key = lines[-1]
    assert chat(gateway, key) == 200

    rotated = run(gateway, f'key=$(flask keys rotate{rotation}echo "$key"\n')
    new_key = rotated[-1]
    assert id_of(new_key) == id_of(key)
    assert new_key != key
    assert facts(rotated)["status"] == "revoked"
    assert eventually(lambda: chat(gateway, key) == chat(gateway, new_key) == 401, 1)


def test_an_owner_s_budget_is_set_shown_and_taken_away(gateway: GatewayUnderTest) -> None:
    (session,) = examples("Budgets", "sh", PAGE)
    lines = run(gateway, session)
    assert [line.split()[1:] for line in lines if line.startswith("budget ")] == [
        ["$100", "week"],
        ["$100", "week"],
        ["none"],
    ]
    (key,) = [line for line in lines if id_of(line)]
    assert chat(gateway, key) == 200


def test_the_admin_routes_answer_as_the_page_shows(gateway: GatewayUnderTest) -> None:
    creating, using = examples("Admin routes", "sh", PAGE)
    (promised,) = map(json.loads, examples("Admin routes", "json", PAGE))
    (created,) = answers(run(gateway, creating))
    key = created.pop("key")
    assert id_of(key) == created["id"]
    assert created.keys() == promised.keys()
    assert chat(gateway, key) == 200

    record, page, changed, rotated, owner, revoked = answers(run(gateway, using, id=created["id"]))
    own = {name: created[name] for name in ("id", "created_at", "budget_resets_at")}
    assert record == promised | own
    assert record in page["data"]
    assert page.keys() == {"object", "data", "has_more", "last_id"}
    expected = {"rpm": 60, "budget_usd": 10, "models": None, "expires_at": changed["expires_at"]}
    assert changed["expires_at"] is not None
    assert changed == record | expected
    new_key = rotated.pop("key")
    assert rotated == changed
    assert (owner["name"], owner["budget_usd"], owner["period"]) == ("ann", 100, "week")
    assert revoked["status"] == "revoked"
    assert eventually(lambda: chat(gateway, new_key) == 401, 1)
