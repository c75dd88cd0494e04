"""Fakes at the two edges of a relay: a provider's stream, and a ledger that can be told to fail."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import gevent

from gateway.attempt import Attempt
from gateway.catalog import Model
from gateway.errors import LedgerUnavailable, UpstreamError
from gateway.exchange import Exchange
from gateway.headers import UpstreamHeaders
from gateway.ledger.entry import Entry
from gateway.ledger.ledger import Ledger
from gateway.ledger.reservation import Call, Reservation
from gateway.passage import passage
from gateway.prices import TokenPrice
from gateway.relay import ProviderSaidFailed, Relay
from gateway.router import Route
from gateway.schema.base import ModelRequest
from gateway.schema.chat import parse_chat_request
from gateway.sse import Event, EventReader
from gateway.upstream import AnswerStream

CHEAP = Model(
    "CheapModel", "http://cheap/v1", "small", None, TokenPrice(Decimal("0.1"), Decimal(0), Decimal("0.4"))
)
EXPENSIVE = Model(
    "ExpensiveModel", "http://dear/v1", "large", None, TokenPrice(Decimal(1), Decimal(0), Decimal(5))
)
PROMPT = "What is the capital of France?"

Step = bytes | BaseException | float


class FakeStream(AnswerStream):
    """Gives each piece of bytes as one read from the network; an exception is raised in its turn, and a
    number is so many seconds of silence."""

    def __init__(self, steps: Iterable[Step], journal: list[str], finish_fails: bool = False) -> None:
        self.steps = list(steps)
        self.journal = journal
        self.finish_fails = finish_fails
        self.closed = False
        self.headers = UpstreamHeaders({})

    def __iter__(self) -> Iterator[list[Event]]:
        reader = EventReader()
        for step in self.steps:
            if isinstance(step, BaseException):
                raise step
            if isinstance(step, float):
                gevent.sleep(step)
                continue
            self.journal.append("read")
            if events := reader.feed(step):
                yield events
                reader.feed()
        if rest := reader.rest():
            yield [rest]

    def finish(self) -> None:
        self.journal.append("finish")
        if self.finish_fails:
            raise UpstreamError("The provider's answer broke off or could not be read.")

    def close(self) -> None:
        self.journal.append("close")
        self.closed = True


class FakeLedger(Ledger):
    """Keeps what is recorded, and fails where it is told to after it has been asked."""

    def __init__(self, journal: list[str], fails: bool = False) -> None:
        self.journal = journal
        self.fails = fails
        self.entries: list[Entry] = []

    def settle(self, reservation: Reservation, entry: Entry) -> None:
        self.journal.append("bill")
        self.entries.append(entry)
        if self.fails:
            raise LedgerUnavailable("The ledger cannot be reached.")


@dataclass
class RelaySetting:
    """A relay between fakes, with the order in which they were used."""

    steps: Iterable[Step]
    ledger_fails: bool = False
    finish_fails: bool = False
    fields: dict[str, Any] = field(default_factory=dict)
    model: Model = CHEAP

    def __post_init__(self) -> None:
        body = {"messages": [{"role": "user", "content": PROMPT}], "stream": True, **self.fields}
        self.set_up(parse_chat_request(json.dumps(body).encode()))

    def set_up(self, asked: ModelRequest) -> None:
        """Build the relay of one request."""
        self.journal: list[str] = []
        self.stream = FakeStream(self.steps, self.journal, self.finish_fails)
        self.ledger = FakeLedger(self.journal, self.ledger_fails)
        self.exchange = Exchange("id", "POST", f"/v1{asked.api.path}")
        route = Route(self.model, "prompt_length", "short", EXPENSIVE)
        self.attempt = Attempt(route, Reservation(Call(self.model.name, EXPENSIVE.name, 0)))
        self.exchange.attempts.append(self.attempt)
        self.way = passage(asked, self.model)
        self.relay = Relay(self.exchange, self.attempt, self.way, self.stream, self.ledger, None)

    def start(self) -> RelaySetting:
        self.relay.await_content()
        return self

    def run(self) -> bytes:
        """All that the client gets; a server closes what it has iterated. An answer that fails before its
        content is billed and told as if there were nobody else to ask."""
        try:
            self.start()
        except UpstreamError as failure:
            if failure.usage is None:
                raise
            self.attempt.settle(self.ledger, failure.usage, answered=False, failed=True)
            return failure.told if isinstance(failure, ProviderSaidFailed) else self.way.error(failure)
        sent = b""
        for piece in self.relay:
            self.journal.append("send")
            sent += piece
        self.relay.close()
        return sent

    @property
    def bill(self) -> Entry:
        """The one entry of the ledger."""
        (entry,) = self.ledger.entries
        return entry
