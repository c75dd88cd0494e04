"""Bounded work: so much at a time and no more, past it a short queue, past that `Overloaded`.

gevent's own semaphores let any number wait, and whoever comes while one is being woken takes its place. Here
a place is handed on before its next holder wakes, in the order in which they came, and one that is struck
while it waits gives its place back.
"""

from __future__ import annotations

from collections import deque
from weakref import WeakValueDictionary

from gevent.event import Event

from gateway.catalog import Model
from gateway.errors import Overloaded

WORK_FULL = "The gateway has as much in work as it can take; ask again."
MODEL_FULL = "The model has as many requests in work as it may have; ask again."


class Slot:
    """A place that is held until it is freed."""

    __slots__ = ("_slots", "weight")

    def __init__(self, slots: Slots, weight: int) -> None:
        self._slots: Slots | None = slots
        self.weight = weight

    def free(self) -> None:
        """Give the place to whoever waits first. May be called again."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._freed(self.weight)


class Slots:
    """At most `most` of weight at a time, without a bound for None; what is heavier than that goes alone.

    At most `most_waiting` wait, each for at most `patience` seconds. For greenlets, not for threads.
    """

    def __init__(
        self, most: int | None, most_waiting: int, patience: float, refusal: str = WORK_FULL
    ) -> None:
        self._most = most
        self._most_waiting = most_waiting
        self._patience = patience
        self._refusal = refusal
        self._taken = 0
        self._queue: deque[_Waiter] = deque()

    @property
    def taken(self) -> int:
        """The weight of all that is held."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether one more, however light, would be refused without being let wait."""
        return len(self._queue) >= self._most_waiting and not self._has_room(1)

    def check(self) -> None:
        """Refuse at once what would be refused later, before anything is done for it.

        :raises Overloaded: when all is taken and the queue is full
        """
        if self.is_full:
            raise Overloaded(self._refusal)

    def take_at_once(self) -> Slot | None:
        """A place, where one is free."""
        return self._given(1) if self._has_room(1) else None

    def take(self, weight: int = 1, *, patience: float | None = None) -> Slot:
        """A place, after a wait of at most `patience` seconds, by default the usual ones. Who is struck while
        it waits, by whatever exception, holds nothing.

        :raises Overloaded: when the queue is full, or the wait was too long
        """
        if self._has_room(weight):
            return self._given(weight)
        if len(self._queue) >= self._most_waiting:
            raise Overloaded(self._refusal)
        waiter = _Waiter(weight)
        self._queue.append(waiter)
        try:
            waiter.woken.wait(self._patience if patience is None else min(patience, self._patience))
        except BaseException:
            self._leave(waiter)
            raise
        if waiter.slot is None:
            self._leave(waiter)
            raise Overloaded(self._refusal)
        return waiter.slot

    def resize(self, most: int | None) -> None:
        """Another bound from now on. What is held stays held."""
        if most != self._most:
            self._most = most
            self._hand_on()

    def _has_room(self, weight: int) -> bool:
        return not self._queue and self._fits(weight)

    def _fits(self, weight: int) -> bool:
        return self._most is None or self._taken == 0 or self._taken + weight <= self._most

    def _given(self, weight: int) -> Slot:
        self._taken += weight
        return Slot(self, weight)

    def _freed(self, weight: int) -> None:
        self._taken -= weight
        if self._queue:
            self._hand_on()

    def _hand_on(self) -> None:
        while self._queue and self._fits(self._queue[0].weight):
            waiter = self._queue.popleft()
            waiter.slot = self._given(waiter.weight)
            waiter.woken.set()

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.slot is not None:
            waiter.slot.free()
        else:
            self._queue.remove(waiter)
            self._hand_on()  # a lighter one may have stood behind it


class _Waiter:
    """Who stands in the queue, and the slot that it gets."""

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.woken = Event()
        self.slot: Slot | None = None


class ModelSlots:
    """The slots of each model: as many as its `max_concurrency`, in this worker.

    Those of a model live for as long as somebody holds or refers to them, so that no model that has left the
    catalog is remembered.
    """

    def __init__(self, most_waiting: int, patience: float) -> None:
        self._most_waiting = most_waiting
        self._patience = patience
        self._slots: WeakValueDictionary[str, Slots] = WeakValueDictionary()

    def of(self, model: Model) -> Slots:
        """Those of this model, bounded as the catalog that it comes from says."""
        slots = self._slots.get(model.name)
        if slots is None:
            slots = Slots(model.max_concurrency, self._most_waiting, self._patience, MODEL_FULL)
            self._slots[model.name] = slots
        slots.resize(model.max_concurrency)
        return slots

    def __len__(self) -> int:
        """Of how many models something is in work."""
        return len(self._slots)
