"""The header that makes a mock fail."""

import socket

import pytest

from model_server.errors import InvalidRequest
from model_server.faults import MAX_COUNTED_HEADERS, NO_FAULT, Fault, Faults, Kind, parse_fault
from model_server.wire import client_has_left


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("status=503", Fault(Kind.STATUS, status=503)),
        ("status=429,retry_after=2", Fault(Kind.STATUS, status=429, retry_after=2)),
        ("retry_after=3", Fault(Kind.STATUS, status=429, retry_after=3)),
        ("connect_reset", Fault(Kind.RESET)),
        ("stall_before_first_byte", Fault(Kind.STALL_FIRST, stall_seconds=300)),
        ("stall_midstream=1.5", Fault(Kind.STALL_MIDSTREAM, stall_seconds=1.5)),
        (
            " cut_midstream ; probability = 0.5 ; count=3 ; id=a b",
            Fault(Kind.CUT_MIDSTREAM, probability=0.5, count=3),
        ),
        ("cut_before_content,count=1", Fault(Kind.CUT_BEFORE_CONTENT, count=1)),
        ("malformed_json,p=1", Fault(Kind.MALFORMED_JSON)),
        ("no_usage,slow=1,count=2", Fault(Kind.NO_USAGE, slow_seconds=1, count=2)),
        ("status=503,model=CheapModel", Fault(Kind.STATUS, status=503, model="CheapModel")),
        ("slow=0.25,status=500", Fault(Kind.STATUS, status=500, slow_seconds=0.25)),
    ],
)
def test_a_fault_is_read(header: str, fault: Fault) -> None:
    assert parse_fault(header) == fault


@pytest.mark.parametrize(
    "header",
    [
        "explode",
        "status",
        "status=200",
        "status=600",
        "status=5e2",
        "status=٥٠٣",
        "slow=-1",
        "slow=nan",
        "slow=1e9",
        "stall_midstream=x",
        "connect_reset=1",
        "count=-1",
        "probability=2",
        "id",
        "model",
        "model=",
        "retry_after=1,cut_midstream",
        "status=500,connect_reset",
        "no_usage=1",
        "no_usage,cut_midstream",
        "status=500,,",
        "none",
    ],
)
def test_an_ill_formed_fault_is_refused_by_name(header: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_fault(header)
    assert refused.value.param == "X-Mock-Fault"


def test_an_unknown_item_is_quoted() -> None:
    with pytest.raises(InvalidRequest, match="'explode=7'"):
        parse_fault("slow=1,explode=7")


def test_no_header_is_no_fault() -> None:
    faults = Faults(random=lambda: 0.0)
    assert faults.draw(None) is NO_FAULT
    assert faults.draw("  ") is NO_FAULT


def test_a_probability_is_obeyed() -> None:
    numbers = iter([0.29, 0.31])
    faults = Faults(random=lambda: next(numbers))
    drawn = [faults.draw("status=500,p=0.3").kind for _ in range(2)]
    assert drawn == [Kind.STATUS, Kind.NONE]


def test_probability_zero_never_fails_and_one_always() -> None:
    assert Faults(random=lambda: 0.0).draw("status=500,p=0") is NO_FAULT
    assert Faults(random=lambda: 0.999999).draw("status=500,p=1").kind is Kind.STATUS


def test_a_count_bounds_the_failures_of_each_header_value() -> None:
    faults = Faults(random=lambda: 0.0)
    first = [faults.draw("status=500,count=2,id=a").kind for _ in range(4)]
    assert first == [Kind.STATUS, Kind.STATUS, Kind.NONE, Kind.NONE]
    assert faults.draw("status=500,count=2,id=b").kind is Kind.STATUS


def test_a_fault_of_one_model_does_not_happen_at_another_and_is_not_counted_there() -> None:
    header = "status=500,model=CheapModel,count=1"
    cheap, expensive = (Faults(lambda: 0.0, name) for name in ("CheapModel", "ExpensiveModel"))
    assert [expensive.draw(header).kind for _ in range(2)] == [Kind.NONE, Kind.NONE]
    assert [cheap.draw(header).kind for _ in range(2)] == [Kind.STATUS, Kind.NONE]


def test_a_standing_fault_is_that_of_requests_without_one_of_their_own() -> None:
    faults = Faults(random=lambda: 0.0)
    faults.stand("status=500")
    drawn = [faults.draw(header).kind for header in (None, " ", "no_usage", "id=none")]
    assert drawn == [Kind.STATUS, Kind.STATUS, Kind.NO_USAGE, Kind.NONE]
    faults.end_standing()
    assert faults.draw(None) is NO_FAULT


def test_a_standing_faults_count_begins_anew_when_it_is_set_again() -> None:
    faults = Faults(random=lambda: 0.0)
    for _ in range(2):
        faults.stand("status=500,count=1")
        assert [faults.draw(None).kind for _ in range(2)] == [Kind.STATUS, Kind.NONE]


def test_a_standing_faults_probability_is_obeyed() -> None:
    numbers = iter([0.29, 0.31])
    faults = Faults(random=lambda: next(numbers))
    faults.stand("connect_reset,p=0.3")
    assert [faults.draw(None).kind for _ in range(2)] == [Kind.RESET, Kind.NONE]


def test_an_ill_formed_standing_fault_leaves_the_one_that_stands() -> None:
    faults = Faults(random=lambda: 0.0)
    faults.stand("status=500")
    with pytest.raises(InvalidRequest):
        faults.stand("explode")
    assert faults.draw(None).kind is Kind.STATUS


def test_the_memory_for_counts_is_bounded() -> None:
    faults = Faults(random=lambda: 0.0)
    for i in range(MAX_COUNTED_HEADERS + 10):
        faults.draw(f"status=500,count=1,id={i}")
    assert len(faults._seen) == MAX_COUNTED_HEADERS


def test_a_client_that_left_is_noticed_without_taking_its_bytes() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not client_has_left(ours)
        theirs.sendall(b"x")
        assert not client_has_left(ours)
        assert ours.recv(1) == b"x"
        assert ours.gettimeout() is None
        theirs.close()
        assert client_has_left(ours)
