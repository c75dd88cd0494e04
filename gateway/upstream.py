"""Calls of the providers, by one `requests` adapter with its pools per worker. How the bytes travel:
`transport.py`; what can go wrong on the way: `upstream_errors.py`."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import gevent
import requests
from gevent.monkey import is_module_patched

from gateway.answers import StreamReader, characters_so_far, is_answer, message_of, stream_reader
from gateway.apis import Api
from gateway.billing import Usage, usage_stated
from gateway.catalog import Model
from gateway.errors import UpstreamError
from gateway.headers import UpstreamHeaders, headers_for, upstream_headers
from gateway.pool import CheckedAdapter
from gateway.providers_json import read_json
from gateway.received import body_received, has_come_whole, next_piece
from gateway.redaction import text_without_key, without_key
from gateway.sse import Event, EventReader
from gateway.timeouts import Deadline, time_limit
from gateway.transport import READ_BYTES, LeanAdapter, PlainRequest, header_pairs
from gateway.upstream_errors import FOREIGN_ERRORS, SLOW, translated, translating_errors

PROVIDERS = 64
CONNECTIONS_PER_PROVIDER = 2000  # as many as clients can have in work; fewer would be opened anew
LONGEST_MESSAGE = 2000  # characters
END_OF_STREAM_SECONDS = 0.25
CALL_NOT_FOUND = "call_not_found"
BILL_TIMEOUT = (1.0, 2.0)  # to connect, and between two bytes; who is late is asked again
BILL_SECONDS = 5.0  # for all of it
TRANSPORTS = {"lean": LeanAdapter, "urllib3": CheckedAdapter}


@dataclass(slots=True)
class Answer:
    """A whole answer: its bytes as the provider sent them, and the JSON object that they are."""

    body: bytes
    values: dict[str, Any]
    headers: UpstreamHeaders


@dataclass(slots=True)
class Refusal:
    """A 4xx of the provider. `body` is None where it is no error in the shape of the API, `message` what it
    says then, where it says anything."""

    status: int
    body: bytes | None
    message: str | None
    headers: UpstreamHeaders
    usage: Usage | None = None


class AnswerStream:
    """A streamed answer. Iterating gives the events of each read from the network as one list, and
    raises `UpstreamError` or `UpstreamTimeout` where the provider stops before its end."""

    def __init__(
        self, response: requests.Response, headers: UpstreamHeaders, idle: float, deadline: Deadline
    ) -> None:
        self.headers = headers
        self._response = response
        self.deadline = deadline
        self._idle = idle
        self._reader = EventReader()

    def __iter__(self) -> Iterator[list[Event]]:
        while piece := next_piece(self._response, self._idle, self.deadline):
            if events := self._reader.feed(piece):
                yield events
                self._reader.feed()
        if rest := self._reader.rest():
            yield [rest]

    def finish(self) -> None:
        """Read the end that follows the last event, so that the connection can serve again."""
        if has_come_whole(self._response):
            return
        with gevent.Timeout(END_OF_STREAM_SECONDS, False), translating_errors():  # type: ignore[arg-type]
            self._response.raw.read1(READ_BYTES, decode_content=True)

    def close(self) -> None:
        """Give the connection back, or end it where the answer has not been read whole."""
        self._response.close()


class Upstream:
    """The way to all providers, shared by all requests of a worker. `transport` is one of `TRANSPORTS`."""

    def __init__(self, transport: str = "lean") -> None:
        self._adapter = TRANSPORTS[transport](PROVIDERS, CONNECTIONS_PER_PROVIDER, max_retries=0)
        # Where gevent has not patched sockets, as in a script, its timers end no wait. Then a socket's own
        # limit does, longer than those around it; elsewhere it would be one more timer for every wait.
        self._limits_sockets = not is_module_patched("socket")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.clear()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._adapter)

    def ask(
        self,
        model: Model,
        api: Api,
        body: BytesIO,
        *,
        stream: bool,
        headers: Mapping[str, str],
        deadline: Deadline,
        received: bytearray | None = None,
    ) -> Answer | AnswerStream | Refusal:
        """Ask `model` by `api`. A provider may answer whole where a stream was asked for. `headers` are those
        of the client that the provider gets. Where this is broken off, `body` has been read if the request
        had gone out by then, and `received` has what had come of a whole answer. It is over by `deadline`,
        and so is the reading of a stream.

        :raises UpstreamError: the provider cannot be reached, fails (5xx) or answers nonsense
        :raises UpstreamTimeout: it takes longer than the model's time-outs or `deadline` allow
        """
        deadline = deadline.or_in(model.timeouts.total)
        response = self._post(model, api.path, body, stream=stream, headers=headers, deadline=deadline)
        if stream and response.status_code == 200 and _is_event_stream(response):
            return AnswerStream(response, _kept_headers(model, response), model.timeouts.idle, deadline)
        with response:
            received = bytearray() if received is None else received
            whole, failure = body_received(response, received, model.timeouts.idle, deadline)
        if response.status_code == 200:
            return _answer(model, api, response, whole, failure)
        if failure is not None:
            raise failure
        if 400 <= response.status_code < 500:
            return _refusal(model, api, response, whole)
        headers_passed = _kept_headers(model, response).passed
        failed = UpstreamError(
            f"{model.name} answered with status {response.status_code}.",
            usage_stated(api, _json_object(whole)),
            headers={
                name: value
                for name, value in headers_passed.items()
                if name.lower().startswith("retry-after")
            },
        )
        failed.provider_status = response.status_code
        raise failed

    def count_tokens(
        self, model: Model, body: BytesIO, headers: Mapping[str, str], deadline: Deadline
    ) -> Answer | Refusal:
        """Ask `model`, whose provider serves Messages, for the length of a prompt in tokens.

        :raises UpstreamError: see `ask`
        """
        path = f"{Api.MESSAGES.path}/count_tokens"
        with self._post(model, path, body, stream=False, headers=headers, deadline=deadline) as response:
            counted, failure = body_received(response, bytearray(), model.timeouts.idle, deadline)
        if failure is not None:
            raise failure
        if 400 <= response.status_code < 500:
            return _refusal(model, Api.MESSAGES, response, counted)
        values = _json_object(counted)
        if response.status_code != 200 or not isinstance(values.get("input_tokens"), int):
            raise UpstreamError(f"{model.name} did not count the tokens.")
        return Answer(counted, values, _kept_headers(model, response))

    def bill_of(self, model: Model, call: str) -> dict[str, Any] | None:
        """What `model`'s provider says of one call, by its `bill_path`, amounts as `Decimal`: an object with
        a `state`, or an error whose code is `call_not_found`; None from a provider that tells no bills.

        :raises UpstreamError: where it says nothing of use now
        """
        parts = urlsplit(model.base_url)
        url = f"{parts.scheme}://{parts.netloc}{(model.bill_path or '').replace('{call_id}', call)}"
        with translating_errors():
            response = self._session.get(
                url,
                # Asked seldom, so that no connection is kept for it.
                headers={
                    **headers_for(model.base_url, model.api_key, "", stream=False),
                    "Connection": "close",
                },
                timeout=BILL_TIMEOUT,
                allow_redirects=False,
                stream=True,
            )
        with response:
            body, failure = body_received(
                response, bytearray(), BILL_TIMEOUT[1], Deadline.in_seconds(BILL_SECONDS)
            )
        if failure is not None:
            raise failure
        try:
            stated = json.loads(body, parse_float=Decimal)
        except (ValueError, RecursionError):
            stated = None
        if isinstance(stated, dict) and (response.status_code == 200 or _code_of(stated) == CALL_NOT_FOUND):
            return stated
        if response.status_code < 500 and response.status_code not in (408, 429):
            return None
        raise UpstreamError(f"{model.name} did not say what it billed.")

    def _post(
        self,
        model: Model,
        path: str,
        body: BytesIO,
        *,
        stream: bool,
        headers: Mapping[str, str],
        deadline: Deadline,
    ) -> requests.Response:
        timeouts = model.timeouts
        length = len(body.getvalue())  # the one way to ask that copies nothing
        timeout: tuple[float, float] | tuple[float, None] = (timeouts.connect, None)
        if self._limits_sockets:
            timeout = (timeouts.connect, max(timeouts.first_byte, timeouts.idle) + 1)
        try:
            url, own = _url_and_headers(model.base_url, model.api_key, path, stream)
            request = PlainRequest("POST", url, {**own, **headers, "Content-Length": str(length)}, body)
            with time_limit(timeouts.first_byte, deadline, SLOW):
                try:
                    return self._adapter.send(request, stream=True, timeout=timeout)
                except BaseException as struck:
                    # urllib3 closes a socket that is being connected for its own errors only; for others its
                    # frames would keep it until the garbage is collected.
                    traceback.clear_frames(struck.__traceback__)
                    raise
        except FOREIGN_ERRORS as error:
            raise translated(error) from error


@lru_cache(maxsize=1024)  # two for each API of each model, while its key stays
def _url_and_headers(
    base_url: str, api_key: str | None, path: str, stream: bool
) -> tuple[str | None, Mapping[str, str]]:
    """What all calls of a model by one API have in common; the URL as `requests` writes it."""
    request = requests.PreparedRequest()
    request.prepare_url(f"{base_url}{path}", None)
    return request.url, headers_for(base_url, api_key, path, stream=stream)


def _is_event_stream(response: requests.Response) -> bool:
    kinds = (value for name, value in header_pairs(response) if name.lower() == "content-type")
    return next(kinds, "").lower().startswith("text/event-stream")


def _kept_headers(model: Model, response: requests.Response) -> UpstreamHeaders:
    return upstream_headers(header_pairs(response), model.api_key)


def _answer(
    model: Model, api: Api, response: requests.Response, body: bytes, failure: UpstreamError | None
) -> Answer:
    values = _json_object(body)
    if failure is None and is_answer(api, values):
        return Answer(body, values, _kept_headers(model, response))
    cut = failure is not None or (not values and body.lstrip().startswith(b"{"))
    failure = failure or UpstreamError(f"{model.name} answered with something that is no answer.")
    # Who has said 200 will bill the answer, though it never came whole, or as a stream that nobody wanted.
    if streamed := _stream_in(api, body):
        failure.usage, failure.characters = streamed.usage, streamed.characters
    else:
        failure.usage = usage_stated(api, values)
        failure.characters = characters_so_far(body) if cut else None
    raise failure


def _stream_in(api: Api, body: bytes) -> StreamReader | None:
    """What a body tells that is a stream of events, or None for any other."""
    if not body.lstrip().startswith((b"data:", b"event:")):
        return None
    reader = stream_reader(api)
    with suppress(UpstreamError):
        for event in EventReader().feed(body + b"\n\n"):
            reader.read(event)
    return reader


def _refusal(model: Model, api: Api, response: requests.Response, body: bytes) -> Refusal:
    values, headers = _json(body), _kept_headers(model, response)
    told, message = None, None
    with suppress(RecursionError):
        if isinstance(values, dict) and isinstance(values.get("error"), dict):
            told = without_key(body, values, model.api_key)
        elif (said := message_of(values)) is not None:
            message = text_without_key(said, model.api_key)[:LONGEST_MESSAGE]
    usage = usage_stated(api, values) if isinstance(values, dict) else None
    return Refusal(response.status_code, told, message, headers, usage)


def _code_of(values: dict[str, Any]) -> object:
    error = values.get("error")
    return error.get("code") if isinstance(error, dict) else None


def _json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a provider sent, or an empty one where it sent anything else."""
    values = _json(body)
    return values if isinstance(values, dict) else {}


def _json(body: bytes) -> Any:
    try:
        return read_json(body)
    except (ValueError, RecursionError):
        return None
