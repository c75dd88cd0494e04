"""Circuits in Redis, where all workers and replicas see them, and the channel that tells of changes.

A model's key holds its circuit while that is open or half-open, and lives for `KEPT_SECONDS` longer than the
circuit is open: the time that it has left says how long that still is, on nobody's clock. Each change is one
transaction that writes the key and tells the channel, so that all workers learn of changes in the same order.

Without Redis each worker goes by what it sees itself. The last change that it could not tell is told when
Redis is back; of other models it takes over what is known there.
"""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import gevent
import redis
from redis.client import PubSub

from gateway.circuit import Opening
from gateway.errors import LedgerUnavailable
from gateway.ledger.connection import translating_errors
from gateway.ledger.names import Names
from gateway.ledger.scripts import Script

if TYPE_CHECKING:
    from gateway.circuits import Circuits

# Longer than a half-open model waits for a request that tries it, as a rule; then it counts as closed.
KEPT_SECONDS = 600.0
# No circuit is open for longer, whatever Redis holds.
MOST_SECONDS = 3600.0
PROBE_LEASE_SECONDS = 4.0
TICK_SECONDS = 1.0
# The channel is quiet for days: a lost connection would not be noticed.
CHECK_EVERY_SECONDS = 5.0
TRY_AGAIN_SECONDS = 0.5
# A request waits for it.
PATIENCE_SECONDS = 0.005

logger = logging.getLogger(__name__)


class CircuitBoard:
    """One worker's way to what all workers know. `patience` is how long a request that would try a model
    waits for Redis, and `lease` how long it outlives this worker, in seconds."""

    def __init__(
        self,
        client: redis.Redis,
        names: Names,
        *,
        patience: float = PATIENCE_SECONDS,
        lease: float = PROBE_LEASE_SECONDS,
    ) -> None:
        self._redis = client
        self._names = names
        self._patience = patience
        self._lease_ms = round(lease * 1000)
        self._hold_probe = Script(client, "hold_probe")
        self._worker = uuid.uuid4().hex
        self._circuits: Circuits | None = None
        self._models: Callable[[], Iterable[str]] = tuple
        self._untold: dict[str, Opening | None] = {}
        self._freed: set[str] = set()
        self._held: dict[str, float] = {}  # probes of this worker: until when at most
        self._is_telling = False
        self._is_away = False

    def start(self, circuits: Circuits, models: Callable[[], Iterable[str]]) -> None:
        """See `Circuits.start`."""
        self.attach(circuits, models)
        gevent.spawn(self._run)

    def attach(self, circuits: Circuits, models: Callable[[], Iterable[str]]) -> None:
        """Give what Redis knows of these models to these circuits from now on, when it is looked at."""
        self._circuits, self._models = circuits, models

    def tell(self, model: str, opening: Opening | None) -> None:
        """See `Board.tell`."""
        self._held.pop(model, None)
        self._untold[model] = opening
        self._tell_soon()

    def take_probe(self, model: str, seconds: float) -> bool:
        """See `Board.take_probe`. Where Redis does not answer at once, each worker may send one."""
        if self._is_away:
            return True
        probe = self._names.probe(model)
        try:
            with translating_errors(self._patience):
                taken = bool(self._redis.set(probe, self._worker, nx=True, px=self._lease_ms))
        except LedgerUnavailable:
            taken = True  # and Redis may have noted it
        if taken:
            self._held[model] = time.monotonic() + seconds
        return taken

    def free_probe(self, model: str) -> None:
        """See `Board.free_probe`."""
        if self._held.pop(model, None) is not None:
            self._freed.add(model)
            self._tell_soon()

    def tell_all(self) -> None:
        """Give Redis what it has not been told yet.

        :raises LedgerUnavailable: where it may not have got all; it is told again
        """
        while self._freed:
            model = self._freed.pop()  # once: it lapses by itself
            with translating_errors():
                self._hold_probe([self._names.probe(model)], [self._worker, 0])
        while self._untold:
            model, opening = next(iter(self._untold.items()))
            with translating_errors():
                self._write(model, opening)
            if self._untold[model] is opening:  # and has not changed again
                del self._untold[model]

    def follow(self) -> None:
        """Take over what the others have told, then what they tell, until the connection breaks.

        :raises LedgerUnavailable: always, in the end
        """
        with translating_errors(), closing(self._channel()) as channel:
            channel.subscribe(self._names.circuits)
            if channel.get_message(timeout=TICK_SECONDS) is None:
                raise redis.TimeoutError("no subscription")
            self.look()
            self._set_away(None)
            self._listen(channel)

    def look(self) -> None:
        """Take over how the circuits are according to Redis, except for those that it is told of just now.

        :raises LedgerUnavailable: when it cannot be asked
        """
        circuits = self._circuits
        if circuits is None:
            return
        models = list(self._models())
        before = {model: circuits.generation(model) for model in models}
        with translating_errors(), self._redis.pipeline(transaction=True) as pipeline:
            for model in models:
                pipeline.get(self._names.circuit(model))
                pipeline.pttl(self._names.circuit(model))
            answers = pipeline.execute()
        for model, text, milliseconds in zip(models, answers[::2], answers[1::2], strict=True):
            # What has changed here meanwhile is newer than the answer.
            if model not in self._untold and before[model] == circuits.generation(model):
                circuits.adopt(model, _opening(text, milliseconds / 1000 - KEPT_SECONDS))

    def _channel(self) -> PubSub:
        channel: PubSub = self._redis.pubsub()  # type: ignore[no-untyped-call]
        return channel

    def _write(self, model: str, opening: Opening | None) -> None:
        key = self._names.circuit(model)
        seconds = 0.0 if opening is None else max(0.0, opening.until - time.monotonic())
        with self._redis.pipeline(transaction=True) as pipeline:
            if opening is None:
                text = None
                pipeline.delete(key)
            else:
                text = json.dumps({"id": opening.id, "failed_probes": opening.failed_probes})
                pipeline.set(key, text, px=round((seconds + KEPT_SECONDS) * 1000))
            pipeline.delete(self._names.probe(model))
            message = {"model": model, "opening": text, "seconds": round(seconds, 3)}
            pipeline.publish(self._names.circuits, json.dumps(message))
            pipeline.execute()

    def _listen(self, channel: PubSub) -> None:
        checked = heard = time.monotonic()
        while True:
            message = channel.get_message(timeout=TICK_SECONDS)
            now = time.monotonic()
            if message is not None:
                heard = now
                self._set_away(None)
                if message["type"] == "message":
                    self._take(message["data"])
            if now - checked >= (TICK_SECONDS if self._is_away else CHECK_EVERY_SECONDS):
                if heard < checked:
                    raise redis.TimeoutError("the channel is silent")
                checked = now
                channel.subscribe(self._names.circuits)  # which is confirmed each time
                if self._circuits is not None:
                    self._circuits.keep_only(self._models())
            self._renew_probes(now)

    def _take(self, text: str) -> None:
        try:
            message: dict[str, Any] = json.loads(text)
            model, seconds = str(message["model"]), float(message["seconds"])
            opening = _opening(message["opening"], seconds)
        except (ValueError, TypeError, LookupError):
            logger.warning("what was told of circuits cannot be read")
            return
        # What this worker has not told yet is told after this, and holds for all.
        if model not in self._untold and self._circuits is not None:
            self._circuits.adopt(model, opening)

    def _renew_probes(self, now: float) -> None:
        for model, ends in list(self._held.items()):
            probe = self._names.probe(model)
            if ends < now or not self._hold_probe([probe], [self._worker, self._lease_ms]):
                self._held.pop(model, None)

    def _tell_soon(self) -> None:
        if not self._is_telling:
            self._is_telling = True
            gevent.spawn(self._tell)

    def _tell(self) -> None:
        try:
            while self._untold or self._freed:
                try:
                    self.tell_all()
                except LedgerUnavailable as error:
                    self._set_away(error)
                    gevent.sleep(TRY_AGAIN_SECONDS)
        finally:
            self._is_telling = False

    def _run(self) -> None:
        while True:
            try:
                self.follow()
            except LedgerUnavailable as error:
                self._set_away(error)
            except Exception:
                logger.exception("following the circuits failed")
            gevent.sleep(TRY_AGAIN_SECONDS * random.uniform(1, 2))  # noqa: S311 - only spreads them

    def _set_away(self, error: LedgerUnavailable | None) -> None:
        """Take note that Redis has failed, or that it answers."""
        was_away, self._is_away = self._is_away, error is not None
        if error is not None and not was_away:
            cause = type(error.__cause__ or error).__name__  # its text may hold addresses
            logger.warning("Redis tells nothing of circuits; each worker has its own", extra={"cause": cause})
        elif error is None and was_away:
            logger.info("Redis tells of circuits again")


def _opening(text: str | None, seconds: float) -> Opening | None:
    """How a circuit is open that stays so for as many seconds; None where it is closed."""
    with suppress(ValueError, TypeError, LookupError):
        found: dict[str, Any] = json.loads(text or "")
        until = time.monotonic() + min(max(seconds, 0.0), MOST_SECONDS)
        return Opening(str(found["id"]), until, max(0, int(found["failed_probes"])))
    return None
