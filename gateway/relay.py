"""Passes a streamed answer on as it arrives, and bills it whichever way it ends.

It ends in one of four ways, each billed exactly once:

- whole: billed before its end (`[DONE]`, or the event that ends a message or a response) is passed on, so
  that no client sees a whole answer that is not counted;
- broken off by the provider: an error event instead of that end, never an answer that looks whole; where
  the API has an event of its own for an answer that failed, that is passed on;
- broken off by the client or by a stopping worker: what was delivered until then is billed, and a client
  that is still there gets an error event instead of the end;
- whole, but the ledger is gone: an error event instead of the end.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import gevent

from gateway.answers import stream_reader
from gateway.attempt import PATIENCE_FOR_BILL, Attempt
from gateway.batches import Batches
from gateway.billing import NO_USAGE, Usage
from gateway.client import ClientLeft, ClientWatch
from gateway.errors import (
    LedgerUnavailable,
    RequestTimeUp,
    UpstreamError,
    UpstreamTimeout,
    WorkerStopping,
)
from gateway.exchange import Exchange
from gateway.ledger.ledger import Ledger
from gateway.passage import Passage
from gateway.sse import Event
from gateway.upstream import AnswerStream

SECONDS_FOR_USAGE = 10.0  # how long a whole answer waits for its usage
HOLD_SECONDS = 10.0
SECONDS_FOR_LAST_WORD = 1.0
SECONDS_OF_GRACE = 0.25  # that a slow client may have beyond its request's time, since not each piece sets it


class ProviderSaidFailed(UpstreamError):
    """The provider ended its answer by an event of the API's own that tells of its failure; `told` is what it
    said until then, as the client would get it."""

    def __init__(self, told: bytes, headers: dict[str, str]) -> None:
        super().__init__("The provider ended its answer as failed.", headers=headers)
        self.told = told


class _Piece(NamedTuple):
    """What a client gets of one read from the network."""

    passed_on: bytes
    is_last: bool = False
    is_terminated: bool = True
    failure: UpstreamError | None = None


def _nothing(*_: object) -> None:
    pass


class Relay:
    """A stream on its way from a provider to a client. It is an iterator and no generator, since a
    generator that is closed before its first piece runs none of its code, and so would bill nothing."""

    def __init__(
        self,
        exchange: Exchange,
        attempt: Attempt,
        passage: Passage,
        stream: AnswerStream,
        ledger: Ledger,
        connection: Any,
    ) -> None:
        self._exchange = exchange
        self._attempt = attempt
        self._passage = passage
        self._stream = stream
        self._ledger = ledger
        self._connection = connection
        self._watch = ClientWatch(connection)
        self._seconds_for_client = math.inf
        self._reader = stream_reader(passage.api, passage.choices)
        self._batches = Batches(stream)
        self._held: list[_Piece] = []
        self._settled = False
        self._pieces = self._run()
        self.on_end: Callable[[bool], None] = _nothing  # told whether the provider broke off
        self.on_close: Callable[[], None] = _nothing

    @property
    def headers(self) -> dict[str, str]:
        """Those of the provider's that the client gets."""
        return self._stream.headers.passed

    def await_content(self) -> None:
        """Wait until something of the answer itself has come, be it its end: until then another model could
        still answer instead, and the client can get a proper error status. What has come is passed on after
        `HOLD_SECONDS` all the same, lest the client take a model that thinks for a dead one.

        :raises UpstreamError: when it ends or fails before that; its `usage` is what it will bill
        :raises ClientLeft: when there is nobody to wait for any more
        """
        try:
            with self._watch:
                self._hold_until_content()
        except BaseException as failure:
            self._settled = True  # there is no answer to bill; the caller counts the failure
            self._watch.close()
            self._batches.stop()
            self._stream.close()
            if isinstance(failure, UpstreamError):
                failure.usage = self._usage()  # who has said 200 bills at least the prompt
            raise
        self._exchange.time_to_first_token = time.monotonic() - self._exchange.started

    def _hold_until_content(self) -> None:
        ends = time.monotonic() + HOLD_SECONDS
        while True:
            if self._held and not self._batches.comes_within(ends - time.monotonic()):
                return
            if (events := self._next_batch()) is None:
                raise UpstreamError("The provider ended its answer before it began.")
            piece = self._piece_of(events)
            if piece.failure is not None:
                raise piece.failure
            self._held.append(piece)
            if self._reader.failed:
                told = b"".join(held.passed_on for held in self._held)
                raise ProviderSaidFailed(told, self.headers)
            reader = self._reader
            if reader.begun or reader.characters or reader.finished or piece.is_last:
                return

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        if self._connection is not None:
            # A client that reads slowly gets no more time than the request has, but for a last word.
            remaining = self._stream.deadline.remaining
            if remaining < self._seconds_for_client - SECONDS_OF_GRACE:
                self._seconds_for_client = remaining
                self._connection.settimeout(max(remaining, SECONDS_FOR_LAST_WORD))
        return piece

    def close(self) -> None:
        """End the answer wherever it stands, even before its first piece, and bill it if nothing has.
        May be called again."""
        self._pieces.close()
        self._exchange.client_left = self._exchange.client_left or not self._settled
        self._end()

    def discard(self) -> None:
        """End an answer that nobody is to get, and bill it."""
        self._end(answered=False)

    def _run(self) -> Generator[bytes, None, None]:
        gap, broke = b"", False
        try:
            for piece in self._all_pieces():
                yield piece.passed_on + self._end_of_answer() if piece.is_last else piece.passed_on
                if piece.failure is not None:
                    raise piece.failure
                if piece.is_last:
                    # The answer is whole, whatever follows.
                    with suppress(UpstreamError, gevent.GreenletExit):
                        self._stream.finish()
                    return
                # Without its blank line an event would swallow the error event behind it.
                gap = b"" if piece.is_terminated else b"\n\n"
            if not self._reader.finished:
                raise UpstreamError("The provider broke off its answer.")
            if end := gap + self._end_of_answer():
                yield end
        except UpstreamError as error:
            broke = not isinstance(error, RequestTimeUp)
            self._exchange.error = error
            self._settle_broken(patience=0 if isinstance(error, UpstreamTimeout) else PATIENCE_FOR_BILL)
            yield gap + self._passage.error(error)
        except LedgerUnavailable as error:
            self._exchange.error = error
            yield gap + self._passage.error(error)
        except gevent.GreenletExit:
            self._exchange.error = WorkerStopping()
            self._settle_broken(failed=False, by_bill=False)  # no time is left to ask
            yield gap + self._passage.error(self._exchange.error)
        except ClientLeft:
            self._exchange.client_left = True
            self._settle_broken(failed=False)
            # Ends the connection without the mark that would make the answer look whole.
            raise ConnectionResetError(errno.ECONNRESET, "the client has left") from None
        except GeneratorExit:
            self._exchange.client_left = not self._settled
            raise
        finally:
            self._end()
            on_end, self.on_end = self.on_end, _nothing
            on_end(broke or self._reader.failed)

    def _end_of_answer(self) -> bytes:
        """Bill the answer, and give what ends it."""
        usage = self._usage()
        if self._reader.failed:
            self._exchange.error = UpstreamError("The provider ended its answer as failed.")
            if usage == NO_USAGE:
                self._settle(usage, failed=True, answered=False)
                return b""
        self._attempt.charge(usage)
        end = self._passage.end(usage, self._exchange.cost)
        self._settle(usage, failed=self._reader.failed)
        return end

    def _end(self, *, answered: bool = True) -> None:
        self._watch.close()
        if self._connection is not None:
            self._connection.settimeout(None)
        try:
            self._batches.stop()
            self._stream.close()
        finally:
            self._settle_broken(failed=False, answered=answered)
            on_close, self.on_close = self.on_close, _nothing
            on_close()

    def _all_pieces(self) -> Iterator[_Piece]:
        while self._held:
            yield self._held.pop(0)
        while True:
            with self._watch:
                events = self._next_batch()
            if events is None:
                return
            yield self._piece_of(events)

    def _next_batch(self) -> list[Event] | None:
        if not self._reader.finished:
            return self._batches.next()
        # The answer is whole: only its usage may still come, and however the stream ends now, it ends well.
        with suppress(UpstreamError), gevent.Timeout(SECONDS_FOR_USAGE, False):  # type: ignore[arg-type]
            return self._batches.next()
        return None

    def _piece_of(self, events: list[Event]) -> _Piece:
        """What the client gets for `events`, up to the one that ends the answer, behind which nothing counts,
        or the one by which the provider fails."""
        passed_on = b""
        for event in events:
            try:
                self._reader.read(event)
                passed_on += self._passage.pass_on(event, self._reader)
            except UpstreamError as failure:
                return _Piece(passed_on, failure=failure, is_terminated=event.is_terminated)
            if self._reader.is_end(event):
                return _Piece(passed_on, is_last=True)
        return _Piece(passed_on, is_terminated=events[-1].is_terminated)

    def _estimate(self) -> Usage:
        return self._passage.estimate(self._reader.characters)

    def _usage(self) -> Usage:
        """What the provider will bill for what has come. What it has stated may be older than that."""
        stated, estimate = self._reader.usage, self._estimate()
        if stated is None:
            # Who says that nothing came of it asks nothing for it.
            return NO_USAGE if self._reader.failed and not self._reader.characters else estimate
        if not self._reader.usage_is_stale or stated.output_tokens >= estimate.output_tokens:
            return stated
        return replace(stated, output_tokens=estimate.output_tokens, stated_cost=None, estimated=True)

    def _settle(self, usage: Usage, *, failed: bool, answered: bool = True) -> None:
        self._settled = True  # also where recording fails: it may have counted all the same
        self._passage.learn(usage)
        self._attempt.settle(self._ledger, usage, answered=answered, failed=failed)

    def _settle_broken(
        self, *, failed: bool = True, answered: bool = True, by_bill: bool = True, patience: float = 0
    ) -> None:
        """Bill an answer that did not reach its end; nobody is left to be told if that fails."""
        if self._settled:
            return
        attempt, ledger = self._attempt, self._ledger
        try:
            usage = self._usage()
            self._settled = True
            self._passage.learn(usage)
            if by_bill and usage.estimated:
                attempt.settle_by_bill(ledger, usage, answered=answered, failed=failed, patience=patience)
            else:
                attempt.settle(ledger, usage, answered=answered, failed=failed)
        except LedgerUnavailable as error:
            self._exchange.error = self._exchange.error or error
