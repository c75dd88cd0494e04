"""`make bench-keys`: what many virtual keys cost, in a Redis of their own.

Prints the time to create them, to list a page anywhere, to check one, to copy them all to disk, and what they
take of Redis's memory. CPU is that of this process alone. `python -m tests.benchmarks.keys 1000` takes fewer.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path

import gevent
import redis

from gateway.budget import Budget, Period
from gateway.keys.key_copier import KeyCopier
from gateway.keys.key_copy import KeyCopy
from gateway.keys.key_record import record_of
from gateway.keys.key_ring import KeyRing
from gateway.keys.virtual_key import VirtualKey, hash_of, new_key
from gateway.ledger.connection import connect
from gateway.ledger.key_store import KeyStore
from gateway.ledger.names import Names
from gateway.ledger.scripts import FOLDER
from tests.support.processes import redis_server

KEYS = 100_000
IN_ONE_PIPELINE = 1000
CHECKED = 10_000  # keys, all of which a worker remembers
ROUNDS = 5
PAGE = 100


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), appendonly=False) as server:
        (Path(folder) / "copy").mkdir()
        client, names = connect(server.url, 10), Names("gateway")
        store = KeyStore(client, names)

        def memory() -> int:
            return int(client.info("memory")["used_memory"])

        report("keys", f"{count:,}, each with owner, budget, limits and expiry")
        store.create("first")  # so that the script is loaded before anything is measured
        before, begun = memory(), time.perf_counter()
        texts = create(client, names, count)
        taken = time.perf_counter() - begun
        report("creating, pipelined", f"{taken:.1f} s, {count / taken:,.0f} a second")
        each = (memory() - before) / count
        hash_bytes = client.memory_usage(names.key(texts[0][3:15]))
        report("memory of Redis", f"{each:.0f} bytes a key, of which its hash {hash_bytes}")

        begun = time.perf_counter()
        for number in range(1000):
            store.create(f"single {number}")
        report("creating one by one", f"{(time.perf_counter() - begun):.2f} ms each, with its round trip")

        for place, after in (
            ("start", None),
            ("middle", texts[count // 2][3:15]),
            ("end", texts[count - PAGE - 1][3:15]),
        ):
            wall, cpu = timed(partial(store.page, after, PAGE), 50)
            report(f"page of {PAGE} at the {place}", f"{wall * 1e3:.2f} ms, {cpu * 1e3:.2f} ms CPU")
        checked = texts[:: max(1, len(texts) // CHECKED)][:CHECKED]
        ring = KeyRing(store, Budget(Decimal(1000)))
        ring.poll()
        wall, cpu = timed(lambda: [ring.tenant_of(text) for text in checked], 1)
        report("check, not remembered", each_of(wall, cpu, len(checked)))
        wall, cpu = timed(lambda: [ring.tenant_of(text) for text in checked], ROUNDS)
        report("check, remembered", each_of(wall, cpu, len(checked)))

        copy = KeyCopy(Path(folder) / "copy")
        stalls: list[float] = []
        watching = gevent.spawn(watch, stalls)
        begun, cpu_begun = time.perf_counter(), time.process_time()
        KeyCopier(copy, store).look()
        taken, cpu = time.perf_counter() - begun, time.process_time() - cpu_begun
        watching.kill()
        size = sum(file.stat().st_size for file in copy.directory.iterdir())
        report("copying all to disk", f"{taken:.1f} s, {cpu:.1f} s CPU, {size / 1e6:.0f} MB")
        stalls.sort()
        p99 = stalls[len(stalls) * 99 // 100]
        report("others wait meanwhile", f"p99 {p99 * 1e3:.1f} ms, at most {stalls[-1] * 1e3:.1f} ms")

        alone = KeyRing(store, Budget(Decimal(1000)), copy)
        alone.poll()
        server.kill()
        alone.poll()
        wall, cpu = timed(lambda: [alone.tenant_of(text) for text in checked], ROUNDS)
        report("check from the copy", each_of(wall, cpu, len(checked)))
        wall, cpu = timed(lambda: [ring.tenant_of(text) for text in checked], ROUNDS)
        report("check, remembered, no Redis", each_of(wall, cpu, len(checked)))


def typical(key_id: str, text: str, number: int) -> VirtualKey:
    """A key as an organisation has many."""
    return VirtualKey(
        id=key_id,
        name=f"application {number}",
        secret_hash=hash_of(text),
        created_at=0,
        owner=f"team {number % 1000}",
        budget=Budget(Decimal("12.50"), Period.MONTH),
        rpm=600,
        tpm=1_000_000,
        expires_at=2_000_000_000,
    )


def create(
    client: redis.Redis,
    names: Names,
    count: int,
    kind: Callable[[str, str, int], VirtualKey] = typical,
) -> list[str]:
    """Create keys by the store's own script, many in one round trip; their texts."""
    sha = str(client.script_load((FOLDER / "put_key.lua").read_text()))
    texts: list[str] = []
    while len(texts) < count:
        with client.pipeline(transaction=False) as pipeline:
            for number in range(len(texts), min(len(texts) + IN_ONE_PIPELINE, count)):
                key_id, text = new_key()
                texts.append(text)
                record = record_of(kind(key_id, text, number))
                del record["created_at"]
                flat = [part for field in record.items() for part in field]
                keys = [names.key(key_id), names.keys, names.key_changes, names.key_version]
                pipeline.evalsha(sha, len(keys), *keys, key_id, *flat)
            pipeline.execute()
    return texts


def timed(act: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Seconds and seconds of CPU that `act` takes, on average."""
    begun, cpu_begun = time.perf_counter(), time.process_time()
    for _ in range(rounds):
        act()
    return (time.perf_counter() - begun) / rounds, (time.process_time() - cpu_begun) / rounds


def each_of(wall: float, cpu: float, count: int) -> str:
    return f"{wall / count * 1e6:.1f} µs, {cpu / count * 1e6:.1f} µs CPU"


def watch(stalls: list[float]) -> None:
    """How long a greenlet that would go on at once has to wait."""
    while True:
        begun = time.perf_counter()
        gevent.sleep(0.001)
        stalls.append(time.perf_counter() - begun - 0.001)


def report(what: str, figures: str) -> None:
    print(f"{what + ':':<30}{figures}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else KEYS)
