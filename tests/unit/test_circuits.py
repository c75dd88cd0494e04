"""When models may be asked: the circuits of one worker, on a clock of the test's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from gateway.circuit import LONGEST_OPEN_SECONDS, CircuitRules, Opening
from gateway.circuits import ASK_AGAIN_SECONDS, LEAST_OF_WAIT, Circuits, Permit

MODEL = "CheapModel"
QUICK = 0.1
RULES = CircuitRules()


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class OwnBoard:
    """Keeps what it is told; others try the model where `is_taken`. `meanwhile` happens while it is asked."""

    is_taken: bool = False
    told: list[tuple[str, Opening | None]] = field(default_factory=list)
    asked: int = 0
    freed: list[str] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def start(self, circuits: Circuits, models: Callable[[], Iterable[str]]) -> None:
        raise AssertionError

    def tell(self, model: str, opening: Opening | None) -> None:
        self.told.append((model, opening))

    def take_probe(self, model: str, seconds: float) -> bool:
        self.asked += 1
        self.meanwhile()
        return not self.is_taken

    def free_probe(self, model: str) -> None:
        self.freed.append(model)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board() -> OwnBoard:
    return OwnBoard()


@pytest.fixture
def circuits(board: OwnBoard, clock: Clock) -> Circuits:
    return Circuits(RULES, board, clock)


def permitted(circuits: Circuits, model: str = MODEL) -> Permit:
    permit = circuits.permit(model)
    assert permit is not None
    return permit


def fail(circuits: Circuits, times: int, model: str = MODEL) -> None:
    for _ in range(times):
        permitted(circuits, model).failed()


def succeed(circuits: Circuits, times: int) -> None:
    for _ in range(times):
        permitted(circuits).succeeded(QUICK)


def half_open(circuits: Circuits, clock: Clock) -> None:
    """Open the circuit, and wait until it may be tried again."""
    fail(circuits, RULES.failures)
    clock.now += circuits.retry_after(MODEL)
    assert circuits.state(MODEL) == "half_open"


def test_it_opens_after_so_many_failures_in_a_row_and_refuses(circuits: Circuits) -> None:
    fail(circuits, RULES.failures - 1)
    assert circuits.state(MODEL) == "closed"
    fail(circuits, 1)
    assert circuits.state(MODEL) == "open"
    assert circuits.permit(MODEL) is None


def test_a_success_begins_the_row_anew(circuits: Circuits) -> None:
    for _ in range(5):
        succeed(circuits, RULES.failures)
        fail(circuits, RULES.failures - 1)
    assert circuits.state(MODEL) == "closed"


@pytest.mark.parametrize(("failures", "state"), [(10, "closed"), (11, "open")])
def test_it_opens_when_more_than_the_share_of_twenty_has_failed(
    circuits: Circuits, failures: int, state: str
) -> None:
    permits = [permitted(circuits) for _ in range(20 + failures - 10)]
    successes = len(permits) - failures
    for number, permit in enumerate(permits):
        # The failures one by one between the successes, the rest at the end.
        if number % 2 and number // 2 < successes:
            permit.succeeded(QUICK)
        else:
            permit.failed()
    assert circuits.state(MODEL) == state


def test_a_rate_of_fewer_than_twenty_says_nothing(circuits: Circuits) -> None:
    for _ in range(6):
        fail(circuits, 2)
        succeed(circuits, 1)
    fail(circuits, 1)
    assert circuits.state(MODEL) == "closed"
    fail(circuits, 1)  # the twentieth
    assert circuits.state(MODEL) == "open"


@pytest.mark.parametrize(("seconds", "state"), [(9, "open"), (10, "closed")])
def test_what_is_older_than_the_window_is_forgotten(
    circuits: Circuits, clock: Clock, seconds: int, state: str
) -> None:
    for _ in range(9):
        succeed(circuits, 1)
        fail(circuits, 1)
    clock.now += seconds
    fail(circuits, 2)
    assert circuits.state(MODEL) == state


def test_a_share_of_a_hundred_percent_leaves_only_failures_in_a_row(clock: Clock) -> None:
    circuits = Circuits(CircuitRules(error_percent=100, failures=30), None, clock)
    fail(circuits, 29)
    assert circuits.state(MODEL) == "closed"


def test_a_slow_answer_counts_as_a_failure(circuits: Circuits) -> None:
    for _ in range(RULES.failures):
        permitted(circuits).succeeded(RULES.slow_seconds + 0.1)
    assert circuits.state(MODEL) == "open"


def test_a_model_may_have_its_own_bound_for_slow(circuits: Circuits) -> None:
    for _ in range(RULES.failures):
        permit = circuits.permit(MODEL, slow_seconds=5)
        assert permit is not None
        permit.succeeded(4.9)
    assert circuits.state(MODEL) == "closed"
    for _ in range(RULES.failures):
        permit = circuits.permit(MODEL, slow_seconds=5)
        assert permit is not None
        permit.succeeded(5.1)
    assert circuits.state(MODEL) == "open"


def test_only_the_first_end_of_a_permit_counts(circuits: Circuits) -> None:
    permits = [permitted(circuits) for _ in range(RULES.failures)]
    for permit in permits:
        permit.abandoned()
        permit.failed()
    assert circuits.state(MODEL) == "closed"
    one = permitted(circuits)
    for _ in range(RULES.failures):
        one.failed()
    assert circuits.state(MODEL) == "closed"


def test_abandoned_requests_say_nothing(circuits: Circuits) -> None:
    fail(circuits, RULES.failures - 1)
    for _ in range(100):
        permitted(circuits).abandoned()
    assert circuits.state(MODEL) == "closed"
    fail(circuits, 1)
    assert circuits.state(MODEL) == "open"


def test_models_have_circuits_of_their_own(circuits: Circuits) -> None:
    fail(circuits, RULES.failures, "a")
    assert permitted(circuits, "b")
    assert circuits.states() == {"a": "open", "b": "closed"}
    assert circuits.state("never asked") == "closed"
    assert circuits.retry_after("never asked") == circuits.retry_after("b") == 0


def test_it_stays_open_for_twice_as_long_with_every_probe_that_fails(
    circuits: Circuits, clock: Clock
) -> None:
    fail(circuits, RULES.failures)
    for expected in (2, 4, 8, 16, 30, 30, 30):
        wait = circuits.retry_after(MODEL)
        assert expected * LEAST_OF_WAIT <= wait <= expected <= LONGEST_OPEN_SECONDS
        clock.now += wait - 0.001
        assert circuits.permit(MODEL) is None
        clock.now += 0.002
        permitted(circuits).failed()
        assert circuits.state(MODEL) == "open"


def test_circuits_do_not_all_wait_equally_long(clock: Clock) -> None:
    waits = set()
    for _ in range(20):
        circuits = Circuits(RULES, None, clock)
        fail(circuits, RULES.failures)
        waits.add(circuits.retry_after(MODEL))
    assert len(waits) > 10


def test_a_setting_longer_than_the_longest_wait_holds(clock: Clock) -> None:
    circuits = Circuits(CircuitRules(open_seconds=100), None, clock)
    fail(circuits, RULES.failures)
    assert 100 * LEAST_OF_WAIT <= circuits.retry_after(MODEL) <= 100


def test_half_open_lets_one_request_try_and_its_success_closes(circuits: Circuits, clock: Clock) -> None:
    half_open(circuits, clock)
    probe = permitted(circuits)
    assert [circuits.permit(MODEL) for _ in range(5)] == [None] * 5
    assert circuits.retry_after(MODEL) == 0
    probe.succeeded(QUICK)
    assert circuits.state(MODEL) == "closed"
    fail(circuits, RULES.failures - 1)  # counted from zero
    assert circuits.state(MODEL) == "closed"
    fail(circuits, 1)
    assert circuits.retry_after(MODEL) <= RULES.open_seconds


def test_a_slow_probe_has_failed(circuits: Circuits, clock: Clock) -> None:
    half_open(circuits, clock)
    permitted(circuits).succeeded(RULES.slow_seconds + 1)
    assert circuits.state(MODEL) == "open"


def test_an_abandoned_probe_makes_room_for_the_next_request(
    circuits: Circuits, board: OwnBoard, clock: Clock
) -> None:
    half_open(circuits, clock)
    permitted(circuits).abandoned()
    assert board.freed == [MODEL]
    assert circuits.state(MODEL) == "half_open"
    permitted(circuits).succeeded(QUICK)
    assert circuits.state(MODEL) == "closed"


def test_a_probe_that_never_ends_keeps_others_away_for_a_while_only(circuits: Circuits, clock: Clock) -> None:
    half_open(circuits, clock)
    lost = permitted(circuits)
    clock.now += RULES.slow_seconds - 0.001
    assert circuits.permit(MODEL) is None
    clock.now += 0.002
    probe = permitted(circuits)
    lost.failed()
    assert circuits.state(MODEL) == "half_open"
    probe.succeeded(QUICK)
    assert circuits.state(MODEL) == "closed"


def test_results_of_requests_that_began_before_it_opened_change_nothing(
    circuits: Circuits, board: OwnBoard, clock: Clock
) -> None:
    early = [permitted(circuits) for _ in range(40)]
    fail(circuits, RULES.failures)
    wait = circuits.retry_after(MODEL)
    for permit in early[:10]:
        permit.succeeded(QUICK)
    for permit in early[10:20]:
        permit.failed()
    assert (circuits.state(MODEL), circuits.retry_after(MODEL)) == ("open", wait)
    clock.now += wait
    probe = permitted(circuits)
    for permit in early[20:30]:
        permit.failed()
    assert circuits.state(MODEL) == "half_open"
    probe.succeeded(QUICK)
    for permit in early[30:]:
        permit.failed()
    assert circuits.state(MODEL) == "closed"
    assert len(board.told) == 2


def test_a_worker_tells_the_others_what_it_has_found_and_nothing_else(
    circuits: Circuits, board: OwnBoard, clock: Clock
) -> None:
    half_open(circuits, clock)
    permitted(circuits).failed()
    clock.now += circuits.retry_after(MODEL)
    permitted(circuits).succeeded(QUICK)
    circuits.adopt(MODEL, Opening("another", clock.now + 1))
    circuits.adopt(MODEL, None)
    opened, again, closed = board.told
    assert [model for model, _ in board.told] == [MODEL] * 3
    assert (opened[1] and opened[1].failed_probes, again[1] and again[1].failed_probes) == (0, 1)
    assert closed[1] is None


def test_while_another_worker_tries_the_model_it_is_asked_for_leave_now_and_then(
    circuits: Circuits, board: OwnBoard, clock: Clock
) -> None:
    half_open(circuits, clock)
    board.is_taken = True
    assert [circuits.permit(MODEL) for _ in range(50)] == [None] * 50
    assert board.asked == 1
    clock.now += ASK_AGAIN_SECONDS
    assert circuits.permit(MODEL) is None
    assert board.asked == 2
    board.is_taken = False
    clock.now += ASK_AGAIN_SECONDS
    assert permitted(circuits)


def test_while_leave_is_asked_for_no_other_request_gets_it(
    circuits: Circuits, board: OwnBoard, clock: Clock
) -> None:
    half_open(circuits, clock)
    others: list[Permit | None] = []
    board.meanwhile = lambda: others.append(circuits.permit(MODEL))
    assert permitted(circuits)
    assert others == [None]


def test_of_two_that_ask_for_long_only_one_gets_leave(
    circuits: Circuits, board: OwnBoard, clock: Clock
) -> None:
    half_open(circuits, clock)
    others: list[Permit | None] = []

    def ask_late() -> None:
        board.meanwhile = lambda: None
        clock.now += 2 * ASK_AGAIN_SECONDS
        others.append(circuits.permit(MODEL))

    board.meanwhile = ask_late
    assert [circuits.permit(MODEL), *others].count(None) == 1


def test_a_circuit_that_has_closed_while_leave_was_asked_for_lets_the_request_through(
    circuits: Circuits, board: OwnBoard, clock: Clock
) -> None:
    half_open(circuits, clock)
    board.meanwhile = lambda: circuits.adopt(MODEL, None)
    permitted(circuits).failed()
    assert circuits.state(MODEL) == "closed"  # so it was no probe
    assert board.freed == [MODEL]


def test_a_circuit_that_has_opened_again_while_leave_was_asked_for_refuses(
    circuits: Circuits, board: OwnBoard, clock: Clock
) -> None:
    half_open(circuits, clock)
    board.meanwhile = lambda: circuits.adopt(MODEL, Opening("another", clock.now + 4, 1))
    assert circuits.permit(MODEL) is None
    assert circuits.retry_after(MODEL) == 4


def test_what_another_worker_tells_holds_here(circuits: Circuits, clock: Clock) -> None:
    early = permitted(circuits)
    circuits.adopt(MODEL, Opening("another", clock.now + 3, 2))
    assert circuits.permit(MODEL) is None
    assert circuits.retry_after(MODEL) == 3
    early.failed()
    clock.now += 3
    permitted(circuits).failed()
    assert 16 * LEAST_OF_WAIT <= circuits.retry_after(MODEL) <= 16
    circuits.adopt(MODEL, None)
    assert permitted(circuits)


def test_hearing_of_the_same_opening_again_changes_nothing(circuits: Circuits, clock: Clock) -> None:
    opening = Opening("another", clock.now + 3)
    circuits.adopt(MODEL, opening)
    clock.now += 3
    probe = permitted(circuits)
    circuits.adopt(MODEL, Opening("another", clock.now + 3))
    assert circuits.state(MODEL) == "half_open"
    probe.succeeded(QUICK)
    assert circuits.state(MODEL) == "closed"


def test_however_many_failed_probes_are_told_of_the_wait_has_an_end(circuits: Circuits, clock: Clock) -> None:
    circuits.adopt(MODEL, Opening("another", clock.now, 10**9))
    permitted(circuits).failed()
    assert circuits.retry_after(MODEL) <= LONGEST_OPEN_SECONDS


def test_models_that_have_left_the_catalog_are_forgotten(circuits: Circuits, board: OwnBoard) -> None:
    late = [permitted(circuits) for _ in range(RULES.failures)]
    fail(circuits, 1, "kept")
    circuits.keep_only(["kept", "new"])
    assert circuits.states() == {"kept": "closed"}
    for permit in late:
        permit.failed()
    assert circuits.states() == {"kept": "closed"}
    assert board.told == []


def test_switched_off_it_lets_everything_through(board: OwnBoard, clock: Clock) -> None:
    circuits = Circuits(CircuitRules(is_on=False), board, clock)
    circuits.start(lambda: [MODEL])
    fail(circuits, 100)
    assert circuits.state(MODEL) == "closed"
    assert (board.told, board.asked) == ([], 0)


def test_only_changes_are_logged_each_in_one_line(
    circuits: Circuits, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        half_open(circuits, clock)
        clock.now -= 0.01
        for _ in range(100):
            assert circuits.permit(MODEL) is None
        clock.now += 0.01
        probe = permitted(circuits)
        for _ in range(100):
            assert circuits.permit(MODEL) is None
        probe.succeeded(QUICK)
    lines = [(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records]
    assert lines == [
        ("WARNING", "a circuit has opened"),
        ("INFO", "a circuit is half-open"),
        ("WARNING", "a circuit has closed"),
    ]
    assert {record.__dict__["model"] for record in caplog.records} == {MODEL}
