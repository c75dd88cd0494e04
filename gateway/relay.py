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
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gevent

from gateway.answers import stream_reader
from gateway.billing import NO_USAGE, Usage
from gateway.client import ClientLeft, client_watched
from gateway.errors import LedgerUnavailable, UpstreamError, WorkerStopping
from gateway.exchange import Exchange
from gateway.ledger.ledger import Ledger
from gateway.passage import Passage
from gateway.sse import Event
from gateway.upstream import AnswerStream

SECONDS_FOR_USAGE = 10.0  # how long a whole answer waits for its usage


class Relay:
    """A stream on its way from a provider to a client. It is an iterator and no generator, since a
    generator that is closed before its first piece runs none of its code, and so would bill nothing."""

    def __init__(
        self,
        exchange: Exchange,
        passage: Passage,
        stream: AnswerStream,
        ledger: Ledger,
        connection: Any,
    ) -> None:
        self._exchange = exchange
        self._passage = passage
        self._stream = stream
        self._ledger = ledger
        self._connection = connection
        self._reader = stream_reader(passage.api, passage.choices)
        self._batches: Iterator[list[Event]] = iter(stream)
        self._first: list[Event] = []
        self._settled = False
        self._pieces = self._run()

    def await_first_event(self) -> None:
        """Wait until the provider has begun, while the client can still get a proper error status.

        :raises UpstreamError: when it ends or fails before its first event
        :raises ClientLeft: when there is nobody to wait for any more
        """
        try:
            with client_watched(self._connection):
                first = next(self._batches, None)
            if first is None:
                cut = UpstreamError("The provider ended its answer before it began.")
                cut.characters = 0  # who has said 200 bills the prompt
                raise cut
        except BaseException:
            self._settled = True  # there is no answer to bill; the caller counts the failure
            self._stream.close()
            raise
        self._first = first
        self._exchange.time_to_first_token = time.monotonic() - self._exchange.started

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """End the answer wherever it stands, even before its first piece, and bill it if nothing has.
        May be called again."""
        self._pieces.close()
        self._exchange.client_left = self._exchange.client_left or not self._settled
        self._end()

    def _run(self) -> Generator[bytes, None, None]:
        gap = b""
        try:
            for events in self._all_batches():
                passed_on, failure = self._passed_on(events)
                done = failure is None and self._reader.is_end(events[-1])
                yield passed_on + self._end_of_answer() if done else passed_on
                if failure is not None:
                    raise failure
                if done:
                    # The answer is whole, whatever follows.
                    with suppress(UpstreamError, gevent.GreenletExit):
                        self._stream.finish()
                    return
                # Without its blank line an event would swallow the error event behind it.
                gap = b"" if events[-1].is_terminated else b"\n\n"
            if not self._reader.finished:
                raise UpstreamError("The provider broke off its answer.")
            if end := gap + self._end_of_answer():
                yield end
        except UpstreamError as error:
            self._exchange.error = error
            self._settle_broken()
            yield gap + self._passage.error(error)
        except LedgerUnavailable as error:
            self._exchange.error = error
            yield gap + self._passage.error(error)
        except gevent.GreenletExit:
            self._exchange.error = WorkerStopping()
            self._settle_broken(failed=False)
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

    def _end_of_answer(self) -> bytes:
        """Bill the answer, and give what ends it."""
        usage = self._usage()
        if self._reader.failed:
            self._exchange.error = UpstreamError("The provider ended its answer as failed.")
            if usage == NO_USAGE:
                self._settle(usage, failed=True, answered=False)
                return b""
        cost = self._exchange.charge(usage)
        end = self._passage.end(usage, cost)
        self._settle(usage, failed=self._reader.failed)
        return end

    def _end(self) -> None:
        try:
            self._stream.close()
        finally:
            self._settle_broken(failed=False)

    def _all_batches(self) -> Iterator[list[Event]]:
        """The batches, each cut after the event that ends the answer, behind which nothing counts."""
        batch: list[Event] | None = self._first
        while batch is not None:
            done = next((index for index, event in enumerate(batch) if self._reader.is_end(event)), None)
            yield batch if done is None else batch[: done + 1]
            with client_watched(self._connection):
                batch = self._next_batch()

    def _next_batch(self) -> list[Event] | None:
        if not self._reader.finished:
            return next(self._batches, None)
        # The answer is whole: only its usage may still come, and however the stream ends now, it ends well.
        with suppress(UpstreamError), gevent.Timeout(SECONDS_FOR_USAGE, False):  # type: ignore[arg-type]
            return next(self._batches, None)
        return None

    def _passed_on(self, events: list[Event]) -> tuple[bytes, UpstreamError | None]:
        """What the client gets for `events`, up to the one by which the provider fails, if one does."""
        passed_on = b""
        for event in events:
            try:
                self._reader.read(event)
                passed_on += self._passage.pass_on(event, self._reader)
            except UpstreamError as failure:
                return passed_on, failure
        return passed_on, None

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
        self._exchange.settle(self._ledger, usage, answered=answered, failed=failed)

    def _settle_broken(self, *, failed: bool = True) -> None:
        """Bill an answer that did not reach its end; nobody is left to be told if that fails."""
        if self._settled:
            return
        try:
            usage = self._usage()
            self._settled = True
            self._passage.learn(usage)
            self._exchange.settle_left(self._ledger, usage, answered=True, failed=failed)
        except LedgerUnavailable as error:
            self._exchange.error = self._exchange.error or error
