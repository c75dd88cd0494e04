"""Sums of what calls add to the counters are exact, and the same in the journal and on the way to Redis."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gateway.billing import Usage
from gateway.ledger.entry import Entry, tally_of
from gateway.ledger.names import Names
from gateway.ledger.tally import Tally, sum_of

NAMES = Names("gateway")
FIRST_PLACE = 3  # of the keys behind those that every script call has
KEYS = st.sampled_from(["a", "b", "c"])
FIELDS = st.sampled_from([None, "x", "y"])
USD = st.decimals(Decimal("-1000000"), Decimal("1000000"), places=12)


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    tally = Tally()
    for key, of, amount in draw(st.lists(st.tuples(KEYS, FIELDS, st.integers(-(2**40), 2**40)))):
        tally.count(f"count-{key}", amount, of=of)
    for key, of, usd in draw(st.lists(st.tuples(KEYS, FIELDS, USD))):
        tally.charge(f"cost-{key}", usd, of=of)
    for key, time in draw(st.lists(st.tuples(KEYS, st.integers(1, 2**40)))):
        tally.expire(key, time)
    for key in draw(st.lists(KEYS)):
        tally.free(f"holds-{key}", f"budget-{key}", "call:0.5", "0.5")
        tally.drop(f"holds-{key}", f"budget-{key}", "call")
        tally.void(f"void-{key}", 60)
        tally.correct_tokens(f"rate-{key}", 7, -3)
    return tally


def run(tally: Tally) -> tuple[dict[object, Decimal], list[object]]:
    """What the script would do: each counter's increment, and all other acts in their order."""
    keys, acts = tally.script_input()
    increments: dict[object, Decimal] = defaultdict(Decimal)
    others: list[object] = []
    for name, *arguments in json.loads(json.dumps(acts)):
        if "incrby" not in name:
            others.append((name, *(named(keys, each) for each in arguments)))
            continue
        place, *of, amount = arguments
        assert len(of) == name.startswith("h")
        assert isinstance(amount, str)
        assert "E" not in amount.upper()
        increments[keys[place - FIRST_PLACE], *of] += Decimal(amount)
    return {place: amount for place, amount in increments.items() if amount}, others


def named(keys: list[str], argument: object) -> object:
    return keys[argument - FIRST_PLACE] if isinstance(argument, int) else argument


@given(st.lists(tallies(), max_size=5))
def test_a_sum_does_what_all_of_its_parts_do(parts: list[Tally]) -> None:
    increments: dict[object, Decimal] = defaultdict(Decimal)
    acts: list[object] = []
    expiries: dict[object, object] = {}
    for part in parts:
        added, others = run(part)
        for place, amount in added.items():
            increments[place] += amount
        for act in others:
            assert isinstance(act, tuple)
            if act[0] == "expireat":
                expiries[act[1]] = act
            else:
                acts.append(act)
    total, others = run(sum_of(parts))
    assert total == {place: amount for place, amount in increments.items() if amount}
    assert [act for act in others if act not in expiries.values()] == acts
    assert {act for act in others if act in expiries.values()} == set(expiries.values())


@given(tallies())
def test_the_journal_gives_back_what_it_was_given(tally: Tally) -> None:
    kept = Tally.from_json(json.loads(json.dumps(tally.to_json())))
    assert run(kept) == run(tally)
    assert kept.to_json() == tally.to_json()


@given(st.lists(tallies(), max_size=5))
def test_summing_changes_none_of_the_parts(parts: list[Tally]) -> None:
    before = [json.dumps(part.to_json()) for part in parts]
    total = sum_of(parts)
    total.count("count-a", 1)
    total.void("more", 1)
    total.expire("a", 1)
    assert [json.dumps(part.to_json()) for part in parts] == before


@given(tallies())
def test_each_key_is_named_once(tally: Tally) -> None:
    keys, acts = tally.script_input()
    assert len(keys) == len(set(keys))
    places = {each for act in acts for each in act if isinstance(each, int)}
    assert places == set(range(FIRST_PLACE, FIRST_PLACE + len(keys)))


def test_nothing_is_nothing() -> None:
    assert Tally().script_input() == ([], [])
    assert sum_of([]).script_input() == ([], [])


def test_money_keeps_all_of_its_digits() -> None:
    tally = Tally()
    for _ in range(3):
        tally.charge("cost", Decimal("0.000000000001"))
    tally.charge("cost", Decimal("123456789"))
    tally.charge("spent", Decimal("1E-7"), of="field")
    assert tally.script_input() == (
        ["cost", "spent"],
        [["incrbyfloat", 3, "123456789.000000000003"], ["hincrbyfloat", 4, "field", "0.0000001"]],
    )


ENTRY = Entry(
    model="CheapModel",
    answered=True,
    failed=False,
    usage=Usage(10, 4, 20),
    cost=Decimal("0.003"),
    baseline_cost=Decimal("0.03"),
)


def counters(tally: Tally) -> dict[str, Decimal]:
    """What is added to each counter, by its name and field without the prefix."""
    increments, others = run(tally)
    assert others == []
    found = {}
    for place, amount in increments.items():
        assert isinstance(place, tuple)
        found["/".join(place).removeprefix("gateway:")] = amount
    return found


def test_an_answer_counts_in_all_and_for_its_model() -> None:
    assert counters(tally_of(ENTRY, NAMES)) == {
        "requests": 1,
        "cost_usd": Decimal("0.003"),
        "baseline_cost_usd": Decimal("0.03"),
        "model:CheapModel:requests": 1,
        "model:CheapModel:input_tokens": 10,
        "model:CheapModel:cached_input_tokens": 4,
        "model:CheapModel:output_tokens": 20,
        "model:CheapModel:cost_usd": Decimal("0.003"),
    }


def test_a_key_has_an_account_of_its_own() -> None:
    added = counters(tally_of(ENTRY, NAMES, "abc")).items() - counters(tally_of(ENTRY, NAMES)).items()
    assert dict(added) == {
        "key:abc:usage/requests": 1,
        "key:abc:usage/input_tokens": 10,
        "key:abc:usage/cached_input_tokens": 4,
        "key:abc:usage/output_tokens": 20,
        "key:abc:usage/cost_usd": Decimal("0.003"),
    }


def test_a_failure_is_no_request_and_estimates_are_counted_apart() -> None:
    failed = Entry("CheapModel", False, True, Usage(10, 0, 0, estimated=True), Decimal("0.001"), Decimal(0))
    assert counters(tally_of(failed, NAMES, "abc")) == {
        "cost_usd": Decimal("0.001"),
        "model:CheapModel:errors": 1,
        "model:CheapModel:input_tokens": 10,
        "model:CheapModel:cost_usd": Decimal("0.001"),
        "model:CheapModel:estimated_calls": 1,
        "model:CheapModel:estimated_cost_usd": Decimal("0.001"),
        "key:abc:usage/input_tokens": 10,
        "key:abc:usage/cost_usd": Decimal("0.001"),
    }
