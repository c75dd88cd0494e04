"""Outboxes of writers that live, die and are taken over, before a real Redis."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import redis

from gateway.ledger.committer import Committer
from gateway.ledger.health import Health
from gateway.ledger.journal import Journal, Record
from gateway.ledger.names import Names
from gateway.ledger.outbox import Outbox
from gateway.ledger.recovery import BillOf, FoundBill, Recovery
from gateway.ledger.tally import Tally
from tests.support.processes import ROOT

NAMES = Names("gateway")
REQUESTS = NAMES.total("requests")
COST = NAMES.total("cost_usd")
CENT = Decimal("0.01")
OPEN: Record = {
    "model": "CheapModel",
    "baseline": "ExpensiveModel",
    "prompt_tokens": 3,
    "key": None,
    "budgets": [],
    "at": 0,
}


def tally_of_requests(amount: int) -> Tally:
    """So many requests at a cent each."""
    tally = Tally()
    tally.count(REQUESTS, amount)
    tally.charge(COST, amount * CENT)
    return tally


def outbox_in(directory: Path, client: redis.Redis, writer: str = "writer") -> Outbox:
    return Outbox(client, NAMES, writer, Journal.create(directory, writer))


def die(outbox: Outbox) -> Path:
    """What is left of a writer: its journal, which nobody holds any more."""
    assert outbox.journal is not None
    outbox.journal.close()
    return outbox.journal.path


def adopted(path: Path, client: redis.Redis) -> Outbox:
    journal = Journal.adopt(path)
    assert journal is not None
    return Outbox.adopt(client, NAMES, journal)


def recovery_of(directory: Path, client: redis.Redis, bill_of: BillOf) -> Recovery:
    """That of a worker with a journal of its own."""
    committer = Committer(outbox_in(directory, client, "survivor"), Health(), patience=0.1)
    return Recovery(client, NAMES, directory, committer, bill_of)


def never_made(call: str, record: Record) -> FoundBill:
    """A bill for calls that never came."""
    return FoundBill(None, stated=True)


def counted(client: redis.Redis) -> tuple[int, Decimal]:
    """Requests and USD in Redis."""
    requests, cost = client.mget([REQUESTS, COST])
    return int(requests or 0), Decimal(str(cost or 0)).quantize(CENT)


def requests_counted(client: redis.Redis) -> int:
    """So many requests are counted, each with its cent."""
    requests, cost = counted(client)
    assert cost == requests * CENT
    return requests


@contextmanager
def another_process(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Python that runs `program` from the repository's root, until it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
