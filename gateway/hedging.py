"""A second call beside one that takes unusually long: longer than 95 % of those before it ("hedged requests",
Dean and Barroso, The Tail at Scale, 2013). The first answer wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import gevent

from gateway.model_call import Answered, HedgeLost, ModelCall
from gateway.outcome import Unanswered
from gateway.upstream import Refusal

Asked: TypeAlias = "Answered | Unanswered | BaseException"


def first_to_answer(
    call: ModelCall, usual: float, another: Callable[[], ModelCall | None]
) -> tuple[ModelCall, Answered | Unanswered]:
    """Make `call`, and after `usual` seconds `another` beside it; the first that answers, and what it says.
    The other is ended, and billed as its provider bills it.

    :raises ClientClosedRequest: when the client left meanwhile
    :raises WorkerStopping: when there is no time left
    """
    running = {gevent.spawn(_asked, call): call}
    outcome: Asked | None = None
    try:
        if not gevent.wait(list(running), timeout=usual) and (second := another()) is not None:
            running[gevent.spawn(_asked, second)] = second
        for greenlet in gevent.iwait(list(running)):
            if outcome is not None:  # the one before has failed
                if isinstance(outcome, Refusal):
                    call.discard(outcome)
                call.end()
            call, outcome = running.pop(greenlet), greenlet.value
            # A provider with too much to do refuses the second call while it answers the first.
            if not isinstance(outcome, Unanswered | Refusal):
                break
    except BaseException:
        if call not in running.values():  # it had failed, and the other was waited for
            call.end()
        raise
    finally:
        gevent.killall(list(running), HedgeLost)
        for greenlet, loser in running.items():
            loser.discard(greenlet.value)
            loser.end()
    if isinstance(outcome, BaseException):
        call.end()
        raise outcome
    assert outcome is not None  # noqa: S101 - at least one call was waited for
    return call, outcome


def _asked(call: ModelCall) -> Asked:
    # Returned, since gevent writes a traceback for whatever a greenlet raises.
    try:
        return call.ask()
    except BaseException as error:
        return error
