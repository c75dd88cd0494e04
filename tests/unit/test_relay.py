"""A streamed answer is passed on as it came, and billed exactly once, whichever way it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from typing import Any

import gevent
import pytest
from flask import Response
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder, run_wsgi_app

from gateway.billing import Usage
from gateway.errors import LedgerUnavailable, UpstreamError, UpstreamTimeout
from gateway.ledger.entry import Entry
from gateway.sse import EventReader
from tests.support.fakes import RelaySetting, Step

STATED = Usage(14, 0, 9)
PROMPT_TOKENS = 14  # as estimated for PROMPT


def event(chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def text(content: str, finish_reason: str | None = None) -> bytes:
    return event({"choices": [{"delta": {"content": content}, "finish_reason": finish_reason}]})


HELLO, WORLD = text("Hello "), text("wörld")
STOP = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
USAGE = event({"id": "é", "choices": [], "usage": {"prompt_tokens": 14, "completion_tokens": 9}})
DONE = b"data: [DONE]\n\n"
WHOLE = [HELLO, WORLD, STOP, USAGE, DONE]


def error_of(sent: bytes) -> dict[str, Any]:
    """The error in the last event that the client got, which is not the end of a whole answer."""
    assert sent.endswith(b"\n\n")
    assert b"[DONE]\n\n" not in sent
    last = sent[:-2].rpartition(b"\n\n")[2]
    error: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["error"]
    return error


def estimated(characters: int) -> Usage:
    return Usage(PROMPT_TOKENS, 0, -(-characters // 4), estimated=True)


ASKED = {"stream_options": {"include_usage": True}}


def test_a_whole_answer_is_billed_before_its_end_is_sent() -> None:
    setting = RelaySetting(WHOLE)

    assert setting.run() == HELLO + WORLD + STOP + DONE

    assert setting.bill == Entry(
        model="CheapModel",
        answered=True,
        failed=False,
        usage=STATED,
        cost=Decimal("0.000005"),
        baseline_cost=Decimal("0.000059"),
    )
    assert setting.journal[-5:] == ["bill", "send", "finish", "close", "close"]
    assert setting.journal.count("send") == len(WHOLE)
    assert setting.attempt.recorded
    assert setting.exchange.error is None
    assert not setting.exchange.client_left


def test_each_piece_is_sent_before_the_next_is_read() -> None:
    setting = RelaySetting(WHOLE)
    setting.run()
    assert setting.journal[:6] == ["read", "send", "read", "send", "read", "send"]


def test_the_wait_for_the_first_event_is_timed_and_loses_nothing() -> None:
    setting = RelaySetting([b"data: ", b'{"a"', b": 1}\n\n", STOP, DONE])
    assert setting.run() == b'data: {"a": 1}\n\n' + STOP + DONE
    assert setting.exchange.time_to_first_token is not None
    assert setting.exchange.time_to_first_token >= 0


@given(st.lists(st.integers(0, 10**4), max_size=8))
def test_however_the_answer_is_cut_the_client_and_the_bill_get_the_same(places: list[int]) -> None:
    body = b"".join(WHOLE)
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges) if start < end]
    setting = RelaySetting(pieces)

    assert setting.run() == HELLO + WORLD + STOP + DONE
    assert setting.bill.usage == STATED
    assert setting.stream.closed


@pytest.mark.parametrize(
    "fields", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}]
)
def test_the_usage_chunk_is_hidden_from_a_client_that_did_not_ask_for_it(fields: dict[str, Any]) -> None:
    setting = RelaySetting(WHOLE, fields=fields)
    assert b"usage" not in setting.run()
    assert setting.bill.usage == STATED


def test_the_usage_chunk_of_a_client_that_asked_gives_the_cost() -> None:
    sent = RelaySetting(WHOLE, fields=ASKED).run()
    *before, usage, done = EventReader().feed(sent)
    assert b"".join(each.raw for each in before) == HELLO + WORLD + STOP
    assert usage.chunk == {
        "id": "é",
        "choices": [],
        "usage": {"prompt_tokens": 14, "completion_tokens": 9, "cost": 0.000005},
    }
    assert done.is_done


def test_a_usage_chunk_that_makes_no_sense_is_passed_on_and_not_believed() -> None:
    nonsense = event({"choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 9}})
    setting = RelaySetting([HELLO, STOP, nonsense, DONE], fields=ASKED)
    assert setting.run() == HELLO + STOP + nonsense + DONE
    assert setting.bill.usage == estimated(6)


def test_the_last_usage_that_is_stated_counts() -> None:
    first = event({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 14, "completion_tokens": 1}})
    null = event({"choices": [{"delta": {}}], "usage": None})
    setting = RelaySetting([first, USAGE, null, STOP, DONE])
    assert first in setting.run()
    assert setting.bill.usage == STATED


def test_a_whole_answer_without_usage_is_billed_by_estimate() -> None:
    setting = RelaySetting([HELLO, WORLD, STOP, DONE])
    setting.run()
    assert setting.bill.usage == estimated(11)
    assert not setting.bill.failed


def test_what_stands_behind_the_end_is_not_sent() -> None:
    setting = RelaySetting([HELLO, STOP + DONE + HELLO + DONE, USAGE])
    assert setting.run() == HELLO + STOP + DONE
    assert setting.bill.usage == estimated(6)


@pytest.mark.parametrize("steps", [[b"".join(WHOLE)], [b": ping\n\n", *WHOLE], [*WHOLE[:-1], DONE.rstrip()]])
def test_the_end_is_billed_first_wherever_it_stands(steps: list[Step]) -> None:
    setting = RelaySetting(steps)
    assert setting.run().rstrip().endswith(DONE.rstrip())
    assert setting.bill.usage == STATED
    assert setting.journal.index("bill") == len(setting.journal) - 5


def test_comments_and_unknown_events_are_passed_on() -> None:
    odd = b": ping\r\n\r\nevent: x\ndata: y\n\n"
    assert RelaySetting([odd, HELLO, STOP, DONE]).run() == odd + HELLO + STOP + DONE


@pytest.mark.parametrize("steps", [[HELLO, STOP], [HELLO, STOP, USAGE], [HELLO, text("x", "length")]])
def test_an_answer_that_ends_without_its_end_mark_is_whole_once_it_has_a_finish_reason(
    steps: list[Step],
) -> None:
    setting = RelaySetting(steps)
    sent = setting.run()
    assert b"error" not in sent
    assert (setting.bill.answered, setting.bill.failed) == (True, False)
    assert not setting.exchange.client_left


BREAKS: list[tuple[list[Step], str]] = [
    ([HELLO, WORLD], "upstream_error"),
    ([HELLO, WORLD, UpstreamError("It broke off.")], "upstream_error"),
    ([HELLO, WORLD, UpstreamTimeout("It took too long.")], "upstream_timeout"),
    ([HELLO, WORLD, b"data: {nonsense\n\n", STOP, DONE], "upstream_error"),
    ([HELLO, WORLD, b'data: {"choices": [{"del'], "upstream_error"),
    ([HELLO, WORLD, b": keep-ali"], "upstream_error"),
    ([HELLO, WORLD, b"data: [DO"], "upstream_error"),
    ([HELLO, WORLD, b'data: {"choices": []}\n'], "upstream_error"),
    ([HELLO, WORLD, b'data: {"choices": []}\r\n\r'], "upstream_error"),
]


@pytest.mark.parametrize(("steps", "code"), BREAKS)
def test_an_answer_that_the_provider_breaks_off_ends_with_an_error_and_is_billed_by_estimate(
    steps: list[Step], code: str
) -> None:
    setting = RelaySetting(steps)

    sent = setting.run()

    assert sent.startswith(HELLO + WORLD)
    assert error_of(sent)["code"] == code
    assert (setting.bill.answered, setting.bill.failed) == (True, True)
    assert setting.bill.usage == estimated(11)
    assert setting.stream.closed
    assert setting.exchange.error is not None
    assert setting.exchange.error.code == code
    assert not setting.exchange.client_left


@pytest.mark.parametrize(("steps", "code"), BREAKS)
def test_an_answer_that_breaks_off_while_the_ledger_is_gone_ends_with_the_provider_s_error(
    steps: list[Step], code: str
) -> None:
    setting = RelaySetting(steps, ledger_fails=True)
    assert error_of(setting.run())["code"] == code
    assert setting.journal.count("bill") == 1
    assert not setting.attempt.recorded


def test_an_error_instead_of_the_first_event_is_told_before_the_answer_begins() -> None:
    setting = RelaySetting([event({"error": {"message": "Overloaded."}}), *WHOLE])
    with pytest.raises(UpstreamError):
        setting.start()
    assert setting.stream.closed
    assert setting.ledger.entries == []


def test_an_answer_that_breaks_off_after_its_usage_is_billed_as_stated() -> None:
    early = event(
        {"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
    )
    setting = RelaySetting([early, UpstreamError("It broke off.")])
    setting.run()
    assert setting.bill.usage == Usage(5, 0, 1)


def test_an_error_that_the_provider_sends_in_the_middle_is_told_in_our_words() -> None:
    theirs = event({"error": {"message": "Bad key sk-canary.", "code": "overloaded"}})
    setting = RelaySetting([HELLO, theirs, *WHOLE])
    sent = setting.run()
    assert "sk-canary" not in sent.decode()
    assert b"[DONE]" not in sent
    assert error_of(sent)["code"] == "upstream_error"
    assert setting.bill.failed


@pytest.mark.parametrize("steps", [WHOLE, [b"".join(WHOLE)], [*WHOLE[:-1]], [*WHOLE[:-1], b": x"]])
def test_a_whole_answer_that_cannot_be_billed_ends_with_an_error(steps: list[Step]) -> None:
    setting = RelaySetting(steps, ledger_fails=True)

    assert error_of(setting.run())["code"] == "ledger_unavailable"

    assert setting.journal.count("bill") == 1
    assert setting.stream.closed
    assert not setting.attempt.recorded
    assert isinstance(setting.exchange.error, LedgerUnavailable)


def test_what_goes_wrong_behind_the_end_is_no_error_and_is_not_billed_again() -> None:
    setting = RelaySetting(WHOLE, finish_fails=True)
    assert setting.run() == HELLO + WORLD + STOP + DONE
    assert not setting.bill.failed
    assert setting.exchange.error is None
    assert setting.stream.closed


@pytest.mark.parametrize("sent", range(1, len(WHOLE)))
def test_a_client_that_leaves_in_the_middle_is_billed_for_what_was_delivered(sent: int) -> None:
    setting = RelaySetting(WHOLE).start()
    for _ in range(sent):
        next(setting.relay)

    setting.relay.close()

    assert setting.bill.answered
    assert not setting.bill.failed
    assert setting.bill.usage == (STATED if sent == 4 else estimated((6, 11, 11)[sent - 1]))
    assert setting.exchange.client_left
    assert setting.stream.closed
    assert next(setting.relay, None) is None


def test_a_client_that_leaves_at_the_end_is_billed_once() -> None:
    setting = RelaySetting(WHOLE).start()
    for _ in WHOLE:
        next(setting.relay)
    setting.relay.close()
    assert setting.bill.usage == STATED
    assert setting.stream.closed
    assert not setting.exchange.client_left


@pytest.mark.parametrize("ledger_fails", [False, True])
def test_a_client_that_leaves_before_the_first_piece_is_billed_and_the_provider_is_left(
    ledger_fails: bool,
) -> None:
    setting = RelaySetting(WHOLE, ledger_fails=ledger_fails).start()

    setting.relay.close()

    assert setting.bill.usage == estimated(6)
    assert setting.exchange.client_left
    assert setting.attempt.recorded is not ledger_fails
    assert setting.stream.closed
    assert next(setting.relay, None) is None


@pytest.mark.parametrize("pieces", range(len(WHOLE) + 2))
@pytest.mark.parametrize("ledger_fails", [False, True])
@pytest.mark.parametrize("steps", [WHOLE, *(steps for steps, _ in BREAKS)])
def test_closing_at_any_point_and_again_bills_exactly_once(
    steps: list[Step], ledger_fails: bool, pieces: int
) -> None:
    setting = RelaySetting(steps, ledger_fails=ledger_fails).start()
    for _ in range(pieces):
        next(setting.relay, None)
    setting.relay.close()
    setting.relay.close()
    assert setting.journal.count("bill") == 1
    assert setting.stream.closed


def test_a_client_that_leaves_while_the_ledger_is_gone_is_logged_as_not_recorded() -> None:
    setting = RelaySetting(WHOLE, ledger_fails=True).start()
    next(setting.relay)
    setting.relay.close()
    assert not setting.attempt.recorded
    assert isinstance(setting.exchange.error, LedgerUnavailable)


class Stopping(BaseException):
    """What ends a greenlet from outside when its worker stops."""


def test_a_worker_that_stops_in_the_middle_bills_what_was_delivered() -> None:
    setting = RelaySetting([HELLO, Stopping(), WORLD, DONE]).start()
    assert next(setting.relay) == HELLO
    with pytest.raises(Stopping):
        next(setting.relay)
    setting.relay.close()
    assert setting.bill.usage == estimated(6)
    assert not setting.exchange.client_left
    assert setting.stream.closed


@pytest.mark.parametrize(
    "steps", [[], [b""], [b"\n"], [UpstreamError("Broken.")], [UpstreamTimeout("Late.")], [b"data: {\n\n"]]
)
def test_a_provider_that_fails_before_its_first_event_is_an_error_for_the_caller_to_count(
    steps: list[Step],
) -> None:
    setting = RelaySetting(steps)
    with pytest.raises(UpstreamError):
        setting.start()
    setting.relay.close()
    assert setting.stream.closed
    assert setting.ledger.entries == []


def test_a_worker_that_stops_in_the_middle_tells_a_client_that_is_still_there() -> None:
    setting = RelaySetting([HELLO, gevent.GreenletExit(), WORLD, DONE])
    sent = setting.run()
    assert sent.startswith(HELLO)
    assert error_of(sent)["code"] == "overloaded"
    assert setting.bill.usage == estimated(6)
    assert not setting.bill.failed
    assert not setting.exchange.client_left


def choice(index: int, content: str, finish_reason: str | None = None) -> bytes:
    return event(
        {"choices": [{"index": index, "delta": {"content": content}, "finish_reason": finish_reason}]}
    )


def test_an_answer_of_several_choices_is_whole_once_all_of_them_are() -> None:
    first, second = choice(0, "a"), choice(1, "b")
    cut = RelaySetting([first, second, choice(0, "", "stop")])
    assert error_of(cut.run())["code"] == "upstream_error"
    whole = RelaySetting([first, second, choice(0, "", "stop"), choice(1, "", "stop")])
    assert b"error" not in whole.run()


def test_the_cost_stands_wherever_a_client_that_asked_gets_the_usage() -> None:
    last = event(
        {
            "choices": [{"delta": {}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 14, "completion_tokens": 9},
        }
    )
    asked = RelaySetting([HELLO, last, DONE], fields=ASKED).run()
    assert json.loads(asked.split(b"\n\n")[1].removeprefix(b"data: "))["usage"]["cost"] == 0.000005
    assert RelaySetting([HELLO, last, DONE]).run() == HELLO + last + DONE


def test_a_worker_that_stops_before_the_first_event_leaves_the_provider() -> None:
    setting = RelaySetting([Stopping()])
    with pytest.raises(Stopping):
        setting.start()
    assert setting.stream.closed


def ignore_start(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Callable[..., None]:
    return lambda body: None


def test_a_response_that_is_closed_unread_bills_before_it_is_logged() -> None:
    setting = RelaySetting(WHOLE).start()
    response = Response(setting.relay, content_type="text/event-stream")
    response.call_on_close(lambda: setting.journal.append("log"))

    # As a server does that finds its client gone before it has written anything.
    pieces = response(EnvironBuilder(method="POST").get_environ(), ignore_start)
    pieces.close()  # type: ignore[attr-defined]

    assert [step for step in setting.journal if step != "close"] == ["read", "bill", "log"]
    assert setting.stream.closed
    assert setting.bill.usage == estimated(6)


@pytest.mark.parametrize("read", range(1, len(WHOLE) + 1))
def test_a_response_that_is_closed_half_read_bills_once_before_it_is_logged(read: int) -> None:
    setting = RelaySetting(WHOLE).start()
    response = Response(setting.relay, content_type="text/event-stream")
    response.call_on_close(lambda: setting.journal.append("log"))

    pieces, _, _ = run_wsgi_app(response, EnvironBuilder(method="POST").get_environ())
    iterator = iter(pieces)
    for _ in range(read):
        next(iterator)
    pieces.close()  # type: ignore[attr-defined]

    assert setting.journal.count("bill") == 1
    assert setting.journal[-1] == "log"
    assert setting.stream.closed


@pytest.mark.parametrize("value", [0, 1, True, "x", [], [[]], [None], {}, {"a": 1}], ids=repr)
def test_nonsense_in_a_chunk_is_passed_on_and_counts_nothing(value: object) -> None:
    nonsense = [
        event(chunk)
        for chunk in (
            {"choices": value, "usage": value},
            {"choices": [value, {"delta": value, "message": value}]},
            {"choices": [{"delta": {"content": [value], "tool_calls": value}, "finish_reason": None}]},
            {"choices": [{"delta": {"tool_calls": [value, {"function": value}]}}]},
        )
    ]
    setting = RelaySetting([*nonsense, HELLO, STOP, DONE])
    # A chunk with no choices and a usage is nothing to a client that did not ask for usage.
    passed = nonsense if value else nonsense[1:]
    assert setting.run() == b"".join(passed) + HELLO + STOP + DONE
    assert setting.bill.usage == estimated(6)


@pytest.mark.parametrize("end", [UpstreamError("reset"), UpstreamTimeout("silent"), b"data: {not json\n\n"])
@pytest.mark.parametrize(
    ("pieces", "usage"),
    [([HELLO, STOP, USAGE], STATED), ([HELLO, STOP], estimated(6))],
    ids=["usage", "none"],
)
def test_a_whole_answer_stays_whole_however_its_stream_ends(
    end: Step, pieces: list[bytes], usage: Usage
) -> None:
    setting = RelaySetting([*pieces, end])
    assert setting.run() == HELLO + STOP
    assert setting.bill.usage == usage
    assert not setting.bill.failed
    assert setting.exchange.error is None


def test_an_unfinished_last_event_is_finished_for_the_client() -> None:
    setting = RelaySetting([HELLO, text("end", "stop").rstrip()])
    assert setting.run() == HELLO + text("end", "stop")
    assert not setting.bill.failed


def test_an_answer_is_not_whole_before_every_choice_that_was_asked_for_has_ended() -> None:
    cut = RelaySetting([choice(0, "x"), choice(0, "x", "stop")], fields={"n": 2})
    assert error_of(cut.run())["code"] == "upstream_error"
    assert cut.bill.failed
    whole = RelaySetting([choice(0, "x", "stop"), choice(1, "x", "stop")], fields={"n": 2})
    assert whole.run() == choice(0, "x", "stop") + choice(1, "x", "stop")
    assert not whole.bill.failed


def test_a_usage_that_is_older_than_the_answer_is_not_the_bill() -> None:
    early = event(
        {"choices": [{"delta": {"content": "Hi"}}], "usage": {"prompt_tokens": 10, "completion_tokens": 1}}
    )
    setting = RelaySetting([early, text("x" * 40), STOP, DONE])
    setting.run()
    assert setting.bill.usage == Usage(10, 0, 11, estimated=True)


@pytest.mark.parametrize("end", [None, UpstreamError("cut"), gevent.GreenletExit()])
def test_a_usage_that_is_as_new_as_the_answer_is_the_bill_whatever_an_estimate_would_say(
    end: BaseException | None,
) -> None:
    stated = event({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2, "cost": 0.5}})
    setting = RelaySetting([text("x" * 400), stated, *([] if end is None else [end])])
    setting.run()
    assert (setting.bill.usage.output_tokens, setting.bill.usage.estimated) == (2, False)
    assert setting.bill.cost == Decimal("0.5")


def test_an_answer_that_openrouter_calls_broken_is_counted_as_failed() -> None:
    setting = RelaySetting([HELLO, text("", "error"), USAGE, DONE])
    assert setting.run() == HELLO + text("", "error") + DONE
    assert setting.bill.failed
    assert setting.bill.usage == STATED


@pytest.mark.parametrize("line", [b"event: error\n", b"event:error\n"])
def test_an_event_that_is_named_an_error_is_one(line: bytes) -> None:
    setting = RelaySetting([HELLO, line + b'data: {"message": "x", "code": 503}\n\n', STOP, DONE])
    assert error_of(setting.run())["code"] == "upstream_error"
    assert setting.bill.failed


def test_a_byte_order_mark_hides_no_text() -> None:
    setting = RelaySetting([b"\xef\xbb\xbf" + HELLO, STOP, DONE])
    assert setting.run() == b"\xef\xbb\xbf" + HELLO + STOP + DONE
    assert setting.bill.usage == estimated(6)
