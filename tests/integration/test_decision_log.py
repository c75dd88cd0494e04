"""Each choice of a policy is remembered with its answer, in numbers, and so many of them and no more."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from gateway.routing.signals import signals_of
from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.decisions import decisions
from tests.support.own_stack import own_gateway
from tests.support.processes import RedisServer
from tests.support.stack import LONG, SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

CANARY = "canary-of-a-prompt"


@pytest.fixture(scope="module")
def small_log(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(ROUTING_LOG_SIZE="20", WEB_CONCURRENCY="2")


def in_redis(gateway: GatewayUnderTest) -> str:
    """All that is there below the gateway's prefix and beside it, as text."""
    with redis.Redis.from_url(gateway.redis_url, decode_responses=True) as client:
        found: list[object] = []
        for name in client.scan_iter(f"{gateway.redis_prefix}*"):
            kind = client.type(name)
            found.append(name)
            if kind == "string":
                found.append(client.get(name))
            elif kind == "hash":
                found.append(client.hgetall(name))
            elif kind == "zset":
                found.append(client.zrange(name, 0, -1))
        return json.dumps(found)


def test_the_decision_is_there_when_the_answer_is(gateway: GatewayUnderTest) -> None:
    before, begun = len(decisions(gateway)), time.time()
    answers = [gateway.chat(SHORT), gateway.chat(LONG, stream=True), gateway.chat(SHORT, model="CheapModel")]
    assert [answer.status_code for answer in answers] == [200] * 3
    short, long = decisions(gateway)[before:]  # the third was nobody's decision but the client's
    assert [each.request_id for each in (short, long)] == [
        answer.headers["X-Request-Id"] for answer in answers[:2]
    ]
    assert (short.policy, short.characters, short.score, short.threshold) == (
        "prompt_length",
        len(SHORT),
        len(SHORT),
        150,
    )
    assert (short.model, short.other, short.is_dear) == ("CheapModel", "ExpensiveModel", False)
    assert (long.model, long.other, long.is_dear) == ("ExpensiveModel", "CheapModel", True)
    assert short.cost == Decimal(answers[0].headers["X-Gateway-Cost-Usd"])
    usage = answers[0].json()["usage"]
    assert (short.input_tokens, short.output_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert long.output_tokens > 0
    assert (short.propensity, short.feedback, short.key_id, short.signals) == (1.0, None, None, {})
    assert begun - 1 < short.time < time.time() + 1


def test_no_prompt_is_remembered(gateway: GatewayUnderTest) -> None:
    gateway.post({"messages": [{"role": "system", "content": CANARY}, {"role": "user", "content": CANARY}]})
    assert decisions(gateway)
    assert CANARY not in in_redis(gateway)


def test_only_the_last_ones_are_kept(small_log: GatewayUnderTest) -> None:
    ids = [small_log.chat(SHORT).headers["X-Request-Id"] for _ in range(50)]
    assert [each.request_id for each in decisions(small_log)] == ids[-20:]
    names = f"{small_log.redis_prefix}-decisions"
    with redis.Redis.from_url(small_log.redis_url) as client:
        assert (client.hlen(names), client.zcard(f"{names}:times")) == (20, 20)


def test_a_lower_limit_and_none_at_all_hold_at_once(
    start_gateway: StartGateway, small_log: GatewayUnderTest
) -> None:
    lower = start_gateway(ROUTING_LOG_SIZE="5", REDIS_KEY_PREFIX=small_log.redis_prefix)
    last = lower.chat(SHORT).headers["X-Request-Id"]
    assert len(decisions(lower)) == 5
    off = start_gateway(ROUTING_LOG_SIZE="0", REDIS_KEY_PREFIX=small_log.redis_prefix)
    assert off.chat(SHORT).status_code == 200
    assert decisions(off)[-1].request_id == last


def test_an_answer_that_another_model_gave_says_nothing_of_the_one_that_was_chosen(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(CHEAP_MODEL_URL="http://127.0.0.1:1/v1", UPSTREAM_RETRIES="0")
    assert gateway.chat(SHORT).headers["X-Gateway-Model"] == "ExpensiveModel"
    (fallen_back,) = decisions(gateway)
    assert (fallen_back.model, fallen_back.propensity) == ("ExpensiveModel", None)


def test_a_request_that_nobody_answers_leaves_no_decision(start_gateway: StartGateway) -> None:
    nowhere = "http://127.0.0.1:1/v1"
    gateway = start_gateway(CHEAP_MODEL_URL=nowhere, EXPENSIVE_MODEL_URL=nowhere, UPSTREAM_RETRIES="0")
    assert gateway.chat(SHORT).status_code == 502
    assert decisions(gateway) == []


def test_decisions_that_are_taken_while_redis_is_away_are_there_when_it_is_back(
    own_redis: RedisServer, model_urls: dict[str, str], tmp_path: Path
) -> None:
    with own_gateway(tmp_path, model_urls, own_redis) as gateway:
        ids = [gateway.chat(SHORT).headers["X-Request-Id"]]
        own_redis.kill()
        ids += [gateway.chat(SHORT).headers["X-Request-Id"] for _ in range(3)]
        own_redis.start()
        # The first may have been in the second of Redis' memory that is lost with it, and comes again too.
        assert eventually(lambda: sorted(each.request_id for each in decisions(gateway)) == sorted(ids), 15)


def test_what_is_explored_is_remembered_with_its_probability(start_gateway: StartGateway) -> None:
    gateway = start_gateway(ROUTING_EXPLORE="0.5")
    answers = [gateway.chat(SHORT) for _ in range(40)]
    explored = {
        answer.headers["X-Request-Id"]
        for answer in answers
        if answer.headers["X-Gateway-Reason"].startswith("explored")
    }
    assert 5 < len(explored) < 35
    for each in decisions(gateway):
        assert each.propensity == 0.5
        assert each.model == ("ExpensiveModel" if each.request_id in explored else "CheapModel")


def test_the_signals_of_every_prompt_are_remembered_where_that_is_wished(start_gateway: StartGateway) -> None:
    gateway = start_gateway(ROUTING_LOG="features")
    gateway.chat(LONG)
    (found,) = decisions(gateway)
    assert found.policy == "prompt_length"
    assert found.signals == {name: float(f"{value:.6g}") for name, value in signals_of([LONG]).items()}
    assert not any(word in in_redis(gateway) for word in ("quantum", "entanglement"))
