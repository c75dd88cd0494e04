"""What workers know of each other's circuits: through a real Redis, and while it is away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.circuit import CircuitRules, Opening
from gateway.circuit_board import CircuitBoard
from gateway.circuits import Circuits
from gateway.errors import LedgerUnavailable
from gateway.ledger.connection import connect
from gateway.ledger.names import Names
from tests.support.circuit_workers import OPEN_SECONDS, CircuitWorker, circuit_workers
from tests.support.processes import RedisServer, redis_server
from tests.support.waiting import eventually

WORKERS = 4
MODELS = [f"model-{number}" for number in range(12)]
TOLD_WITHIN_SECONDS = 1.0
BACK_WITHIN_SECONDS = 5.0
LEASE_SECONDS = 1.5
# Far above what is waited for, since the machine may be busy; a time-out of Redis would be longer still.
LONGEST_WAIT_SECONDS = 0.3
NOBODY_WAITS = {"patience": 1.0, "lease": LEASE_SECONDS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def workers(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CircuitWorker]]:
    """Patient ones, so that none of them takes a busy Redis for one that is away."""
    directory = tmp_path_factory.mktemp("workers")
    with circuit_workers(WORKERS, server.url, directory, MODELS, **NOBODY_WAITS) as workers:
        yield workers


@pytest.fixture(scope="module")
def pair(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CircuitWorker]]:
    """Two as they are by default, for tests that take Redis away."""
    with circuit_workers(2, server.url, tmp_path_factory.mktemp("pair"), MODELS) as workers:
        yield workers


@pytest.fixture(scope="module")
def unused() -> Iterator[str]:
    return iter(MODELS)


@pytest.fixture
def model(unused: Iterator[str]) -> str:
    """A model that no other test has."""
    return next(unused)


@pytest.fixture
def other(unused: Iterator[str]) -> str:
    """Another one."""
    return next(unused)


def all_are(workers: list[CircuitWorker], model: str, *states: str, seconds: float) -> bool:
    """Whether the model's circuit soon is in one of these states for all of them."""
    return eventually(lambda: all(worker.state(model) in states for worker in workers), seconds)


def opened_everywhere(workers: list[CircuitWorker], model: str) -> None:
    """Open by the first one, and wait until all of them know, and may try it again."""
    workers[0].open(model)
    assert all_are(workers, model, "half_open", seconds=TOLD_WITHIN_SECONDS + OPEN_SECONDS)


def test_what_one_worker_finds_all_know_within_a_second(workers: list[CircuitWorker], model: str) -> None:
    workers[0].open(model)
    assert all_are(workers, model, "open", "half_open", seconds=TOLD_WITHIN_SECONDS)
    assert all_are(workers, model, "half_open", seconds=OPEN_SECONDS + 1)
    assert workers[1].asks(model) == 1
    workers[1].succeed(model)
    assert all_are(workers, model, "closed", seconds=TOLD_WITHIN_SECONDS)


def test_a_new_worker_knows_what_is_open(
    server: RedisServer, workers: list[CircuitWorker], model: str, tmp_path: Path
) -> None:
    workers[0].open(model)
    with circuit_workers(1, server.url, tmp_path, MODELS) as [new]:
        assert all_are([new], model, "open", "half_open", seconds=TOLD_WITHIN_SECONDS)


def test_of_all_workers_only_one_tries_the_model(workers: list[CircuitWorker], model: str) -> None:
    opened_everywhere(workers, model)
    for worker in workers:  # all at once
        worker.send("ask", model, times=1)
    assert sum(worker.answer()["granted"] for worker in workers) == 1
    deadline = time.monotonic() + LEASE_SECONDS + 0.5  # it is renewed while it is under way
    while time.monotonic() < deadline:
        assert sum(worker.asks(model, 20) for worker in workers) == 0
        time.sleep(0.05)


def test_a_try_that_is_given_up_leaves_it_to_another_worker(workers: list[CircuitWorker], model: str) -> None:
    opened_everywhere(workers, model)
    assert workers[0].asks(model) == 1
    workers[0].abandon(model)
    assert eventually(lambda: workers[1].asks(model) == 1, 0.5)
    assert workers[0].asks(model) == 0


def test_a_worker_that_dies_while_it_tries_the_model_leaves_it_to_others(
    server: RedisServer, workers: list[CircuitWorker], model: str, tmp_path: Path
) -> None:
    opened_everywhere(workers, model)
    with circuit_workers(1, server.url, tmp_path, MODELS, **NOBODY_WAITS) as [dying]:
        assert all_are([dying], model, "half_open", seconds=TOLD_WITHIN_SECONDS)
        assert dying.asks(model) == 1
    assert workers[1].asks(model) == 0
    assert eventually(lambda: workers[1].asks(model) == 1, LEASE_SECONDS + 1)


def test_what_cannot_be_read_is_passed_over(
    server: RedisServer, workers: list[CircuitWorker], model: str
) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set(Names("gateway").circuit(model), "nonsense")
        for message in ("nonsense", "[]", '{"model": "x"}', '{"model": "x", "seconds": []}', "null"):
            client.publish(Names("gateway").circuits, message)
    workers[0].open(model)
    assert all_are(workers, model, "open", "half_open", seconds=TOLD_WITHIN_SECONDS)


def test_no_request_waits_for_a_paused_redis_and_afterwards_all_agree(
    server: RedisServer, pair: list[CircuitWorker], model: str, other: str
) -> None:
    first, second = pair
    opened_everywhere(pair, other)
    server.pause()
    try:
        first.open(model)
        assert first.longest_wait(model, 1000) < LONGEST_WAIT_SECONDS  # open
        assert second.longest_wait(model, 1000) < LONGEST_WAIT_SECONDS  # closed
        assert second.longest_wait(other, 1000) < LONGEST_WAIT_SECONDS  # half-open
        second.succeed(other)
        assert eventually(lambda: first.state(model) == "half_open")
        assert first.longest_wait(model, 1000) < LONGEST_WAIT_SECONDS
    finally:
        server.resume()
    assert all_are(pair, other, "closed", seconds=BACK_WITHIN_SECONDS)
    assert all_are(pair, model, "half_open", seconds=BACK_WITHIN_SECONDS)


def test_without_redis_each_worker_tries_once_and_all_agree_when_it_is_back(
    server: RedisServer, pair: list[CircuitWorker], model: str, other: str
) -> None:
    first, second = pair
    opened_everywhere(pair, other)
    logged = [len(worker.log) for worker in pair]
    server.kill()
    try:
        assert [worker.asks(other, 10) for worker in pair] == [1, 1]
        second.succeed(other)
        first.open(model)
        assert first.longest_wait(model, 1000) < LONGEST_WAIT_SECONDS
        assert (first.state(other), second.state(model)) == ("half_open", "closed")
    finally:
        server.start()
    assert all_are(pair, other, "closed", seconds=BACK_WITHIN_SECONDS)
    assert all_are(pair, model, "open", "half_open", seconds=BACK_WITHIN_SECONDS)
    for worker, before in zip(pair, logged, strict=True):
        # Each change of state is one line, and so is Redis's going and coming.
        lines = [line.split(" ")[0] for line in worker.log[before:]]
        assert lines.count("Redis") == 2
        assert len(lines) == 5


@pytest.fixture
def cluster_of_one(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis in cluster mode, which refuses what spans two slots."""
    server = RedisServer(tmp_path, options=("--cluster-enabled", "yes"))
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
            assert eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 10)
        yield server
    finally:
        server.kill()


def board_of(url: str, prefix: str, *, lease: float = 60.0) -> tuple[Circuits, CircuitBoard]:
    """Those of a worker whose greenlets the test itself stands in for."""
    board = CircuitBoard(connect(url, 1), Names(prefix), patience=1, lease=lease)
    circuits = Circuits(CircuitRules(failures=1, open_seconds=60), board)
    board.attach(circuits, lambda: MODELS)
    return circuits, board


def fail(circuits: Circuits, model: str) -> None:
    permit = circuits.permit(model)
    assert permit is not None
    permit.failed()


def follow(board: CircuitBoard) -> None:
    """Until its connection is cut."""
    with pytest.raises(LedgerUnavailable):
        board.follow()


def test_with_a_prefix_in_braces_a_cluster_takes_it_all(cluster_of_one: RedisServer) -> None:
    (first, teller), (second, follower) = (board_of(cluster_of_one.url, "{gateway}") for _ in range(2))
    fail(first, "m")
    assert teller.take_probe("m", 1)
    teller.free_probe("m")
    teller.tell_all()
    second.adopt("model-0", Opening("another", time.monotonic() + 9))
    follower.look()
    assert second.state("model-0") == "closed"


def test_a_look_at_redis_does_not_undo_what_it_has_not_been_told_yet(server: RedisServer) -> None:
    circuits, board = board_of(server.url, "untold")
    fail(circuits, "model-0")
    board.look()
    assert circuits.state("model-0") == "open"
    board.tell_all()
    board.look()
    assert circuits.state("model-0") == "open"
    assert 40 < circuits.retry_after("model-0") <= 60


def test_what_redis_keeps_goes_some_time_after_the_model_may_be_tried(server: RedisServer) -> None:
    circuits, board = board_of(server.url, "kept")
    fail(circuits, "model-0")
    board.tell_all()
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        assert json.loads(client.get("kept:circuit:model-0"))["failed_probes"] == 0
        assert 600 < client.ttl("kept:circuit:model-0") < 670
        circuits.adopt("model-0", None)
        board.tell("model-0", None)
        board.tell_all()
        assert client.keys("kept:*") == []


def test_whoever_tells_how_the_try_went_leaves_the_next_one_to_anybody(server: RedisServer) -> None:
    (_, first), (_, second) = (board_of(server.url, "over") for _ in range(2))
    for opening in (Opening("again", time.monotonic() + 1, 1), None):
        assert first.take_probe("m", 60)
        assert not second.take_probe("m", 60)
        first.tell("m", opening)
        first.tell_all()
        assert second.take_probe("m", 60)
        second.free_probe("m")
        second.tell_all()


def test_a_worker_that_has_lost_its_try_does_not_end_that_of_another(server: RedisServer) -> None:
    (_, late), (_, second) = board_of(server.url, "late", lease=0.01), board_of(server.url, "late")
    assert late.take_probe("m", 60)
    assert eventually(lambda: second.take_probe("m", 60))
    late.free_probe("m")
    late.tell_all()
    assert not board_of(server.url, "late")[1].take_probe("m", 60)


def test_what_a_worker_has_not_told_yet_outlives_what_others_tell(server: RedisServer) -> None:
    (circuits, board), (_, other) = (board_of(server.url, "both") for _ in range(2))
    following = threading.Thread(target=follow, args=(board,))
    following.start()
    try:
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert eventually(lambda: dict(client.pubsub_numsub("both:circuits")) == {"both:circuits": 1})
            fail(circuits, "model-0")
            other.tell("model-0", None)
            other.tell("model-1", Opening("other", time.monotonic() + 60))
            other.tell_all()
            assert eventually(lambda: circuits.state("model-1") == "open")  # so that all has been heard
            assert circuits.state("model-0") == "open"
            board.tell_all()
            other.tell("model-0", None)
            other.tell_all()
            assert eventually(lambda: circuits.state("model-0") == "closed")
    finally:
        with redis.Redis.from_url(server.url) as client:
            client.client_kill_filter(_type="pubsub")
        following.join()
