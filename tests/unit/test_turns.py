"""Tests that share the machine take turns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.turns import turn
from tests.support.waiting import eventually

SHORTLY = 0.2


def begun(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_tests_run_side_by_side(tmp_path: Path) -> None:
    with turn(tmp_path, alone=False), turn(tmp_path, alone=False):
        pass


def test_a_test_that_must_be_alone_waits_for_others_and_those_that_come_later_wait_for_it(
    tmp_path: Path,
) -> None:
    ran: list[str] = []
    go_on = threading.Event()

    def run_alone() -> None:
        with turn(tmp_path, alone=True):
            ran.append("alone")
            assert go_on.wait(10)

    def run_later() -> None:
        with turn(tmp_path, alone=False):
            ran.append("later")

    with turn(tmp_path, alone=False):
        alone = begun(run_alone)
        assert not eventually(lambda: bool(ran), SHORTLY)
        later = begun(run_later)
        assert not eventually(lambda: bool(ran), SHORTLY)
    assert eventually(lambda: ran == ["alone"])
    assert not eventually(lambda: len(ran) > 1, SHORTLY)
    go_on.set()
    alone.join(10)
    later.join(10)
    assert ran == ["alone", "later"]
