"""Slots: never more at once than there may be, first in first out, and none is ever lost."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from decimal import Decimal

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalog import Model
from gateway.client import ClientLeft
from gateway.errors import Overloaded
from gateway.overload import ModelSlots, Slot, Slots
from gateway.prices import TokenPrice

LONG = 60.0
SOON = 0.02
MODEL = Model(
    "m", "http://m/v1", "m", None, TokenPrice(input=Decimal(1), cached_input=Decimal(1), output=Decimal(1))
)
BLOWS = [ClientLeft(), gevent.GreenletExit(), gevent.Timeout(1), OSError()]


def waiting(slots: Slots, *weights: int) -> list[gevent.Greenlet[..., Slot]]:
    """Greenlets that have come to wait, in this order."""
    greenlets = [gevent.spawn(slots.take, weight) for weight in weights or (1,)]
    gevent.sleep(0)
    return greenlets


def test_no_more_are_given_at_once_than_there_are() -> None:
    slots = Slots(2, 0, LONG)
    first = slots.take()
    slots.take()
    with pytest.raises(Overloaded):
        slots.take()
    first.free()
    slots.take()
    with pytest.raises(Overloaded):
        slots.take()
    assert slots.taken == 2


def test_a_refusal_is_a_503_that_says_when_to_come_again() -> None:
    slots = Slots(1, 0, LONG)
    held = slots.take()
    with pytest.raises(Overloaded) as refused:
        slots.check()
    error = refused.value
    assert (error.status, error.code, error.headers) == (503, "overloaded", {"Retry-After": "1"})
    held.free()
    slots.check()


def test_a_slot_that_is_freed_twice_is_one_slot() -> None:
    slots = Slots(2, 0, LONG)
    first, _second = slots.take(), slots.take()
    first.free()
    first.free()
    assert slots.taken == 1


def test_who_came_first_is_served_first_and_nobody_overtakes() -> None:
    slots = Slots(1, 10, LONG)
    held = slots.take()
    queue = waiting(slots, 1, 1, 1)
    held.free()  # before the first has woken, another comes
    (late,) = waiting(slots)
    for greenlet in [*queue, late]:
        slot = greenlet.get(timeout=1)
        assert slots.taken == 1
        slot.free()
    assert (slots.taken, slots.waiting) == (0, 0)


def test_no_more_wait_than_may_and_the_next_is_refused_at_once() -> None:
    slots = Slots(1, 2, LONG)
    held = slots.take()
    queue = waiting(slots, 1, 1)
    assert slots.is_full
    began = time.perf_counter()
    for _ in range(1000):
        with pytest.raises(Overloaded):
            slots.take()
    assert (time.perf_counter() - began) / 1000 < 0.005
    assert slots.waiting == 2
    held.free()
    queue[0].get(timeout=1).free()
    queue[1].get(timeout=1).free()
    assert not slots.is_full


@pytest.mark.parametrize("patience", [None, 0.0, LONG])
def test_who_has_waited_long_enough_is_refused_and_leaves_the_queue(patience: float | None) -> None:
    slots = Slots(1, 1, SOON)
    slots.take()
    began = time.monotonic()
    with pytest.raises(Overloaded):
        slots.take(patience=patience)
    assert (SOON if patience != 0 else 0) <= time.monotonic() - began < 1
    assert slots.waiting == 0


@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: type(blow).__name__)
@pytest.mark.parametrize("given", [False, True], ids=["waiting", "given its place, not yet woken"])
def test_who_is_struck_in_the_queue_holds_nothing(blow: BaseException, given: bool) -> None:
    slots = Slots(1, 3, LONG)
    held = slots.take()
    struck: list[BaseException] = []

    def take() -> None:
        try:
            slots.take()
        except BaseException as error:
            struck.append(error)

    unlucky = gevent.spawn(take)
    gevent.sleep(0)
    (next_one,) = waiting(slots)
    unlucky.kill(blow, block=False)
    if given:
        held.free()
    gevent.sleep(0)
    held.free()
    assert struck == [blow]
    next_one.get(timeout=1).free()
    assert (slots.taken, slots.waiting) == (0, 0)


def test_what_is_heavier_than_all_there_is_goes_alone() -> None:
    slots = Slots(10, 10, LONG)
    light = slots.take(3)
    heavy, behind = waiting(slots, 11, 1)
    assert slots.waiting == 2
    light.free()
    alone = heavy.get(timeout=1)
    assert (slots.taken, slots.waiting) == (11, 1)
    alone.free()
    behind.get(timeout=1).free()


def test_who_stands_behind_a_heavy_one_that_gives_up_is_served() -> None:
    slots = Slots(10, 10, LONG)
    slots.take(8)
    heavy = gevent.spawn(slots.take, 5, patience=SOON)
    gevent.sleep(0)
    (light,) = waiting(slots, 2)
    assert not light.ready()
    with pytest.raises(Overloaded):
        heavy.get(timeout=1)
    light.get(timeout=1)
    assert slots.taken == 10


def test_slots_without_a_bound_count_all_the_same() -> None:
    slots = Slots(None, 0, LONG)
    held = [slots.take() for _ in range(1000)]
    assert slots.taken == 1000
    slots.resize(999)
    with pytest.raises(Overloaded):
        slots.take()
    held[0].free()
    held[1].free()
    slots.take()


def test_a_bound_that_rises_lets_in_who_waits() -> None:
    slots = Slots(1, 10, LONG)
    slots.take()
    queue = waiting(slots, 1, 1, 1)
    slots.resize(3)
    gevent.sleep(0)
    assert [greenlet.ready() for greenlet in queue] == [True, True, False]


@given(
    st.integers(1, 5),
    st.integers(0, 4),
    st.lists(
        st.tuples(st.integers(1, 7), st.sampled_from(["serve", "impatient", "struck", "struck late"])),
        max_size=25,
    ),
)
def test_after_any_traffic_nothing_is_held_and_nobody_waits(
    most: int, most_waiting: int, visits: list[tuple[int, str]]
) -> None:
    slots = Slots(most, most_waiting, LONG)
    served: list[int] = []

    def visit(number: int, weight: int, how: str) -> None:
        slot = slots.take(weight, patience=0.0 if how == "impatient" else None)
        try:
            served.append(number)
            assert slots.taken <= most or slots.taken == weight
            assert slots.waiting <= most_waiting
            gevent.sleep(0.0005)
        finally:
            slot.free()

    greenlets = []
    for number, (weight, how) in enumerate(visits):
        greenlets.append(gevent.spawn(visit, number, weight, how))
        gevent.sleep(0)
        if how == "struck":
            greenlets[-1].kill(ClientLeft(), block=False)
    for greenlet, (_, how) in zip(greenlets, visits, strict=True):
        if how == "struck late":
            greenlet.kill(gevent.Timeout(1), block=False)
    gevent.joinall(greenlets, timeout=10)
    assert all(greenlet.ready() for greenlet in greenlets)
    assert all(
        isinstance(each.exception, Overloaded | ClientLeft | gevent.Timeout | None) for each in greenlets
    )
    assert served == sorted(served)
    assert (slots.taken, slots.waiting) == (0, 0)


def test_each_model_has_slots_of_its_own() -> None:
    models = ModelSlots(0, LONG)
    one, other = replace(MODEL, max_concurrency=1), replace(MODEL, name="other", max_concurrency=1)
    held = models.of(one).take()
    models.of(other).take()
    with pytest.raises(Overloaded):
        models.of(one).take()
    held.free()
    models.of(one).take()


def test_a_changed_bound_of_a_model_counts_what_it_has_in_work() -> None:
    models = ModelSlots(0, LONG)
    held = [models.of(MODEL).take() for _ in range(3)]
    with pytest.raises(Overloaded):
        models.of(replace(MODEL, max_concurrency=3)).take()
    held += [models.of(replace(MODEL, max_concurrency=4)).take()]
    assert models.of(MODEL).taken == 4


def test_models_with_nothing_in_work_are_not_remembered() -> None:
    models = ModelSlots(0, LONG)
    held = [models.of(replace(MODEL, name=f"m{number}")).take() for number in range(100)]
    assert len(models) == 100
    for slot in held:
        slot.free()
    del slot
    gc.collect()
    assert len(models) == 0
