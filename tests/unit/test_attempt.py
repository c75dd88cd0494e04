"""What is told and billed of one call of a model."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.attempt import Attempt
from gateway.billing import NO_USAGE, Usage
from gateway.catalog import Model
from gateway.ledger.entry import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservation import Call, Reservation
from gateway.router import Route
from tests.support.fakes import CHEAP, EXPENSIVE, FakeLedger

USAGE = Usage(14, 0, 9)
ASKABLE = replace(CHEAP, bill_path="/ledger/{call_id}")


class AskingLedger(FakeLedger):
    """Keeps apart what is to be settled by a bill."""

    def __init__(self, known: Entry | None = None) -> None:
        super().__init__([])
        self.known = known
        self.awaited: list[Entry] = []

    def settle_when_known(
        self, reservation: Reservation, estimate: Entry, patience: float = 0
    ) -> Entry | None:
        self.awaited.append(estimate)
        return self.known


def attempt(model: Model = CHEAP, most: str = "0.001") -> Attempt:
    call = Call(model.name, EXPENSIVE.name, 14, most=Decimal(most))
    return Attempt(Route(model, "prompt_length", "short", EXPENSIVE), Reservation(call))


def test_only_the_first_word_of_how_it_ended_counts() -> None:
    this = attempt()
    this.end(503)
    seconds = this.seconds
    this.end(200, "upstream_error")
    assert (this.status, this.error, this.seconds) == (503, None, seconds)


def test_it_is_told_as_a_member_of_a_list_of_structured_fields() -> None:
    this = attempt()
    assert this.told == "CheapModel"
    this.end(502, "upstream_error")
    this.seconds = 0.01234
    assert this.told == "CheapModel;status=502;error=upstream_error;duration_ms=12.3"
    this.charge(USAGE)
    this.is_hedge = True
    assert this.told == "CheapModel;status=502;error=upstream_error;duration_ms=12.3;cost_usd=0.000005;hedge"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gpt-5-mini", "gpt-5-mini"),
        ("openai/gpt-5:free", "openai/gpt-5:free"),
        ("4o", '"4o"'),
        ("a@b", '"a@b"'),
    ],
)
def test_a_name_that_is_no_token_is_quoted(name: str, told: str) -> None:
    assert attempt(replace(CHEAP, name=name)).told == told


def test_the_log_has_its_call_and_says_so_where_the_cost_is_not_known_yet() -> None:
    this = attempt()
    assert this.log_fields() == {
        "model": "CheapModel",
        "status": None,
        "duration_ms": None,
        "cost_usd": None,
        "call": this.reservation.call.id if this.reservation else "",
    }
    this.end(200)
    this.charge(USAGE)
    assert this.log_fields()["cost_usd"] == "0.000005"


def test_it_is_settled_as_an_answer_at_the_baselines_price() -> None:
    ledger = AskingLedger()
    this = attempt()
    this.settle(ledger, USAGE, answered=True, failed=False)
    (entry,) = ledger.entries
    assert this.recorded
    assert (entry.cost, entry.baseline_cost) == (Decimal("0.000005"), Decimal("0.000059"))
    assert (entry.model, entry.answered, entry.failed, entry.usage) == ("CheapModel", True, False, USAGE)


def test_what_was_no_answer_saves_nothing() -> None:
    ledger = AskingLedger()
    attempt().settle(ledger, USAGE, answered=False, failed=True)
    (entry,) = ledger.entries
    assert (entry.cost, entry.baseline_cost) == (Decimal("0.000005"), Decimal(0))


def test_a_price_that_changes_meanwhile_changes_no_charge() -> None:
    this = attempt()
    assert this.charge(USAGE) == Decimal("0.000005")
    this.route = replace(this.route, model=EXPENSIVE)
    assert this.charge(USAGE) == Decimal("0.000005")
    assert this.charge(Usage(14, 0, 10)) == Decimal("0.000064")


@pytest.mark.parametrize("model", [CHEAP, ASKABLE], ids=["cannot be asked", "can be asked"])
def test_a_bill_is_awaited_where_its_provider_can_be_asked(model: Model) -> None:
    ledger = AskingLedger()
    this = attempt(model)
    this.end(504, "upstream_timeout")
    this.settle_by_bill(ledger, USAGE, answered=False, failed=True)
    assert this.recorded
    assert this.bill_awaited == (model is ASKABLE)
    assert [len(ledger.entries), len(ledger.awaited)] == ([0, 1] if model is ASKABLE else [1, 0])
    assert ("cost_usd" in this.told) == (model is CHEAP)
    assert this.log_fields()["cost_usd"] == (None if model is ASKABLE else "0.000005")


def test_a_bill_that_is_known_at_once_is_what_it_has_cost() -> None:
    bill = Entry("CheapModel", False, True, Usage(14, 0, 4), Decimal("0.000003"), Decimal(0))
    this = attempt(ASKABLE)
    this.settle_by_bill(AskingLedger(bill), USAGE, answered=False, failed=True)
    assert not this.bill_awaited
    assert (this.usage, this.cost, this.most) == (bill.usage, bill.cost, bill.cost)


def test_what_it_has_cost_at_most_is_all_that_was_reserved_while_its_bill_is_awaited() -> None:
    ledger: Ledger = AskingLedger()
    settled, awaited = attempt(), attempt(ASKABLE)
    settled.settle_by_bill(ledger, USAGE, answered=False, failed=True)
    awaited.settle_by_bill(ledger, USAGE, answered=False, failed=True)
    assert settled.most == Decimal("0.000005")
    assert awaited.most == Decimal("0.001")


def test_what_it_has_cost_at_most_is_all_that_was_reserved_where_nobody_will_ever_say() -> None:
    this = attempt()
    this.bill_unknown = True
    this.settle(AskingLedger(), NO_USAGE, answered=False, failed=True)
    assert (this.cost, this.most) == (Decimal(0), Decimal("0.001"))
