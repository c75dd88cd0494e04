"""`flask router`: what was is run again, learned from, put live and taken back, and never on a guess."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest
import requests

from gateway.ledger.connection import connect
from gateway.ledger.model_store import ModelStore
from gateway.ledger.names import Names
from gateway.routing.difficulty import bundled
from gateway.routing.learning import train
from tests.conftest import StartGateway
from tests.support.decisions import decisions, forget, remember
from tests.support.flask_commands import FlaskCommands
from tests.support.stack import SHORT
from tests.support.tenant import LIVE_SHARE, decisions_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

PLENTY = decisions_of(1500, seed=5, explored=0.3)
BY_DIFFICULTY = {"ROUTING_POLICY": "difficulty"}


@pytest.fixture
def router(redis_url: str) -> Iterator[FlaskCommands]:
    prefix = f"test-{uuid.uuid4().hex}"
    yield FlaskCommands("router", redis_url, prefix)
    forget(redis_url, prefix)


@pytest.fixture(scope="module")
def learned(redis_url: str) -> Iterator[FlaskCommands]:
    """A log of which much can be learned, for tests that leave it as it is."""
    prefix = f"test-{uuid.uuid4().hex}"
    remember(redis_url, prefix, PLENTY)
    yield FlaskCommands("router", redis_url, prefix)
    forget(redis_url, prefix)


def store(router: FlaskCommands) -> ModelStore:
    return ModelStore(connect(router.url, 2.0), Names(router.prefix))


def refusal(router: FlaskCommands, *args: str, **environ: str) -> str:
    """Of what cannot be done, in one line."""
    done = router.run(*args, **environ)
    assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_a_policy_is_run_again_for_people_and_for_programs(learned: FlaskCommands) -> None:
    found = learned.json("replay", "--policy", "prompt_length", "--threshold", "300", "--since", "7d")
    long = {each.request_id for each in PLENTY if each.characters > 300}
    dear = {each.request_id for each in PLENTY if each.score > each.threshold}
    assert found["requests"] == 1500
    assert found["share"] == round(len(long) / 1500, 4)
    assert set(found["flipped"]) == long ^ dear
    assert found["quality"]["low"] < found["quality"]["value"] < found["quality"]["high"]
    assert found["cost_usd"]["low"] < found["cost_usd"]["value"] < found["cost_usd"]["high"]
    told = learned.output("replay", "--policy", "prompt_length", "--threshold", "300")
    for fact in (f"{found['share']:.1%}", f"{found['quality']['value']:.3f}", found["flipped"][0]):
        assert fact in told


def test_only_what_is_young_enough_is_run_again(router: FlaskCommands) -> None:
    old = [replace(each, request_id=f"old-{each.request_id}", time=each.time - 86400) for each in PLENTY[:30]]
    remember(router.url, router.prefix, [*old, *PLENTY[:50]])
    assert router.json("replay", "--policy", "prompt_length", "--since", "12h")["requests"] == 50
    assert router.json("replay", "--policy", "prompt_length", "--since", "2d")["requests"] == 80


def test_without_exploration_it_is_said_that_nothing_can_be_told(router: FlaskCommands) -> None:
    remember(router.url, router.prefix, [replace(each, propensity=1.0) for each in PLENTY[:300]])
    found = router.json("replay", "--policy", "prompt_length", "--threshold", "1")
    assert (found["quality"]["value"], found["never_tried"] > 0.3) == (None, True)
    told = router.output("replay", "--policy", "prompt_length", "--threshold", "1")
    assert "cannot be told" in told
    assert "ROUTING_EXPLORE" in told


def test_a_log_without_signals_says_how_to_have_them(router: FlaskCommands) -> None:
    remember(router.url, router.prefix, [replace(each, signals={}) for each in PLENTY[:300]])
    for args in (["replay", "--policy", "difficulty"], ["train"]):
        assert "ROUTING_LOG=features" in refusal(router, *args)


def test_a_candidate_is_trained_shown_promoted_and_taken_back(router: FlaskCommands) -> None:
    remember(router.url, router.prefix, PLENTY)
    trained = router.run("train", "--share", "0.5", "--json", **BY_DIFFICULTY)
    assert (trained.returncode, trained.stderr) == (0, "")
    candidate = router.json("show")["candidate"]
    assert (candidate["trained_on"], candidate["share"]) == (1500, 0.5)
    assert router.json("show")["live"] == {"version": "bundled"}
    replayed = router.json("replay", "--policy", "difficulty", "--model", "candidate")
    assert replayed["quality"]["value"] > router.json("replay", "--policy", "difficulty")["logged"]["quality"]
    # It is the order of the requests that is compared, whatever threshold the live policy has.
    told = router.run("promote", "--json", **BY_DIFFICULTY)
    assert (told.returncode, told.stderr) == (0, "")
    shown = router.json("show")
    assert (shown["live"]["version"], shown["candidate"]) == (candidate["version"], None)
    assert shown["log"] == {"decisions": 1500, "with_signals": 1500, "with_feedback": 1500, **explored()}
    assert "no candidate" in refusal(router, "promote")
    assert router.json("rollback") == {"live": "bundled"}
    assert "nothing to go back to" in refusal(router, "rollback")


def explored() -> dict[str, int]:
    return {"explored": sum(each.propensity == 0.3 for each in PLENTY)}


def test_what_is_no_better_than_what_is_live_is_not_promoted(router: FlaskCommands) -> None:
    remember(router.url, router.prefix, PLENTY)
    trained = train(PLENTY, bundled(), LIVE_SHARE)
    store(router).put_candidate(trained)
    assert store(router).promote(trained, 0)
    again = replace(trained, version="another")
    store(router).put_candidate(again)
    assert "Not promoted: against difficulty" in refusal(router, "promote", **BY_DIFFICULTY)
    assert router.json("show")["live"]["version"] == trained.version


def test_nothing_is_promoted_on_a_log_that_tried_nothing_else(router: FlaskCommands) -> None:
    store(router).put_candidate(train(PLENTY, bundled(), LIVE_SHARE))
    remember(router.url, router.prefix, [replace(each, propensity=1.0) for each in PLENTY])
    assert "ROUTING_EXPLORE" in refusal(router, "promote")


def test_few_scores_are_refused_with_how_many_are_needed(router: FlaskCommands) -> None:
    remember(router.url, router.prefix, PLENTY[:100])
    assert "at least 200" in refusal(router, "train")
    assert router.json("show")["candidate"] is None


def test_a_candidate_that_was_exchanged_meanwhile_is_not_promoted(router: FlaskCommands) -> None:
    models, trained = store(router), train(PLENTY, bundled(), LIVE_SHARE)
    models.put_candidate(trained)
    models.put_candidate(replace(trained, version="newer"))
    assert not models.promote(trained, 0)
    assert not models.promote(replace(trained, version="newer"), 7)
    assert models.models().live is None


@pytest.mark.parametrize(
    "args",
    [
        ["replay"],
        ["replay", "--policy", "by_mood"],
        ["replay", "--policy", "prompt_length", "--since", "yesterday"],
        ["replay", "--policy", "prompt_length", "--threshold", "nan"],
        ["replay", "--policy", "prompt_length", "--model", "live"],
        ["train", "--share", "1.5"],
    ],
    ids=" ".join,
)
def test_a_bad_value_is_an_error_of_usage(learned: FlaskCommands, args: list[str]) -> None:
    done = learned.run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_an_empty_log_no_candidate_and_no_redis_are_told_in_clear_words(router: FlaskCommands) -> None:
    assert "no decisions" in refusal(router, "replay", "--policy", "prompt_length")
    assert "no candidate" in refusal(router, "promote")
    nowhere = FlaskCommands("router", "redis://:canary@127.0.0.1:1/0", router.prefix)
    for command in ("show", "train", "promote", "rollback"):
        told = refusal(nowhere, command)
        assert "Redis" in told
        assert "canary" not in told


def test_every_gateway_goes_by_what_is_live_within_a_moment(start_gateway: StartGateway) -> None:
    gateway = start_gateway(ROUTING_POLICY="difficulty", WEB_CONCURRENCY="2")
    models = ModelStore(connect(gateway.redis_url, 2.0), Names(gateway.redis_prefix))

    def thresholds() -> set[float]:
        """Those of the latest requests, on connections of their own, so that both workers answer some."""
        before = len(decisions(gateway))
        with requests.Session() as session:
            session.headers["Connection"] = "close"
            for _ in range(12):
                gateway.chat(SHORT)
        return {each.threshold for each in decisions(gateway)[before:]}

    bundled_threshold = float(f"{bundled().threshold:.6g}")
    assert thresholds() == {bundled_threshold}
    trained = train(PLENTY, bundled(), LIVE_SHARE)
    models.put_candidate(trained)
    assert thresholds() == {bundled_threshold}  # nothing is live by being trained
    assert models.promote(trained, 0)
    live = float(f"{trained.whole.threshold:.6g}")
    assert eventually(lambda: thresholds() == {live}, 5)
    assert decisions(gateway)[-1].signals
    done = FlaskCommands("route", gateway.redis_url, gateway.redis_prefix).run(
        "--json", "--model", "auto:difficulty", "Who wrote the law of war?"
    )
    assert json.loads(done.stdout)["threshold"] == pytest.approx(trained.whole.threshold)
    assert models.roll_back()
    assert eventually(lambda: thresholds() == {bundled_threshold}, 5)
