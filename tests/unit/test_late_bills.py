"""The bill of a call that broke off is found out later, whatever happens to who asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import gevent
import pytest
from gevent.event import Event

from gateway.billing import Usage
from gateway.client import ClientLeft
from gateway.ledger import late_bills
from gateway.ledger.entry import Entry
from gateway.ledger.journal import Record
from gateway.ledger.late_bills import LateBills
from gateway.ledger.recovery import FoundBill
from gateway.ledger.reservation import Call, Reservation
from gateway.model_call import HedgeLost

ESTIMATE = Entry("CheapModel", False, True, Usage(14, 0, 9, estimated=True), Decimal("0.000005"), Decimal(0))
BILL = replace(ESTIMATE, usage=Usage(14, 0, 4), cost=Decimal("0.000003"))
SETTLED = replace(BILL, failed=False)  # as the failure has been counted


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_bills, "FIRST_LOOK_SECONDS", 0.005)
    monkeypatch.setattr(late_bills, "LOOK_EVERY_SECONDS", 0.01)


class Provider:
    """Says what a call cost once it may, and is asked for nothing before that is noticed."""

    def __init__(self) -> None:
        self.tells, self.asked = Event(), Event()
        self.settled: list[Entry] = []

    def bill_of(self, call: str, record: Record) -> FoundBill:
        self.asked.set()
        self.tells.wait()
        return FoundBill(BILL, stated=True)

    def settle(self, reservation: Reservation, entry: Entry) -> None:
        if not reservation.is_over:  # as in a ledger, only the first time counts
            self.settled.append(entry)
        reservation.is_over = True


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.tells.set()


@pytest.fixture
def bills(provider: Provider) -> LateBills:
    return LateBills(provider.bill_of, provider.settle)


def reservation() -> Reservation:
    return Reservation(Call("CheapModel", "ExpensiveModel", 14))


@pytest.mark.parametrize(
    "strikes", [HedgeLost, gevent.GreenletExit, ClientLeft], ids=["lost", "stop", "left"]
)
def test_a_call_whose_waiter_is_struck_is_settled_by_its_bill_all_the_same(
    provider: Provider, bills: LateBills, strikes: type[BaseException]
) -> None:
    struck: list[BaseException] = []

    def expect() -> None:
        try:
            bills.expect(reservation(), ESTIMATE, patience=5)
        except BaseException as error:
            struck.append(error)

    waiting = gevent.spawn(expect)
    assert provider.asked.wait(1)
    waiting.kill(strikes)
    assert struck
    assert provider.settled == []

    provider.tells.set()
    bills.finish(1)
    assert provider.settled == [SETTLED]


def test_a_bill_that_comes_in_time_is_given_back_and_no_more_awaited(
    provider: Provider, bills: LateBills
) -> None:
    provider.tells.set()
    assert bills.expect(reservation(), ESTIMATE, patience=1) == BILL
    bills.finish(0)
    assert provider.settled == [SETTLED]


def test_a_bill_that_does_not_come_in_time_is_settled_when_it_does(
    provider: Provider, bills: LateBills
) -> None:
    assert bills.expect(reservation(), ESTIMATE, patience=0.01) is None
    assert provider.settled == []

    provider.tells.set()
    bills.finish(1)
    assert provider.settled == [SETTLED]


def test_a_bill_that_nobody_waits_for_is_looked_for_later(provider: Provider, bills: LateBills) -> None:
    provider.tells.set()
    assert bills.expect(reservation(), ESTIMATE, patience=0) is None
    assert provider.settled == []
    bills.finish(1)
    assert provider.settled == [SETTLED]


def test_a_provider_that_says_nothing_keeps_no_bill_of_another_waiting(provider: Provider) -> None:
    silent = Event()

    def bill_of(call: str, record: Record) -> FoundBill:
        if record["model"] == "ExpensiveModel":
            silent.wait()
        return FoundBill(BILL, stated=True)

    bills = LateBills(bill_of, provider.settle)
    hanging = Reservation(Call("ExpensiveModel", "ExpensiveModel", 14))
    assert bills.expect(hanging, ESTIMATE, patience=0) is None
    gevent.sleep(0.01)  # and it is being asked for
    assert bills.expect(reservation(), ESTIMATE, patience=0) is None

    bills.finish(0.1)
    assert provider.settled == [SETTLED]
    silent.set()
    bills.finish(1)
    assert provider.settled == [SETTLED] * 2


def test_one_that_others_look_for_too_while_it_is_waited_for_is_settled_once(
    provider: Provider, bills: LateBills
) -> None:
    assert bills.expect(reservation(), ESTIMATE, patience=0) is None  # and somebody looks from now on
    waiting = gevent.spawn(bills.expect, reservation(), ESTIMATE, 1)
    gevent.sleep(0.02)

    provider.tells.set()
    assert waiting.get(timeout=1) == BILL
    bills.finish(1)
    assert provider.settled == [SETTLED] * 2
