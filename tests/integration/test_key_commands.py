"""`flask keys`, as people and scripts run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis

from gateway.keys.virtual_key import id_of, new_key
from gateway.ledger.key_store import KeyStore
from tests.support.keys import key_store
from tests.support.processes import ROOT

pytestmark = pytest.mark.heavy


@dataclass(frozen=True)
class Keys:
    """The command line, and the keys that it works on."""

    url: str
    prefix: str
    store: KeyStore

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.environ["PATH"], "REDIS_URL": self.url, "REDIS_KEY_PREFIX": self.prefix}
        command = [sys.executable, "-m", "flask", "--app", "gateway.cli", "keys", *args]
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30)

    def output(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def json(self, *args: str) -> Any:
        return json.loads(self.output(*args, "--json"))

    def refusal(self, *args: str) -> str:
        """Of what cannot be done, in one line."""
        done = self.run(*args)
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        return done.stderr


@pytest.fixture
def keys(redis_url: str) -> Iterator[Keys]:
    prefix = f"test-{uuid.uuid4().hex}"
    yield Keys(redis_url, prefix, key_store(redis_url, prefix, 2))
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{prefix}:*"):
            client.delete(key)


def test_a_new_key_stands_alone_on_the_last_line(keys: Keys) -> None:
    output = keys.output("create", "--name", "app")
    text = output.splitlines()[-1]
    key = keys.store.get(id_of(text) or "")
    assert key.is_opened_by(text)
    assert output.count(text) == 1
    assert key.name == "app"
    assert (key.owner, key.budget, key.rpm, key.models, key.expires_at) == (None, None, None, None, None)


def test_every_option_of_a_key_is_kept_and_shown(keys: Keys) -> None:
    options = ["--name", "app one", "--owner", "ann", "--budget-usd", "12.50", "--period", "week"]
    options += ["--on-budget", "downgrade", "--rpm", "60", "--tpm", "100000", "--expires", "30d"]
    options += ["--models", "CheapModel,ExpensiveModel", "--models", "CheapModel"]
    created = keys.json("create", *options)
    assert keys.store.get(created["id"]).is_opened_by(created.pop("key"))
    expected = {
        "name": "app one",
        "owner": "ann",
        "status": "active",
        "budget_usd": 12.5,
        "period": "week",
        "on_budget": "downgrade",
        "rpm": 60,
        "tpm": 100000,
        "models": ["CheapModel", "ExpensiveModel"],
    }
    assert {name: created[name] for name in expected} == expected
    assert keys.json("show", created["id"]) == created
    shown = keys.output("show", created["id"])
    for fact in ("app one", "ann", "active", "$12.5 week", "60", "100000", created["expires_at"]):
        assert fact in shown


def test_a_key_is_meant_by_its_id_its_text_or_a_name_that_no_other_valid_key_has(keys: Keys) -> None:
    (one, text), (other, _) = keys.store.create("one"), keys.store.create("other")
    for ref in (one.id, text, "one"):
        assert keys.json("show", ref)["id"] == one.id
    keys.store.update(other, replace(other, name="one"))
    refusal = keys.refusal("show", "one")
    assert one.id in refusal
    assert other.id in refusal
    keys.store.revoke(one.id)
    assert keys.json("show", "one")["id"] == other.id
    for ref in ("nobody", new_key()[0], new_key()[1], "other"):
        assert "no virtual key" in keys.refusal("show", ref)


def test_rotating_prints_the_new_text_alone_on_the_last_line(keys: Keys) -> None:
    key, old = keys.store.create("app")
    new = keys.output("rotate", "app").splitlines()[-1]
    rotated = keys.store.get(key.id)
    assert rotated.is_opened_by(new)
    assert not rotated.is_opened_by(old)
    newest = keys.json("rotate", key.id)["key"]
    assert keys.store.get(key.id).is_opened_by(newest)


def test_a_revoked_key_is_shown_as_such_and_cannot_be_rotated(keys: Keys) -> None:
    key, _ = keys.store.create("app")
    assert "revoked" in keys.output("revoke", "app")
    assert keys.json("revoke", key.id)["status"] == "revoked"
    assert "revoked" in keys.refusal("rotate", key.id)
    assert "revoked" in keys.refusal("update", key.id, "--rpm", "1")
    assert [listed["status"] for listed in keys.json("list")] == ["revoked"]


def test_updating_changes_what_is_said_and_takes_limits_away(keys: Keys) -> None:
    key, _ = keys.store.create("app", owner="ann", rpm=5)
    updated = keys.json("update", "app", "--name", "app 2", "--budget-usd", "3", "--no-owner", "--tpm", "9")
    assert (updated["name"], updated["owner"], updated["budget_usd"]) == ("app 2", None, 3)
    assert (updated["rpm"], updated["tpm"], updated["period"]) == (5, 9, "total")
    again = keys.json("update", key.id, "--period", "day", "--no-rpm")
    assert (again["budget_usd"], again["period"], again["rpm"]) == (3, "day", None)
    assert keys.json("update", key.id, "--no-budget")["budget_usd"] is None


def test_the_list_shows_all_keys_in_the_order_of_their_creation_or_a_part(keys: Keys) -> None:
    assert keys.json("list") == []
    ids = [keys.store.create(f"key {number}", owner="ann")[0].id for number in range(4)]
    assert [key["id"] for key in keys.json("list")] == ids
    assert [key["id"] for key in keys.json("list", "--after", ids[0], "--limit", "2")] == ids[1:3]
    heading, _, *rows = keys.output("list").splitlines()
    assert heading.split()[:4] == ["id", "name", "owner", "status"]
    assert [row.split()[0] for row in rows] == ids
    assert "no virtual key" in keys.refusal("list", "--after", new_key()[0])


def test_an_owner_s_budget_is_shown_set_and_taken_away(keys: Keys) -> None:
    assert keys.json("owner", "ann")["budget_usd"] is None
    assert keys.json("owner", "ann", "--budget-usd", "100", "--period", "month")["budget_usd"] == 100
    assert "$100 month" in keys.output("owner", "ann")
    assert keys.json("owner", "ann", "--no-budget")["budget_usd"] is None
    assert "none" in keys.output("owner", "ann")


@pytest.mark.parametrize(
    ("args", "option"),
    [
        (["create"], "--name"),
        (["create", "--name", ""], "--name"),
        (["create", "--name", "a", "--budget-usd", "-1"], "--budget-usd"),
        (["create", "--name", "a", "--budget-usd", "much"], "--budget-usd"),
        (["create", "--name", "a", "--period", "day"], "--period"),
        (["create", "--name", "a", "--budget-usd", "1", "--period", "year"], "--period"),
        (["create", "--name", "a", "--rpm", "0"], "--rpm"),
        (["create", "--name", "a", "--tpm", "many"], "--tpm"),
        (["create", "--name", "a", "--models", "NoModel"], "--models"),
        (["create", "--name", "a", "--expires", "yesterday"], "--expires"),
        (["create", "--name", "a", "--on-budget", "pay"], "--on-budget"),
        (["update", "0123456789ab"], "Nothing to change"),
        (["update", "0123456789ab", "--rpm", "1", "--no-rpm"], "--rpm"),
        (["list", "--limit", "0"], "--limit"),
        (["owner", "ann", "--period", "day"], "--period"),
        (["owner", "ann", "--budget-usd", "1", "--no-budget"], "--budget-usd"),
    ],
    ids=" ".join,
)
def test_a_bad_value_is_an_error_of_usage_that_names_the_option(
    keys: Keys, args: list[str], option: str
) -> None:
    done = keys.run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert option in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert keys.store.page(None, 1) == ([], False)


@pytest.mark.parametrize(
    "args", [["create", "--name", "a"], ["list"], ["show", "a"], ["owner", "ann"]], ids=" ".join
)
def test_a_redis_that_cannot_be_reached_is_told_in_one_line(keys: Keys, args: list[str]) -> None:
    nowhere = Keys("redis://:secret-canary@127.0.0.1:1/0", keys.prefix, keys.store)
    refusal = nowhere.refusal(*args)
    assert "Redis" in refusal
    assert "canary" not in refusal
