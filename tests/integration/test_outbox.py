"""What writers have to count is counted exactly once: sent twice, late, in parts, by another, or to a Redis
that has lost a part or all of its memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from gateway.errors import LedgerUnavailable
from gateway.ledger import outbox as outbox_module
from gateway.ledger.connection import connect
from gateway.ledger.journal import Record, journals_in
from gateway.ledger.recovery import FoundBill
from gateway.ledger.tally import Tally
from tests.support.outboxes import (
    NAMES,
    OPEN,
    REQUESTS,
    adopted,
    counted,
    die,
    never_made,
    outbox_in,
    recovery_of,
    requests_counted,
    tally_of_requests,
)
from tests.support.processes import RedisServer, redis_server
from tests.support.proxy import tcp_proxy
from tests.support.waiting import eventually

PATIENCE = 0.2
INCREMENTS = ("incrby", "incrbyfloat", "hincrby", "hincrbyfloat")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that loses nothing that it has confirmed."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder, appendfsync="always") as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with connect(server.url, PATIENCE) as client:
        yield client


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "journals"
    directory.mkdir()
    return directory


@pytest.fixture
def kept_for_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Redis has had may be forgotten at once."""
    monkeypatch.setattr(outbox_module, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(outbox_module, "SHORTEN_BYTES", 1000)


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "takes no increments" in record.getMessage()]


def script_calls(client: redis.Redis) -> int:
    """How many scripts Redis has run so far."""
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


def test_a_batch_that_is_sent_twice_counts_once(directory: Path, client: redis.Redis) -> None:
    outbox = outbox_in(directory, client)
    batch = outbox.write(tally_of_requests(3), [])
    outbox.send(batch)
    outbox.send(batch)
    twin = adopted(die(outbox), client)
    twin.send_backlog()
    assert requests_counted(client) == 3


@pytest.mark.parametrize("known", range(6))
def test_a_send_of_many_batches_adds_those_that_redis_lacks(
    directory: Path, client: redis.Redis, known: int
) -> None:
    outbox = outbox_in(directory, client)
    for number in range(5):
        batch = outbox.write(tally_of_requests(10**number), [])
        if number < known:
            outbox.send(batch)
    heir = adopted(die(outbox), client)
    heir.send_backlog()
    assert requests_counted(client) == 11111
    heir.send(heir.write(tally_of_requests(10**5), []))
    assert requests_counted(client) == 111111


def test_more_batches_than_go_into_one_call_are_all_added(directory: Path, client: redis.Redis) -> None:
    outbox = outbox_in(directory, client)
    for _ in range(1000):
        outbox.write(tally_of_requests(1), [])
    outbox.send_backlog()
    assert requests_counted(client) == 1000


def test_a_batch_that_redis_gets_after_its_retry_counts_once(
    directory: Path, server: RedisServer, client: redis.Redis
) -> None:
    with tcp_proxy(server.url) as proxy, connect(proxy.url, PATIENCE) as slow:
        outbox = outbox_in(directory, slow)
        outbox.send(outbox.write(tally_of_requests(1), []))
        proxy.stall()
        late = outbox.write(tally_of_requests(10), [])
        with pytest.raises(LedgerUnavailable):
            outbox.send(late)
        heir = adopted(die(outbox), client)
        heir.write(tally_of_requests(100), [])
        heir.send_backlog()
        before = script_calls(client)
        assert requests_counted(client) == 111
        proxy.mend()
        assert eventually(lambda: script_calls(client) > before)
    assert requests_counted(client) == 111


def test_a_batch_that_timed_out_and_was_executed_all_the_same_counts_once(
    directory: Path, server: RedisServer, client: redis.Redis
) -> None:
    outbox = outbox_in(directory, client)
    outbox.send(outbox.write(tally_of_requests(1), []))
    server.pause()
    for number in range(1, 4):
        outbox.write(tally_of_requests(10**number), [])
        with pytest.raises(LedgerUnavailable):
            outbox.send_backlog()
    server.resume()
    outbox.send_backlog()
    assert requests_counted(client) == 1111


def test_a_batch_whose_answer_is_lost_counts_once(directory: Path, server: RedisServer) -> None:
    with tcp_proxy(server.url) as proxy, connect(proxy.url, PATIENCE) as client:
        outbox = outbox_in(directory, client)
        fault = proxy.drop_replies(0.3)
        for _ in range(50):
            outbox.write(tally_of_requests(1), [])
            with suppress(LedgerUnavailable):
                outbox.send_backlog()
        proxy.mend()
        outbox.send_backlog()
        assert fault.struck > 10
        assert requests_counted(client) == 50


def test_without_a_journal_what_failed_is_sent_again_from_memory(
    directory: Path, server: RedisServer, client: redis.Redis
) -> None:
    outbox = outbox_in(directory, client)
    outbox.journal = None
    assert outbox.write(tally_of_requests(1), []).end is None
    server.pause()
    with pytest.raises(LedgerUnavailable):
        outbox.send_backlog()
    server.resume()
    outbox.write(tally_of_requests(10), [])
    outbox.send_backlog()
    assert requests_counted(client) == 11


def test_a_counter_that_holds_no_number_loses_its_own_increments_alone_and_is_told_once(
    directory: Path, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.set(NAMES.model("CheapModel", "requests"), "many")
    client.lpush(NAMES.model("CheapModel", "cost_usd"), "many")
    client.set(NAMES.key_usage("key"), "many")
    outbox = outbox_in(directory, client)
    for _ in range(3):
        tally = tally_of_requests(1)
        tally.count(NAMES.model("CheapModel", "requests"), 1)
        tally.charge(NAMES.model("CheapModel", "cost_usd"), tally.costs[NAMES.total("cost_usd"), None])
        tally.count(NAMES.key_usage("key"), 1, of="requests")
        tally.count(NAMES.model("ExpensiveModel", "requests"), 1)
        outbox.send(outbox.write(tally, []))
    assert requests_counted(client) == 3
    assert client.get(NAMES.model("ExpensiveModel", "requests")) == "3"
    assert client.get(NAMES.model("CheapModel", "requests")) == "many"
    told = complaints(caplog)
    assert len(told) == 3
    for name in ("model:CheapModel:requests", "model:CheapModel:cost_usd", "key:key:usage"):
        assert sum(name in message for message in told) == 1


def test_holds_that_are_none_do_not_keep_the_rest_from_being_counted(
    directory: Path, client: redis.Redis
) -> None:
    client.set("holds", "many")
    outbox = outbox_in(directory, client)
    tally = tally_of_requests(1)
    tally.drop("holds", "budget", "call")
    tally.free("holds", "budget", "call:1", "1")
    tally.void("void", 60)
    tally.expire(REQUESTS, 2**33)
    outbox.send(outbox.write(tally, []))
    assert requests_counted(client) == 1
    assert client.exists("void")
    assert client.ttl(REQUESTS) > 0


@pytest.mark.parametrize("denied", [INCREMENTS, ("incrby",)])
def test_where_redis_does_not_allow_increments_nothing_is_half_added(
    directory: Path, server: RedisServer, client: redis.Redis, denied: tuple[str, ...]
) -> None:
    client.acl_setuser(
        "limited",
        enabled=True,
        passwords=["+secret"],
        keys=["*"],
        commands=["+@all", *(f"-{command}" for command in denied)],
    )
    tally = tally_of_requests(1)
    tally.count(NAMES.key_usage("key"), 1, of="requests")
    with connect(server.url.replace("redis://", "redis://limited:secret@"), PATIENCE) as limited:
        outbox = outbox_in(directory, limited)
        for _ in range(2):
            outbox.write(tally, [])
            with pytest.raises(LedgerUnavailable):
                outbox.send_backlog()
            assert counted(client) == (0, Decimal(0))
            assert int(client.hget(NAMES.key_usage("key"), "requests") or 0) == 0
        client.acl_setuser("limited", commands=[f"+{command}" for command in denied])
        outbox.send_backlog()
    assert requests_counted(client) == 2
    assert client.hgetall(NAMES.key_usage("key")) == {"requests": "2"}


def test_a_shortened_journal_goes_on_with_its_numbers_and_open_calls(
    directory: Path, client: redis.Redis, kept_for_no_time: None
) -> None:
    outbox = outbox_in(directory, client)
    outbox.open_call("open", OPEN)
    lengths = set()
    for number in range(200):
        outbox.open_call(str(number), OPEN)
        outbox.send(outbox.write(tally_of_requests(1), [str(number)]))
        outbox.shorten()
        assert outbox.journal is not None
        lengths.add(outbox.journal.length)
    assert max(lengths) < 10_000, "nothing was shortened"
    outbox.write(tally_of_requests(1000), [])  # in the journal alone
    heir = adopted(die(outbox), client)
    assert set(heir.open_calls) == {"open"}
    heir.send_backlog()
    assert requests_counted(client) == 1200
    heir.send(heir.write(tally_of_requests(10_000), ["open"]))
    assert requests_counted(client) == 11_200


def test_a_journal_is_not_shortened_by_what_redis_lacks(
    directory: Path, server: RedisServer, client: redis.Redis, kept_for_no_time: None
) -> None:
    outbox = outbox_in(directory, client)
    outbox.send(outbox.write(tally_of_requests(1), []))
    server.kill()
    for _ in range(100):
        outbox.write(tally_of_requests(1), [])
        outbox.shorten()
    server.start()
    outbox.send_backlog()
    assert requests_counted(client) == 101


def test_a_redis_that_comes_back_without_its_last_memory_gets_it_again(
    directory: Path, server: RedisServer, client: redis.Redis, tmp_path: Path
) -> None:
    outbox = outbox_in(directory, client)
    outbox.check()
    files = list((tmp_path / "redis").rglob("*.aof"))
    for number in range(3):
        outbox.send(outbox.write(tally_of_requests(10**number), []))
        if number == 0:
            lengths = {file: file.stat().st_size for file in files}
    server.kill()
    for file, length in lengths.items():
        os.truncate(file, length)
    server.start()
    assert requests_counted(client) == 1
    outbox.check()
    outbox.send_backlog()
    assert requests_counted(client) == 111
    outbox.send(outbox.write(tally_of_requests(1000), []))
    assert requests_counted(client) == 1111


def test_an_emptied_redis_gets_nothing_again_that_it_had_confirmed(
    directory: Path, server: RedisServer, client: redis.Redis
) -> None:
    outbox = outbox_in(directory, client)
    for _ in range(3):
        outbox.send(outbox.write(tally_of_requests(1), []))
    server.wipe()
    outbox.send(outbox.write(tally_of_requests(10), []))
    assert requests_counted(client) == 10
    server.wipe()
    outbox.write(tally_of_requests(100), [])  # in the journal alone
    heir = adopted(die(outbox), client)
    heir.send_backlog()
    assert requests_counted(client) == 100


def test_a_dead_writers_journal_and_its_key_in_redis_go_when_all_is_counted(
    directory: Path, client: redis.Redis, kept_for_no_time: None
) -> None:
    outbox = outbox_in(directory, client, "dead")
    outbox.open_call("found", OPEN)
    outbox.open_call("unknown", OPEN)
    outbox.send(outbox.write(tally_of_requests(1), []))
    outbox.write(tally_of_requests(10), [])
    path = die(outbox)
    known = {"found"}

    def bill_of(call: str, record: Record) -> FoundBill | None:
        assert record == {"open": call, **OPEN}
        return FoundBill(None, stated=True) if call in known else None

    recovery = recovery_of(directory, client, bill_of)
    recovery.look()
    assert requests_counted(client) == 11
    assert path.exists()
    assert client.exists(NAMES.writer("dead"))
    known.add("unknown")
    recovery.look()
    recovery.look()
    assert requests_counted(client) == 11
    assert not path.exists()
    assert not client.exists(NAMES.writer("dead"))
    assert [path.name for path in journals_in(directory)] == ["survivor.journal"]


def test_a_recovery_that_dies_itself_is_taken_over(
    directory: Path, server: RedisServer, client: redis.Redis, kept_for_no_time: None
) -> None:
    outbox = outbox_in(directory, client, "dead")
    outbox.open_call("call", OPEN)
    for _ in range(3):
        outbox.write(tally_of_requests(1), [])
    path = die(outbox)
    heir = adopted(path, client)
    heir.write(tally_of_requests(10), ["call"])
    heir.send_backlog()
    die(heir)  # before it could remove the journal
    recovery = recovery_of(directory, client, never_made)
    recovery.look()
    recovery.look()
    assert requests_counted(client) == 13
    assert not path.exists()


def test_a_journal_is_closed_once_also_where_its_key_cannot_be_deleted(
    directory: Path, server: RedisServer, client: redis.Redis, kept_for_no_time: None
) -> None:
    client.acl_setuser("limited", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-del"])
    outbox = outbox_in(directory, client, "dead")
    outbox.send(outbox.write(tally_of_requests(1), []))
    die(outbox)
    with connect(server.url.replace("redis://", "redis://limited:secret@"), PATIENCE) as limited:
        recovery = recovery_of(directory, limited, never_made)
        limited.ping()
        with pytest.raises(LedgerUnavailable):
            recovery.look()
        read_end, write_end = os.pipe()  # one of them gets the number of the journal's descriptor
        with pytest.raises(LedgerUnavailable):
            recovery.look()
        os.write(write_end, b"x")
        assert os.read(read_end, 1) == b"x"
        os.close(read_end)
        os.close(write_end)
    assert [path.name for path in journals_in(directory)] == ["survivor.journal"]


def test_an_empty_batch_closes_calls_and_adds_nothing(directory: Path, client: redis.Redis) -> None:
    outbox = outbox_in(directory, client)
    outbox.open_call("call", OPEN)
    outbox.send(outbox.write(Tally(), ["call"]))
    heir = adopted(die(outbox), client)
    assert heir.open_calls == {}
    assert counted(client) == (0, Decimal(0))
