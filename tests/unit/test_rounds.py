"""What lasts is looked at again and again, what is over is not."""

from __future__ import annotations

import subprocess
import sys
import time

import gevent

from gateway.rounds import SECONDS_BETWEEN_ROUNDS, Rounds
from tests.support.processes import ROOT


class Looked:
    """Counts its looks, and takes itself off after so many."""

    def __init__(self, rounds: Rounds, most: int = 1000) -> None:
        self.rounds = rounds
        self.most = most
        self.looks: list[float] = []

    def look(self, now: float) -> None:
        self.looks.append(now)
        if len(self.looks) == self.most:
            self.rounds.remove(self)


def test_what_lasts_is_looked_at_on_each_round_until_it_is_removed() -> None:
    rounds = Rounds()
    lasting, once = Looked(rounds), Looked(rounds, most=1)
    rounds.add(lasting)
    rounds.add(once)
    gevent.sleep(4.5 * SECONDS_BETWEEN_ROUNDS)
    rounds.remove(lasting)
    looks = len(lasting.looks)
    assert 2 <= looks <= 4
    assert abs(lasting.looks[-1] - time.monotonic()) < 1
    assert len(once.looks) == 1
    gevent.sleep(2 * SECONDS_BETWEEN_ROUNDS)
    assert len(lasting.looks) == looks


def test_rounds_go_on_after_a_time_with_nothing_to_look_at() -> None:
    rounds = Rounds()
    for _ in range(2):
        lasting = Looked(rounds)
        rounds.add(lasting)
        gevent.sleep(1.5 * SECONDS_BETWEEN_ROUNDS)
        rounds.remove(lasting)
        assert lasting.looks
        gevent.sleep(2.5 * SECONDS_BETWEEN_ROUNDS)


def test_nothing_to_look_at_keeps_no_event_loop_going() -> None:
    program = """
import gevent
from gateway.rounds import Rounds
class Looked:
    def look(self, now): raise AssertionError
rounds, short = Rounds(), Looked()
rounds.add(short)
rounds.remove(short)
assert gevent.get_hub().join(timeout=20)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=10, cwd=ROOT)


def test_to_remove_what_is_not_there_does_nothing() -> None:
    rounds = Rounds()
    rounds.remove(Looked(rounds))
