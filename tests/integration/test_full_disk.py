"""The disk for the journal is full: what is served is not lost, and what could be lost is not served."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import GatewayUnderTest
from tests.support.agreement import assert_totals_agree, books_of
from tests.support.load import run_load
from tests.support.own_stack import own_gateway
from tests.support.processes import RedisServer
from tests.support.traffic import chat_body, meanwhile, run_traffic
from tests.support.waiting import eventually

DISK_BYTES = 2**20
UNWRITABLE = "journal_unwritable"
AWAY = "ledger_unavailable"


@dataclass(frozen=True)
class Disk:
    """A file system of its own, which can be filled to its last byte."""

    folder: Path

    def fill(self) -> None:
        """Leave no room; what was about to be written meanwhile may have found some."""
        for _ in range(20):
            with (self.folder / "filler").open("ab", buffering=0) as filler:
                for size in (65536, 4096, 512, 1):
                    try:
                        while filler.write(b"x" * size):
                            pass
                    except OSError:
                        continue
            time.sleep(0.02)

    def empty(self) -> None:
        (self.folder / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("no file system may be mounted here")
    yield Disk(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def gateway(
    model_urls: dict[str, str], own_redis: RedisServer, disk: Disk, tmp_path: Path
) -> Iterator[GatewayUnderTest]:
    with own_gateway(tmp_path, model_urls, own_redis, JOURNAL_DIR=str(disk.folder)) as gateway:
        yield gateway


def reasons_of(gateway: GatewayUnderTest) -> set[str]:
    """The codes of what one worker says that is not as it should be."""
    answer = requests.get(f"{gateway.gateway_url}/readyz", timeout=5)
    assert answer.ok == (answer.json()["reasons"] == [])
    return {reason.partition(":")[0] for reason in answer.json()["reasons"]}


def all_reasons(gateway: GatewayUnderTest) -> set[str]:
    """What some dozen looks find, which spread over the workers."""
    return set().union(*(reasons_of(gateway) for _ in range(12)))


def test_with_a_full_disk_redis_alone_keeps_the_count(gateway: GatewayUnderTest, disk: Disk) -> None:
    before = books_of(gateway)

    def fill() -> None:
        time.sleep(1)
        disk.fill()

    with meanwhile(fill):
        result = run_traffic(gateway.gateway_url, seconds=6, retry=None)
    print(result)

    assert [each for each in result.outcomes if not each.whole] == []
    assert all_reasons(gateway) == {UNWRITABLE}
    assert_totals_agree(gateway, before, within_seconds=20)

    disk.empty()
    assert [gateway.post(chat_body(number)).status_code for number in range(12)] == [200] * 12
    assert all_reasons(gateway) == set()
    assert_totals_agree(gateway, before, within_seconds=20)


def test_with_a_full_disk_and_no_redis_nothing_is_begun_and_what_was_is_counted(
    gateway: GatewayUnderTest, own_redis: RedisServer, disk: Disk
) -> None:
    before = books_of(gateway)
    run_traffic(gateway.gateway_url, seconds=1, retry=None)  # so that each worker has served
    own_redis.kill()
    # Journaled alone, and in work while the disk fills.
    long_answers = [{"model": "ExpensiveModel", "messages": written(800), "stream": True}] * 48
    with ThreadPoolExecutor(len(long_answers)) as clients:
        in_work = [clients.submit(lambda body: gateway.post(body).text, body) for body in long_answers]
        time.sleep(0.7)
        disk.fill()
        assert eventually(lambda: all(AWAY in reasons_of(gateway) for _ in range(12)))
        ask_for_the_last_of_each_block(gateway)
        billed = books_of_models(gateway)
        refused = run_load([gateway.gateway_url], clients=8, requests=80, body=chat_body, request_seconds=5)
        assert books_of_models(gateway) == billed, "a call was made that could not be counted"
        told = [each.result() for each in in_work]
    print(refused)

    assert refused.statuses == {503: 80}
    assert refused.codes == {"ledger_unavailable": 80}
    assert max(each.seconds for each in refused.outcomes) < 0.5
    assert all_reasons(gateway) == {UNWRITABLE, AWAY}
    # There was room for some of them in what was left of the last blocks.
    unsafe = sum("ledger_unavailable" in text and "[DONE]" not in text for text in told)
    print(f"{unsafe} of {len(told)} answers in work were told that they may be lost yet")
    assert unsafe > 0

    own_redis.start()
    assert_totals_agree(gateway, before, within_seconds=20)
    assert eventually(lambda: gateway.post(chat_body(0)).status_code == 200)
    assert all_reasons(gateway) == {UNWRITABLE}
    disk.empty()
    assert [gateway.post(chat_body(number)).status_code for number in range(12)] == [200] * 12
    assert all_reasons(gateway) == set()
    assert_totals_agree(gateway, before, within_seconds=20)


def ask_for_the_last_of_each_block(gateway: GatewayUnderTest) -> None:
    """On a full disk each journal can still be appended to up to the end of its last block."""
    run_load([gateway.gateway_url], clients=16, requests=200, body=chat_body)


def written(tokens: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"[[write {tokens} tokens]]"}]


def books_of_models(gateway: GatewayUnderTest) -> list[int]:
    return [gateway.billed(model).calls for model in gateway.model_urls]
