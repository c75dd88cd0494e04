"""Serves a request in any dialect: answer, bill, send, failing on request."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from flask import Request, Response
from gunicorn.http.errors import ParseException

from model_server import wire
from model_server.completion import Usage
from model_server.config import Settings
from model_server.delivery import Chunk, Dialect, Stream, Whole
from model_server.errors import InjectedStatus, InvalidRequest
from model_server.faults import HEADER, Fault, Faults, Kind
from model_server.ledger import Call, StreamBill
from model_server.profile import ModelProfile
from model_server.record import RequestRecord

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
BREAKS = (Kind.CUT_MIDSTREAM, Kind.STALL_MIDSTREAM, Kind.CUT_BEFORE_CONTENT)


class Endpoint:
    """Answers requests to one model."""

    def __init__(self, profile: ModelProfile, settings: Settings, faults: Faults) -> None:
        self._first_token_seconds, self._interval_seconds = settings.latency(profile)
        self._faults = faults

    def handle(self, request: Request, dialect: Dialect, call: Call, record: RequestRecord) -> Response:
        """Serve one request in its dialect, noting in `record` what is worth logging.

        All that `call` books is booked by the time the response is closed.
        """
        fault = self._faults.draw(request.headers.get(HEADER))
        connection = request.environ.get("gunicorn.socket")
        body = _read_body(request)
        if fault.kind is Kind.STATUS:
            wire.wait(connection, fault.slow_seconds)
            raise InjectedStatus(fault.status, fault.retry_after)
        if fault.kind in (Kind.RESET, Kind.STALL_FIRST):
            return _unanswered(fault, connection)
        answer = dialect.answer(body, states_usage=fault.kind is not Kind.NO_USAGE)
        record.status = 200
        if isinstance(answer, Stream):
            record.stream = True
            return self._stream(answer, fault, connection, call, record)
        return self._whole(answer, fault, connection, call, record)

    def _whole(
        self,
        answer: Whole,
        fault: Fault,
        connection: wire.Connection | None,
        call: Call,
        record: RequestRecord,
    ) -> Response:
        body = answer.body
        if answer.usage is None:
            wire.wait(connection, fault.slow_seconds)
        else:
            with _billing_who_leaves(call, answer.usage):
                wire.wait(connection, self._first_token_seconds + fault.slow_seconds)
            call.bill(answer.usage)
            _note_usage(record, answer.usage, answer.usage.output_tokens)
        if fault.kind is Kind.MALFORMED_JSON:
            body = body[: len(body) // 2]
        response = Response(body, mimetype="application/json")
        if fault.kind in BREAKS:
            response.response = _beginning(body, fault, connection)
            response.content_length = len(body)
        return response

    def _stream(
        self,
        answer: Stream,
        fault: Fault,
        connection: wire.Connection | None,
        call: Call,
        record: RequestRecord,
    ) -> Response:
        bill = call.open_stream(answer.usage)
        response = Response(
            self._events(answer, bill, fault, connection),
            content_type="text/event-stream; charset=utf-8",
            headers=STREAM_HEADERS,
        )

        @response.call_on_close
        def settle() -> None:
            # Reached however the stream ends, also if the client left before its first chunk.
            bill.settle()
            _note_usage(record, answer.usage, bill.output_tokens)

        return response

    def _events(
        self, answer: Stream, bill: StreamBill, fault: Fault, connection: wire.Connection | None
    ) -> Iterator[bytes]:
        middle = len(answer.chunks) // 2
        begins = next((index for index, chunk in enumerate(answer.chunks) if chunk.tokens), 0)
        wire.wait(connection, self._first_token_seconds + fault.slow_seconds)
        for index, chunk in enumerate(answer.chunks):
            if index:
                wire.wait(connection, self._interval_seconds)
            if fault.kind in BREAKS and index == (
                begins if fault.kind is Kind.CUT_BEFORE_CONTENT else middle
            ):
                bill.add(0)
                yield b""  # sends the head, where no chunk has
                _break_off(fault, connection)
            bill.add(chunk.tokens)
            if index == middle and fault.kind is Kind.MALFORMED_JSON:
                yield Chunk(chunk.data[: len(chunk.data) // 2], 0, chunk.name).event
            else:
                yield chunk.event
        bill.settle()
        yield answer.end


@contextmanager
def _billing_who_leaves(call: Call, usage: Usage) -> Iterator[None]:
    """Bill the prompt of a call whose client leaves before there is an answer."""
    try:
        yield
    except OSError:
        call.open_stream(usage).settle()
        raise


def _read_body(request: Request) -> bytes:
    try:
        return request.get_data(cache=False)
    except (OSError, ParseException) as error:
        raise InvalidRequest("The body could not be read.") from error


def _unanswered(fault: Fault, connection: wire.Connection | None) -> Response:
    # gunicorn sends the headers with the body's first bytes, so a body that ends here sends nothing at all.
    def fail() -> NoReturn:
        wire.wait(connection, fault.slow_seconds)
        if fault.kind is Kind.RESET:
            wire.reset(connection)
        wire.stall(connection, fault.stall_seconds)

    return Response(iter(fail, b""))


def _beginning(body: bytes, fault: Fault, connection: wire.Connection | None) -> Iterator[bytes]:
    yield b"" if fault.kind is Kind.CUT_BEFORE_CONTENT else body[: len(body) // 2]
    _break_off(fault, connection)


def _break_off(fault: Fault, connection: wire.Connection | None) -> NoReturn:
    if fault.kind is Kind.STALL_MIDSTREAM:
        wire.stall(connection, fault.stall_seconds)
    wire.cut()


def _note_usage(record: RequestRecord, usage: Usage, output_tokens: int) -> None:
    record.input_tokens = usage.input_tokens
    record.cached_input_tokens = usage.cached_input_tokens
    record.output_tokens = output_tokens
