"""Whatever happens in whatever order, a circuit does what a plain list of outcomes would have it do."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.circuit import LEAST_REQUESTS, WINDOW_SECONDS, CircuitRules, Opening, Outcomes
from gateway.circuits import ASK_AGAIN_SECONDS, LEAST_OF_WAIT, Circuits, Permit
from tests.unit.test_circuits import MODEL, Clock, OwnBoard

RULES = CircuitRules(failures=12, error_percent=30, slow_seconds=8, open_seconds=2)
ENDS = ("succeeded", "slow", "failed", "abandoned")


@dataclass(eq=False)
class Asked:
    """A request that was let through, and what the circuit was then."""

    permit: Permit
    change: int
    is_over: bool = False


class CircuitStates(RuleBasedStateMachine):
    """Against a model that keeps every outcome since the last change."""

    asked = Bundle("asked")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.board = OwnBoard()
        self.circuits = Circuits(RULES, self.board, self.clock)
        self.changes = 0
        self.outcomes: list[tuple[float, bool]] = []
        self.is_open = False
        self.until = 0.0
        self.failed_probes = 0
        self.probe: Asked | None = None
        self.probe_until = 0.0
        self.refused_until = 0.0
        self.told = 0

    @rule(target=asked)
    def ask(self) -> Asked | None:
        now = self.clock()
        permit = self.circuits.permit(MODEL)
        if self.is_open:
            refused = now < max(self.until, self.probe_until, self.refused_until)
            if not refused and self.board.is_taken:
                refused, self.refused_until = True, now + ASK_AGAIN_SECONDS
            assert (permit is None) == refused
        else:
            assert permit is not None
        if permit is None:
            return None
        asked = Asked(permit, self.changes)
        if self.is_open:
            self.probe, self.probe_until = asked, now + RULES.slow_seconds
        return asked

    @rule(asked=asked, end=st.sampled_from(ENDS))
    def end(self, asked: Asked | None, end: str) -> None:
        if asked is None:
            return
        if end in ("succeeded", "slow"):
            asked.permit.succeeded(RULES.slow_seconds + (end == "slow"))
        else:
            getattr(asked.permit, end)()
        self.ended(asked, end)

    @rule(failures=st.lists(st.booleans(), max_size=30) | st.integers(1, 15).map(lambda many: [True] * many))
    def many_ask_one_by_one(self, failures: list[bool]) -> None:
        for failed in failures:
            self.end(self.ask(), "failed" if failed else "succeeded")

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 2.5, 9.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(is_taken=st.booleans())
    def others_try(self, is_taken: bool) -> None:
        self.board.is_taken = is_taken

    @rule(seconds=st.sampled_from([0.0, 1.0, 40.0]), failed_probes=st.integers(0, 6))
    def others_tell_that_it_opened(self, seconds: float, failed_probes: int) -> None:
        self.circuits.adopt(MODEL, Opening(f"{self.changes}", self.clock() + seconds, failed_probes))
        self.changed(is_open=True, until=self.clock() + seconds, failed_probes=failed_probes)

    @rule()
    def others_tell_that_it_closed(self) -> None:
        self.circuits.adopt(MODEL, None)
        if self.is_open:
            self.changed(is_open=False)

    @invariant()
    def the_state_is_the_models(self) -> None:
        state = "closed"
        if self.is_open:
            state = "open" if self.clock() < self.until else "half_open"
        assert self.circuits.state(MODEL) == state
        assert self.circuits.retry_after(MODEL) == (
            max(0.0, self.until - self.clock()) if self.is_open else 0
        )

    @invariant()
    def others_are_told_of_what_was_found_here(self) -> None:
        assert len(self.board.told) == self.told

    def ended(self, asked: Asked, end: str) -> None:
        counts = not asked.is_over and asked.change == self.changes
        asked.is_over = True
        if counts and self.is_open and asked is self.probe:
            self.end_probe(end)
        elif counts and not self.is_open and end != "abandoned":
            self.outcomes.append((self.clock(), end != "succeeded"))
            if end != "succeeded" and self.has_to_open():
                self.opened_here(0)

    def has_to_open(self) -> bool:
        in_a_row = [failed for _, failed in self.outcomes[-RULES.failures :]]
        if len(in_a_row) == RULES.failures and all(in_a_row):
            return True
        since = int(self.clock()) - WINDOW_SECONDS
        recent = [failed for at, failed in self.outcomes if int(at) > since]
        return len(recent) >= LEAST_REQUESTS and sum(recent) / len(recent) > RULES.error_percent / 100

    def end_probe(self, end: str) -> None:
        if end == "abandoned":
            self.probe, self.probe_until, self.refused_until = None, 0.0, 0.0
        elif end == "succeeded":
            self.told += 1
            self.changed(is_open=False)
        else:
            self.opened_here(self.failed_probes + 1)

    def opened_here(self, failed_probes: int) -> None:
        self.told += 1
        wait = self.circuits.retry_after(MODEL)
        longest = min(RULES.open_seconds * 2**failed_probes, 30)
        assert LEAST_OF_WAIT * longest - 1e-6 <= wait <= longest + 1e-6
        model, opening = self.board.told[-1]
        assert opening is not None
        assert (model, opening.failed_probes) == (MODEL, failed_probes)
        self.changed(is_open=True, until=opening.until, failed_probes=failed_probes)

    def changed(self, *, is_open: bool, until: float = 0.0, failed_probes: int = 0) -> None:
        self.changes += 1
        self.is_open, self.until, self.failed_probes = is_open, until, failed_probes
        self.outcomes = []
        self.probe, self.probe_until, self.refused_until = None, 0.0, 0.0


TestCircuitStates = CircuitStates.TestCase


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0, 4.0, 9.0, 25.0]), st.booleans())))
def test_the_window_holds_what_happened_in_the_last_ten_seconds(waits: list[tuple[float, bool]]) -> None:
    clock, outcomes = Clock(), Outcomes()
    known: list[tuple[float, bool]] = []
    for seconds, failed in waits:
        clock.now += seconds
        outcomes.add(clock.now, failed=failed)
        known.append((clock.now, failed))
        recent = [failed for at, failed in known if int(at) > int(clock.now) - WINDOW_SECONDS]
        assert (outcomes.total, outcomes.failed) == (len(recent), sum(recent))
