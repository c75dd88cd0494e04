"""The log of decisions as tests look at it."""

from __future__ import annotations

from gateway.ledger.connection import connect
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.names import Names
from gateway.routing.decision import Decision
from tests.support.stack import Stack


def decision_log(url: str, prefix: str) -> DecisionLog:
    return DecisionLog(connect(url, 2.0), Names(prefix))


def decisions(stack: Stack) -> list[Decision]:
    """Those of a stack, from the oldest."""
    return decision_log(stack.redis_url, stack.redis_prefix).read()
