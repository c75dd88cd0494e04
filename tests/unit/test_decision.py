"""A decision comes back from its record as it went in, and no record that is none is taken for one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.decision import Decision, UnreadableDecision, name_of
from gateway.routing.features import Features

NUMBERS = st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.6g}"))
DECISION = Decision(
    request_id="a:b/1",
    key_id="0123456789ab",
    time=1.5,
    policy="prompt_length",
    characters=12,
    score=12,
    threshold=150,
    model="cheap",
    other="dear",
    is_dear=False,
    propensity=0.98,
)


@given(
    st.builds(
        Decision,
        request_id=st.from_regex(r"[A-Za-z0-9._:/=+@-]{1,128}", fullmatch=True),
        key_id=st.none() | st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
        time=st.integers(0, 2**40).map(lambda ms: ms / 1000),
        policy=st.text(),
        characters=st.integers(0, 10**9),
        score=NUMBERS,
        threshold=NUMBERS,
        model=st.text(),
        other=st.text(),
        is_dear=st.booleans(),
        propensity=st.none() | st.floats(1e-6, 1),
        abstained=st.booleans(),
        signals=st.dictionaries(st.text(), NUMBERS, max_size=5),
        cost=st.decimals(0, 1000, places=12),
        input_tokens=st.integers(0, 10**9),
        output_tokens=st.integers(0, 10**9),
        feedback=st.none() | st.floats(0, 1),
    )
)
def test_a_decision_survives_its_record(decision: Decision) -> None:
    assert Decision.of(decision.name, decision.record(), decision.feedback) == decision


def test_requests_of_different_keys_never_share_a_name() -> None:
    assert len({name_of("a:b", None), name_of("b", "a"), name_of("a:b", "a"), name_of("b", None)}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"time": None},
        {"score": "high"},
        {"cost_usd": "much"},
        {"signals": [1]},
        {"signals": {"a": "b"}},
        {"propensity": 0},
        {"propensity": 1.5},
        {"characters": None},
    ],
    ids=str,
)
def test_what_is_no_decision_is_refused(change: dict[str, object]) -> None:
    values = json.loads(DECISION.record()) | change
    with pytest.raises(UnreadableDecision):
        Decision.of(DECISION.name, json.dumps(values), None)


@pytest.mark.parametrize("record", ["", "[]", "1", "{}", "nonsense", "null"])
def test_a_record_that_is_none_is_refused(record: str) -> None:
    with pytest.raises(UnreadableDecision):
        Decision.of(":1", record, None)


def test_signals_are_known_only_once_they_have_been_asked_for() -> None:
    features = Features(3, ["abc"])
    assert features.known_signals == {}
    assert features.signals == features.known_signals
