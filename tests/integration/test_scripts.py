"""Calls of a script over the connection that is kept for them."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
import redis

from gateway.ledger.connection import connect
from gateway.ledger.scripts import Script
from tests.support.processes import RedisServer

SECOND = 1.0


@pytest.fixture
def client(own_redis: RedisServer) -> Iterator[redis.Redis]:
    with connect(own_redis.url, SECOND) as client:
        yield client


@pytest.fixture
def renew(client: redis.Redis) -> Script:
    """The script that tells how many of the holds named there still are."""
    return Script(client, "renew")


def connections(client: redis.Redis) -> int:
    """How many have ever been opened."""
    return int(client.info("stats")["total_connections_received"])


def held(client: redis.Redis, *members: str) -> tuple[list[str], list[str | int | float]]:
    """Keys and arguments of a call that finds these members."""
    for member in members:
        client.zadd("holds", {member: 1})
    return ["holds", "budget"] * len(members), [60, "", *members]


def test_calls_one_after_the_other_share_a_connection(client: redis.Redis, renew: Script) -> None:
    call = held(client, "a:1")
    assert renew(*call) == 1
    before = connections(client)
    assert [renew(*call) for _ in range(20)] == [1] * 20
    assert connections(client) == before


def test_a_redis_that_has_been_started_again_is_asked_without_an_error(
    client: redis.Redis, renew: Script, own_redis: RedisServer
) -> None:
    assert renew(*held(client, "a:1")) == 1
    own_redis.kill()
    own_redis.start()
    assert renew(*held(client, "a:1", "b:2")) == 2


def test_a_script_that_redis_has_forgotten_is_loaded_again(client: redis.Redis, renew: Script) -> None:
    call = held(client, "a:1", "b:2")
    assert renew.run_all([call, call]) == [2, 2]
    client.script_flush()
    assert renew.run_all([call, call]) == [2, 2]


def test_a_script_that_fails_takes_no_other_with_it(client: redis.Redis, renew: Script) -> None:
    client.set("text", "no sorted set")
    good = held(client, "a:1")
    failed, worked = renew.run_all([(["text", "budget"], [60, "", "a:1"]), good])
    assert isinstance(failed, redis.ResponseError)
    assert worked == 1
    with pytest.raises(redis.ResponseError):
        renew(["text", "budget"], [60, "", "a:1"])
    assert renew(*good) == 1


def test_the_answer_to_a_call_that_was_given_up_is_no_other_calls_answer(
    client: redis.Redis, renew: Script, own_redis: RedisServer
) -> None:
    two, one = held(client, "a:1", "b:2"), held(client, "a:1")
    assert renew(*one) == 1
    own_redis.pause()
    with pytest.raises(redis.TimeoutError), gevent.Timeout(0.1, redis.TimeoutError("too slow")):
        renew(*two)
    own_redis.resume()
    assert [renew(*one) for _ in range(3)] == [1, 1, 1]


def test_calls_at_the_same_time_have_a_connection_each(client: redis.Redis, renew: Script) -> None:
    calls = [held(client, *(f"{letter}:1" for letter in "abcdefgh"[:size])) for size in range(1, 9)]
    greenlets = [gevent.spawn(renew, *call) for call in calls]
    gevent.joinall(greenlets, raise_error=True)
    assert [greenlet.value for greenlet in greenlets] == list(range(1, 9))
