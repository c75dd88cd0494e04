"""The log of decisions as tests look at it, and write it."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from gateway.ledger.connection import connect
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.names import Names
from gateway.ledger.tally import Tally
from gateway.ledger.writer import Writer
from gateway.routing.decision import Decision
from tests.support.stack import Stack

LOG_SIZE = 1_000_000
AT_ONCE = 500


def decision_log(url: str, prefix: str) -> DecisionLog:
    return DecisionLog(connect(url, 2.0), Names(prefix))


def decisions(stack: Stack) -> list[Decision]:
    """Those of a stack, from the oldest."""
    return decision_log(stack.redis_url, stack.redis_prefix).read()


def remember(url: str, prefix: str, some: Sequence[Decision]) -> None:
    """Write decisions into the log the way a gateway does, each with its feedback."""
    names, client = Names(prefix), connect(url, 5.0)
    writer = Writer(client, names, "tests")
    for number, start in enumerate(range(0, len(some), AT_ONCE), start=1):
        tally = Tally()
        for decision in some[start : start + AT_ONCE]:
            tally.decide(names, decision.name, decision.record(), decision.time, LOG_SIZE)
            if decision.feedback is not None:
                tally.score(names, decision.name, decision.feedback)
        writer.add(number, number, tally, regardless=True)
    writer.forget()


def forget(url: str, prefix: str) -> None:
    """Delete all that is below a prefix or beside it."""
    with redis.Redis.from_url(url) as client:
        for name in client.scan_iter(f"{prefix}*"):
            client.delete(name)
