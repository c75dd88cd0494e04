"""Passes a streamed answer on as it arrives, and bills it whichever way it ends.

It ends in one of four ways, each billed exactly once:

- whole: billed before `[DONE]` is passed on, so that no client sees a whole answer that is not counted;
- broken off by the provider: an error event instead of `[DONE]`, never an answer that looks whole;
- broken off by the client or by a stopping worker: what was delivered until then is billed, and a client
  that is still there gets an error event instead of `[DONE]`;
- whole, but the ledger is gone: an error event instead of `[DONE]`.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gevent

from gateway.billing import Usage, charge, output_characters, usage_estimated, usage_stated
from gateway.catalog import Catalog
from gateway.client import ClientLeft, client_watched
from gateway.errors import LedgerUnavailable, UpstreamError, WorkerStopping
from gateway.exchange import Exchange
from gateway.ledger import Ledger
from gateway.schema import ChatRequest
from gateway.sse import Event, with_cost
from gateway.upstream import CompletionStream


class Relay:
    """A stream on its way from a provider to a client. It is an iterator and no generator, since a
    generator that is closed before its first piece runs none of its code, and so would bill nothing."""

    def __init__(
        self,
        exchange: Exchange,
        chat: ChatRequest,
        stream: CompletionStream,
        ledger: Ledger,
        catalog: Catalog,
        connection: Any,
    ) -> None:
        self._exchange = exchange
        self._chat = chat
        self._stream = stream
        self._ledger = ledger
        self._catalog = catalog
        self._connection = connection
        self._batches: Iterator[list[Event]] = iter(stream)
        self._first: list[Event] = []
        self._usage: Usage | None = None
        self._characters = 0
        self._begun: set[object] = set()
        self._finished: set[object] = set()
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
                raise UpstreamError("The provider ended its answer before it began.")
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
                done = events[-1].is_done
                passed_on = b"".join(map(self._passed_on, events))
                if done:
                    self._settle()
                yield passed_on
                if done:
                    # The answer is whole, whatever follows.
                    with suppress(UpstreamError, gevent.GreenletExit):
                        self._stream.finish()
                    return
                # Without its blank line an event would swallow the error event behind it.
                gap = b"" if events[-1].is_terminated else b"\n\n"
            if not self._finished or self._begun - self._finished:
                raise UpstreamError("The provider broke off its answer.")
            self._settle()
        except UpstreamError as error:
            self._exchange.error = error
            self._settle_broken()
            yield gap + error.sse_event()
        except LedgerUnavailable as error:
            self._exchange.error = error
            yield gap + error.sse_event()
        except gevent.GreenletExit:
            self._exchange.error = WorkerStopping()
            self._settle_broken(failed=False)
            yield gap + self._exchange.error.sse_event()
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

    def _end(self) -> None:
        try:
            self._stream.close()
        finally:
            if not self._settled:
                self._settle_broken(failed=False)

    def _all_batches(self) -> Iterator[list[Event]]:
        """The batches, each cut after `[DONE]`, behind which nothing counts."""
        batch: list[Event] | None = self._first
        while batch is not None:
            done = next((index for index, event in enumerate(batch) if event.is_done), None)
            yield batch if done is None else batch[: done + 1]
            with client_watched(self._connection):
                batch = next(self._batches, None)

    def _passed_on(self, event: Event) -> bytes:
        """The bytes that the client gets for `event`, which is also read for its usage."""
        if event.chunk is None:
            return event.raw
        usage = usage_stated(event.chunk)
        if usage is not None:
            self._usage = usage
        choices = event.chunk.get("choices")
        self._characters += output_characters(choices)
        for choice in choices if isinstance(choices, list) else ():
            self._note_progress(choice)
        if event.is_usage_only and not self._chat.include_usage:
            return b""
        if usage is None or not self._chat.include_usage or self._exchange.route is None:
            return event.raw
        return with_cost(event, charge(self._exchange.route.model.price, usage))

    def _note_progress(self, choice: object) -> None:
        if isinstance(choice, dict):
            index = choice.get("index", 0)
            index = index if isinstance(index, int) else 0
            self._begun.add(index)
            if choice.get("finish_reason"):
                self._finished.add(index)

    def _estimate(self) -> Usage:
        return usage_estimated(self._chat.prompt_texts, self._characters)

    def _usage_so_far(self) -> Usage:
        """Of a broken answer. What its provider has stated may be older than what it has sent since."""
        estimate = self._estimate()
        if self._usage is None or self._usage.output_tokens >= estimate.output_tokens:
            return self._usage or estimate
        return replace(self._usage, output_tokens=estimate.output_tokens, stated_cost=None, estimated=True)

    def _settle(self, *, failed: bool = False, broken: bool = False) -> None:
        if self._settled:
            return
        self._settled = True  # also where recording fails: it may have counted all the same
        usage = self._usage_so_far() if broken else self._usage or self._estimate()
        self._exchange.settle(self._ledger, self._catalog, usage, answered=True, failed=failed)

    def _settle_broken(self, *, failed: bool = True) -> None:
        """Bill an answer that did not reach its end; nobody is left to be told if that fails."""
        try:
            self._settle(failed=failed, broken=True)
        except LedgerUnavailable as error:
            self._exchange.error = self._exchange.error or error
