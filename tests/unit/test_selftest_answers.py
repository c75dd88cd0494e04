"""What the self-test makes of what it sees."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from selftest.answers import Answer, Attempt, attempts_of
from selftest.books import Books, difference_between
from selftest.mock import Bill
from selftest.workers import is_gateway_command

STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}
JSON = {"Content-Type": "application/json"}
DELTA = b'data: {"choices": [{"delta": {"content": "Par"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"delta": {"content": "is"}, "finish_reason": "stop"}]}\n\n'
ERROR = b'data: {"error": {"message": "x", "type": "y", "param": null, "code": "z"}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"choices": [{"message": {"content": "Paris"}}]}'


def answer(body: bytes, headers: dict[str, str], status: int = 200, **rest: Any) -> Answer:
    return Answer(status, headers, [(0.1, body)], **rest)


@pytest.mark.parametrize("body", [DELTA + LAST + DONE, DELTA + DONE, DELTA + LAST])
def test_a_stream_with_its_end_looks_whole(body: bytes) -> None:
    assert answer(body, STREAM).looks_whole


@pytest.mark.parametrize("body", [b"", DELTA, DELTA + ERROR, DELTA + LAST + ERROR, b"data: {\n\n"])
def test_a_stream_without_its_end_or_with_an_error_does_not(body: bytes) -> None:
    assert not answer(body, STREAM).looks_whole
    assert not answer(body + DONE, STREAM, broken=True).looks_whole


def test_a_plain_answer_looks_whole_where_it_has_choices() -> None:
    assert answer(WHOLE, JSON).looks_whole
    assert not answer(WHOLE[:-2], JSON).looks_whole
    assert not answer(b"{}", JSON).looks_whole
    assert not answer(WHOLE, JSON, status=502).looks_whole


def test_the_text_is_put_together() -> None:
    assert answer(DELTA + LAST + DONE, STREAM).text == answer(WHOLE, JSON).text == "Paris"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"detail": "x"}', JSON),
        (b'{"error": "x"}', JSON),
        (b'{"error": {"message": "x", "type": "y", "code": "z"}}', JSON),
        (b'{"error": {"message": "", "type": "y", "param": null, "code": "z"}}', JSON),
        (ERROR.removeprefix(b"data: "), {"Content-Type": "text/html"}),
    ],
)
def test_another_shape_is_no_error_of_openais(body: bytes, headers: dict[str, str]) -> None:
    assert answer(body, headers, 502).error is None


def test_openais_error_is_one() -> None:
    assert answer(ERROR.removeprefix(b"data: "), JSON, 502).code == "502 z"
    assert answer(DELTA + ERROR, STREAM).code == "200 z"


def test_attempts_are_read_from_the_header() -> None:
    header = "CheapModel;status=503;duration_ms=2.1;cost_usd=0, ExpensiveModel;status=200;cost_usd=0.00018"
    assert attempts_of(header) == [
        Attempt("CheapModel", "503", Decimal(0)),
        Attempt("ExpensiveModel", "200", Decimal("0.00018")),
    ]
    assert attempts_of("2") == attempts_of("") == attempts_of("CheapModel") == []


def books(counted: Bill, billed: Bill, calls: int, usd: str) -> Books:
    return Books({"M": counted}, {"M": billed}, {"M": calls}, calls, Decimal(usd))


NO_BOOKS = books(Bill(), Bill(), 0, "0")
BILL = Bill(1, 10, 0, 5, Decimal("0.1"))


def test_what_was_counted_as_billed_makes_no_difference() -> None:
    assert difference_between(NO_BOOKS, books(BILL, BILL, 1, "0.1"), True) == ("", False)


@pytest.mark.parametrize(
    ("counted", "calls", "usd", "excess"),
    [
        (Bill(1, 10, 0, 4, Decimal("0.1")), 1, "0.1", False),
        (Bill(1, 10, 0, 6, Decimal("0.1")), 1, "0.1", True),
        (Bill(1, 10, 0, 5, Decimal("0.100001")), 1, "0.1", True),
        (Bill(2, 10, 0, 5, Decimal("0.1")), 1, "0.1", True),
        (BILL, 2, "0.1", True),
        (BILL, 1, "0.2", False),
    ],
)
def test_each_figure_that_differs_is_told(counted: Bill, calls: int, usd: str, excess: bool) -> None:
    told, too_much = difference_between(NO_BOOKS, books(counted, BILL, calls, usd), True)
    assert "counted" in told or "/metrics" in told
    assert too_much is excess


def test_the_number_of_answers_can_be_left_out() -> None:
    assert (
        difference_between(NO_BOOKS, books(BILL, Bill(2, 10, 0, 5, BILL.cost_usd), 1, "0.1"), False)[0] == ""
    )


@pytest.mark.parametrize(
    ("command", "is_gateway"),
    [
        (["/venv/bin/python", "-m", "gateway"], True),
        (["/venv/bin/python3.13", "-m", "gunicorn", "-c", "x", "gateway.app:create_app()"], True),
        (["/sbin/docker-init", "--", "python", "-m", "gateway"], False),
        (["python", "-m", "selftest"], False),
        (["python", "/venv/bin/flask", "keys", "list"], False),
        ([], False),
    ],
)
def test_a_process_of_the_gateway_is_known_by_its_command(command: list[str], is_gateway: bool) -> None:
    assert is_gateway_command(command) is is_gateway
