"""The circuit breaker: which models this worker may ask now.

Permits are decided from this worker's memory; only the one that would try a model again asks the board, and
so Redis, whether another worker is trying it already. The board tells the other workers of changes.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.circuit import Cause, Circuit, CircuitRules, Opening, State

# All workers open for as long, so that they would otherwise try again at the same moment.
LEAST_OF_WAIT = 0.8
# How soon a worker asks again whether the model may be tried, when another one is trying it.
ASK_AGAIN_SECONDS = 0.25

logger = logging.getLogger(__name__)


class Board(Protocol):
    """Where workers tell each other of their circuits. Only `take_probe` may wait, for milliseconds."""

    def start(self, circuits: Circuits, models: Callable[[], Iterable[str]]) -> None: ...

    def tell(self, model: str, opening: Opening | None) -> None:
        """Tell all that the model's circuit has opened, or closed."""

    def take_probe(self, model: str, seconds: float) -> bool:
        """Whether this worker may send the one request that tries the model, for so many seconds."""

    def free_probe(self, model: str) -> None:
        """Let others try the model."""


class NoBoard:
    """For a worker on its own."""

    def start(self, circuits: Circuits, models: Callable[[], Iterable[str]]) -> None:
        pass

    def tell(self, model: str, opening: Opening | None) -> None:
        pass

    def take_probe(self, model: str, seconds: float) -> bool:
        return True

    def free_probe(self, model: str) -> None:
        pass


class Permit:
    """Leave to ask a model on behalf of one request, its retries included. The first of `succeeded`, `failed`
    and `abandoned` counts; what comes after it does nothing."""

    __slots__ = ("_circuit", "_circuits", "_generation", "_is_over", "_slow_seconds")

    def __init__(self, circuits: Circuits, circuit: Circuit, slow_seconds: float) -> None:
        self._circuits = circuits
        self._circuit = circuit
        self._generation = circuit.generation
        self._slow_seconds = slow_seconds
        self._is_over = False

    def succeeded(self, seconds_to_first_byte: float) -> None:
        """The model has answered; had it taken too long, it has failed all the same."""
        self._end(failed=seconds_to_first_byte > self._slow_seconds)

    def failed(self) -> None:
        """The model has failed, and what was retried did too."""
        self._end(failed=True)

    def abandoned(self) -> None:
        """It ended in a way that says nothing about the model, such as a client that has left."""
        self._end(failed=None)

    def _end(self, failed: bool | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._circuits.ended(self, self._circuit, self._generation, failed)


class Circuits:
    """The circuits of all models as one worker knows them. `clock` gives seconds that never go back."""

    def __init__(
        self,
        rules: CircuitRules,
        board: Board | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._board = board or NoBoard()
        self._clock = clock
        self._circuits: dict[str, Circuit] = {}

    def start(self, models: Callable[[], Iterable[str]]) -> None:
        """Follow what other workers tell from now on, in a greenlet of this worker. `models` gives the names
        in the catalog at any time; others are forgotten."""
        if self._rules.is_on:
            self._board.start(self, models)

    def permit(self, model: str, slow_seconds: float | None = None) -> Permit | None:
        """Leave to ask the model, to be ended by one of the permit's methods; None while its circuit is open.
        `slow_seconds` is this model's own bound for the first byte."""
        circuit = self._circuits.get(model)
        if circuit is None:
            circuit = self._circuits[model] = Circuit(model, self._rules)
        slow_seconds = slow_seconds or self._rules.slow_seconds
        if circuit.opening is None:
            return Permit(self, circuit, slow_seconds)
        now = self._clock()
        if now < circuit.opening.until or now < circuit.next_probe:
            return None
        return self._probe(circuit, slow_seconds, now)

    def retry_after(self, model: str) -> float:
        """Seconds until the model may be tried again; 0 where it may be now, or is being tried."""
        circuit = self._circuits.get(model)
        return 0.0 if circuit is None else circuit.retry_after(self._clock())

    def state(self, model: str) -> State:
        circuit = self._circuits.get(model)
        return "closed" if circuit is None else circuit.state(self._clock())

    def states(self) -> dict[str, State]:
        """The state by the name of each model that has been asked for, or told of, so far."""
        now = self._clock()
        return {model: circuit.state(now) for model, circuit in self._circuits.items()}

    def generation(self, model: str) -> int:
        """Another number after each change of the model's circuit."""
        circuit = self._circuits.get(model)
        return -1 if circuit is None else circuit.generation

    def keep_only(self, models: Iterable[str]) -> None:
        """Forget the models that are none of these; permits of theirs still under way count for nothing."""
        kept = set(models)
        for model in [model for model in self._circuits if model not in kept]:
            del self._circuits[model]

    def adopt(self, model: str, opening: Opening | None) -> None:
        """Take over what another worker has told: that the circuit is open or closed (None)."""
        circuit = self._circuits.get(model)
        if circuit is None:
            circuit = self._circuits[model] = Circuit(model, self._rules)
        known = circuit.opening
        if opening is None:
            if known is not None:
                circuit.close()
                logger.info("a circuit has closed, as another worker tells", extra={"model": model})
        elif known is None or known.id != opening.id:
            circuit.open(opening)
            facts = {"model": model, "failed_probes": opening.failed_probes}
            logger.info("a circuit has opened, as another worker tells", extra=facts)

    def ended(self, permit: Permit, circuit: Circuit, generation: int, failed: bool | None) -> None:
        """A permit's end; `failed` is None where it says nothing."""
        if generation != circuit.generation or self._circuits.get(circuit.model) is not circuit:
            return
        if circuit.opening is None:
            cause = None if failed is None else circuit.count(self._clock(), failed=failed)
            if cause is not None and self._rules.is_on:
                self._open(circuit, 0, cause)
        elif circuit.probe is permit:
            if failed is None:
                circuit.probe, circuit.next_probe = None, 0.0
                self._board.free_probe(circuit.model)
            elif failed:
                self._open(circuit, circuit.opening.failed_probes + 1, "probe_failed")
            else:
                self._close(circuit)

    def _probe(self, circuit: Circuit, slow_seconds: float, now: float) -> Permit | None:
        generation, probe = circuit.generation, circuit.probe
        # Set first: while Redis is asked other requests come by.
        circuit.next_probe = now + ASK_AGAIN_SECONDS
        if not self._board.take_probe(circuit.model, slow_seconds) or circuit.probe not in (probe, None):
            return None
        if circuit.generation != generation:
            # It was told meanwhile how another worker's try went.
            self._board.free_probe(circuit.model)
            return Permit(self, circuit, slow_seconds) if circuit.opening is None else None
        circuit.probe = permit = Permit(self, circuit, slow_seconds)
        # A request that never ends must not keep all others away for ever.
        circuit.next_probe = now + slow_seconds
        logger.info("a circuit is half-open: one request tries the model", extra={"model": circuit.model})
        return permit

    def _open(self, circuit: Circuit, failed_probes: int, cause: Cause) -> None:
        seconds = self._rules.open_for(failed_probes) * random.uniform(LEAST_OF_WAIT, 1)  # noqa: S311 - only spreads them
        opening = Opening(uuid.uuid4().hex, self._clock() + seconds, failed_probes)
        circuit.open(opening)
        facts = {"model": circuit.model, "cause": cause, "seconds": round(seconds, 3)}
        logger.warning("a circuit has opened", extra=facts)
        self._board.tell(circuit.model, opening)

    def _close(self, circuit: Circuit) -> None:
        circuit.close()
        logger.warning("a circuit has closed: the model answers again", extra={"model": circuit.model})
        self._board.tell(circuit.model, None)
