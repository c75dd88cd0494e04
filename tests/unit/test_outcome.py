"""What can be done about a call that gave no answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.billing import Usage
from gateway.errors import RequestTimeUp, UpstreamError, UpstreamTimeout
from gateway.incoming import Reply
from gateway.outcome import Again, refused, unanswered
from gateway.retries import RETRIED_STATUSES


def said(status: int) -> UpstreamError:
    error = UpstreamError("failed")
    error.provider_status = status
    return error


def broke(characters: int) -> UpstreamError:
    error = UpstreamError("broke off")
    error.characters = characters
    return error


def test_the_statuses_that_are_worth_a_retry_are_those_that_other_clients_retry() -> None:
    assert sorted(RETRIED_STATUSES) == [408, 409, 429, 500, 502, 503, 504, 529]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        pytest.param(lambda: UpstreamError("refused or reset"), Again.YES, id="reset"),
        pytest.param(lambda: said(500), Again.YES, id="500"),
        pytest.param(lambda: said(529), Again.YES, id="529"),
        pytest.param(lambda: said(501), Again.NO, id="501"),
        pytest.param(lambda: said(599), Again.NO, id="599"),
        pytest.param(lambda: UpstreamTimeout("slow"), Again.LAST_RESORT, id="slow"),
        pytest.param(lambda: broke(0), Again.LAST_RESORT, id="cut before its content"),
        pytest.param(lambda: broke(10), Again.LAST_RESORT, id="cut"),
        pytest.param(lambda: UpstreamError("no", Usage(1, 0, 0)), Again.LAST_RESORT, id="stated usage"),
    ],
)
def test_a_failure_is_repeated_where_that_costs_nothing_and_may_help(
    error: Callable[[], UpstreamError], again: Again
) -> None:
    failure = unanswered(error())
    assert failure.again is again
    assert failure.is_models_fault
    assert failure.wait is None


@pytest.mark.parametrize(("status", "says"), [(408, False), (409, False), (429, True)])
def test_of_what_is_refused_for_now_only_too_much_to_do_says_something_of_the_model(
    status: int, says: bool
) -> None:
    assert refused(status, Reply.json(status, b"")).is_models_fault is says


def test_who_had_no_more_time_has_not_found_a_fault_of_the_model() -> None:
    assert not unanswered(RequestTimeUp("too late")).is_models_fault


def test_a_failed_call_tells_how_long_its_provider_asks_to_be_left_alone() -> None:
    error = UpstreamError("failed", headers={"Retry-After": "3"})
    assert unanswered(error).wait == 3


@pytest.mark.parametrize("status", [408, 409, 429])
def test_a_refusal_keeps_the_providers_words(status: int) -> None:
    reply = Reply.json(status, b'"slow down"', {"Retry-After": "3"})
    failure = refused(status, reply)
    assert (failure.again, failure.wait, failure.reply) == (Again.YES, 3, reply)
