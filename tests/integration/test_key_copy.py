"""The copy of all keys on a host's disk: complete, incremental, and never worse than none."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import gevent
import pytest

from gateway.budget import Budget
from gateway.errors import LedgerUnavailable
from gateway.keys.key_copier import PAGE, KeyCopier, remove_copy
from gateway.keys.key_copy import DAMAGED, DATABASE, KeyCopy, NotCopied
from gateway.keys.virtual_key import VirtualKey, new_key
from gateway.ledger.connection import connect
from gateway.ledger.key_store import KeyStore
from gateway.ledger.names import Names
from tests.support.keys import copied, key_store
from tests.support.processes import ROOT, RedisServer, redis_server
from tests.support.waiting import eventually

LONGEST_STALL_SECONDS = 0.5  # on a busy machine
COPIER = """
import sys, time
from pathlib import Path
from gateway.keys.key_copier import KeyCopier
from gateway.keys.key_copy import KeyCopy
from tests.support.keys import key_store

copier = KeyCopier(KeyCopy(Path(sys.argv[1])), key_store(sys.argv[2]))
while True:
    if copier.look():
        print("leading", flush=True)
    time.sleep(0.1)
"""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def store(redis: RedisServer) -> KeyStore:
    return key_store(redis.url, timeout=2)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "copy").mkdir()
    return tmp_path / "copy"


@pytest.fixture
def copier(directory: Path, store: KeyStore) -> Iterator[KeyCopier]:
    copier = KeyCopier(KeyCopy(directory), store)
    yield copier
    copier.stop()


def create(store: KeyStore, count: int) -> list[VirtualKey]:
    return [store.create(f"key {number}")[0] for number in range(count)]


def knows(copy: KeyCopy, key: VirtualKey) -> bool:
    try:
        return copy.key(key.id) == key
    except NotCopied:
        return False


def test_the_copy_has_all_keys_and_owners_and_no_secret(store: KeyStore, directory: Path) -> None:
    made = [store.create("näme", owner="ann: {x}", rpm=5, models=frozenset({"A"})) for _ in range(250)]
    store.revoke(made[0][0].id)
    store.set_owner_budget("ann: {x}", Budget(Decimal("0.1")))
    copy = copied(store, directory)
    assert copy.key(made[0][0].id).revoked_at is not None
    assert all(knows(copy, key) for key, _ in made[1:])
    assert copy.owner_budget("ann: {x}") == Budget(Decimal("0.1"))
    assert copy.owner_budget("bob") is None
    stored = b"".join(file.read_bytes() for file in directory.iterdir())
    assert made[1][0].secret_hash.encode() in stored
    assert not any(text[len("gw-0123456789ab-") :].encode() in stored for _, text in made)


def test_only_its_owner_may_read_the_copy(store: KeyStore, directory: Path, copier: KeyCopier) -> None:
    create(store, 1)
    copier.look()
    assert {file.stat().st_mode & 0o077 for file in directory.iterdir()} == {0}


def test_the_copy_cannot_tell_of_a_key_that_it_does_not_have(store: KeyStore, directory: Path) -> None:
    with pytest.raises(NotCopied):
        KeyCopy(directory).key(new_key()[0])
    create(store, 1)
    with pytest.raises(NotCopied):
        copied(store, directory).key(new_key()[0])


def test_a_look_copies_what_has_changed_and_nothing_else(redis: RedisServer, directory: Path) -> None:
    class Counting(KeyStore):
        read = 0

        def records(self, members: Sequence[str]) -> list[dict[str, str]]:
            self.read += len(members)
            return super().records(members)

    store = Counting(connect(redis.url, 2), Names("gateway"))
    first, second, third = create(store, 3)
    copy = KeyCopy(directory)
    copier = KeyCopier(copy, store)
    copier.look()
    assert knows(copy, first)
    store.read = 0
    copier.look()
    assert store.read == 0
    changed = store.update(first, replace(first, name="b"))
    store.revoke(second.id)
    store.set_owner_budget("ann", Budget(Decimal(1)))
    copier.look()
    assert store.read == 3
    assert knows(copy, changed)
    assert copy.key(second.id).revoked_at
    assert knows(copy, third)
    assert copy.owner_budget("ann")
    store.set_owner_budget("ann", None)
    copier.look()
    assert copy.owner_budget("ann") is None
    copier.stop()


def test_what_another_copier_had_begun_is_gone_on_with(store: KeyStore, directory: Path) -> None:
    keys = create(store, 3)
    copied(store, directory)
    keys += create(store, 3)
    inode = (directory / DATABASE).stat().st_ino
    copy = copied(store, directory)
    assert all(knows(copy, key) for key in keys)
    assert (directory / DATABASE).stat().st_ino == inode


def test_a_copy_that_is_not_whole_tells_nothing(redis: RedisServer, store: KeyStore, directory: Path) -> None:
    class EndsMidway(KeyStore):
        pages = 0

        def records(self, members: Sequence[str]) -> list[dict[str, str]]:
            self.pages += 1
            if self.pages == 2:
                raise LedgerUnavailable("gone")
            return super().records(members)

    keys = create(store, 150)
    copy = KeyCopy(directory)
    copier = KeyCopier(copy, EndsMidway(connect(redis.url, 2), Names("gateway")))
    with pytest.raises(LedgerUnavailable):
        copier.look()
    assert not knows(copy, keys[0])
    copier.look()
    assert all(knows(copy, key) for key in keys)
    copier.stop()


def test_an_emptied_redis_empties_the_copy(redis: RedisServer, store: KeyStore, directory: Path) -> None:
    (gone,) = create(store, 1)
    copy = copied(store, directory)
    assert knows(copy, gone)
    redis.wipe()
    (new,) = create(store, 1)
    copied(store, directory)
    assert knows(copy, new)
    assert not knows(copy, gone)


def test_one_copier_works_at_a_time_and_another_takes_over_where_it_is_killed(
    redis: RedisServer, store: KeyStore, directory: Path, copier: KeyCopier
) -> None:
    create(store, 1)
    command = [sys.executable, "-c", COPIER, str(directory), redis.url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"leading\n"
            assert not copier.look()
            (late,) = create(store, 1)
            assert eventually(lambda: knows(KeyCopy(directory), late))
        finally:
            other.send_signal(signal.SIGKILL)
    assert copier.look()
    (later,) = create(store, 1)
    copier.look()
    assert knows(KeyCopy(directory), later)


@pytest.mark.parametrize("damage", ["garbage", "cut", "emptied", "pages", "another's"])
def test_a_damaged_copy_is_begun_anew(
    store: KeyStore, directory: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = create(store, 200)
    copied(store, directory)
    file = directory / DATABASE
    content = file.read_bytes()
    match damage:
        case "garbage":
            file.write_bytes(os.urandom(len(content)))
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "emptied":
            file.write_bytes(b"")
        case "pages":
            file.write_bytes(content[:8192] + os.urandom(8192) + content[16384:])
        case "another's":
            with closing(sqlite3.connect(file)) as database:
                database.execute("PRAGMA user_version = 99")
    copy = KeyCopy(directory)
    assert all(not knows(copy, key) or damage in ("pages", "another's") for key in keys)  # but no error
    copied(store, directory)
    assert all(knows(copy, key) for key in keys)
    assert not (directory / DAMAGED).exists()


def test_damage_that_a_reader_finds_makes_the_copier_begin_anew(
    store: KeyStore, directory: Path, copier: KeyCopier
) -> None:
    (key,) = create(store, 1)
    copier.look()
    with closing(sqlite3.connect(directory / DATABASE)) as database, database:
        database.execute("UPDATE keys SET record = '[1'")
    reader = KeyCopy(directory)
    assert not knows(reader, key)
    copier.look()
    assert knows(reader, key)


def test_a_copy_that_somebody_removes_is_made_again(
    store: KeyStore, directory: Path, copier: KeyCopier
) -> None:
    (key,) = create(store, 1)
    copier.look()
    reader = KeyCopy(directory)
    assert knows(reader, key)
    remove_copy(directory)
    assert not knows(reader, key)
    copier.look()
    assert knows(reader, key)


@pytest.mark.parametrize("place", ["missing", "file"])
def test_without_a_place_for_it_there_is_no_copy_and_one_line_that_says_so(
    store: KeyStore, tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    (key,) = create(store, 1)
    if place == "file":
        (tmp_path / place).write_text("not a directory")
    copy = KeyCopy(tmp_path / place)
    assert not knows(copy, key)
    copier = KeyCopier(copy, store)
    for _ in range(3):
        assert copier.look_safely() > 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert not knows(copy, key)


def test_a_copy_that_a_full_disk_keeps_from_following_is_removed_until_there_is_room(
    store: KeyStore, directory: Path, copier: KeyCopier, caplog: pytest.LogCaptureFixture
) -> None:
    (key,) = create(store, 1)
    copier.look()
    reader = KeyCopy(directory)
    assert knows(reader, key)
    store.revoke(key.id)
    many = create(store, 300)
    with files_of_at_most(50_000):
        for _ in range(2):
            copier.look_safely()
            with pytest.raises(NotCopied):  # above all it does not call the key valid
                reader.key(key.id)
    copier.look_safely()
    assert reader.key(key.id).revoked_at
    assert all(knows(reader, key) for key in many)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_while_redis_is_gone_the_copy_stays_as_it_is(
    redis: RedisServer, store: KeyStore, directory: Path, copier: KeyCopier
) -> None:
    (key,) = create(store, 1)
    copier.look()
    redis.kill()
    for _ in range(3):
        assert copier.look_safely() < 1
    assert knows(KeyCopy(directory), key)


def test_a_worker_goes_on_serving_while_it_copies(
    store: KeyStore, directory: Path, copier: KeyCopier
) -> None:
    keys = create(store, 1000)
    stalls: list[float] = []

    def serve() -> None:
        while True:
            begun = time.perf_counter()
            gevent.sleep(0.001)
            stalls.append(time.perf_counter() - begun)

    serving = gevent.spawn(serve)
    copier.look()
    serving.kill()
    assert len(stalls) > 1000 // PAGE
    assert max(stalls) < LONGEST_STALL_SECONDS
    assert knows(KeyCopy(directory), keys[-1])


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
