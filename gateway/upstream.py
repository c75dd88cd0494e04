"""Calls of the providers: one pooled `requests` session per worker, and one place that turns what can go
wrong on the way into `UpstreamError` or `UpstreamTimeout`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from io import BytesIO
from typing import Any

import gevent
import requests
import urllib3

from gateway.billing import usage_stated
from gateway.catalog import Model
from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.pool import CheckedAdapter
from gateway.sse import Event, EventReader

PROVIDERS = 16
CONNECTIONS_PER_PROVIDER = 2000  # as many as clients can have in work; fewer would be opened anew
READ_BYTES = 65536
END_OF_STREAM_SECONDS = 0.25
USER_AGENT = "llm-gateway/0.1"
VISIBLE = re.compile(r"[ -~]{1,256}")
# What a refusal of the provider may tell the client besides its body.
REFUSAL_HEADERS = ("Retry-After", "Retry-After-Ms", "X-Should-Retry")


@dataclass(frozen=True)
class Completion:
    """A whole answer: its bytes as the provider sent them, and the JSON object that they are."""

    body: bytes
    values: dict[str, Any]


@dataclass(frozen=True)
class Refusal:
    """A 4xx of the provider, to be passed on as it said it."""

    status: int
    body: bytes
    headers: dict[str, str]


class CompletionStream:
    """A streamed answer. Iterating gives the events of each read from the network as one list, and
    raises `UpstreamError` or `UpstreamTimeout` where the provider stops before its end."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._reader = EventReader()

    def __iter__(self) -> Iterator[list[Event]]:
        with _translating_errors():
            while piece := self._response.raw.read1(READ_BYTES, decode_content=True):
                if events := self._reader.feed(piece):
                    yield events
                    self._reader.feed()
            if rest := self._reader.rest():
                yield [rest]

    def finish(self) -> None:
        """Read the end that follows the last event, so that the connection can serve again."""
        with gevent.Timeout(END_OF_STREAM_SECONDS, False), _translating_errors():  # type: ignore[arg-type]
            self._response.raw.read1(READ_BYTES, decode_content=True)

    def close(self) -> None:
        """Give the connection back, or end it where the answer has not been read whole."""
        self._response.close()


class Upstream:
    """The way to all providers, shared by all requests of a worker."""

    def __init__(self, connect_timeout: float, read_timeout: float) -> None:
        self._timeout = (connect_timeout, read_timeout)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.clear()
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, CheckedAdapter(PROVIDERS, CONNECTIONS_PER_PROVIDER, max_retries=0))

    def complete(
        self, model: Model, body: BytesIO, *, stream: bool, headers: Mapping[str, str]
    ) -> Completion | CompletionStream | Refusal:
        """Ask `model` for a chat completion. A provider may answer whole where a stream was asked for.
        Where this is broken off, `body` has been read if the request had gone out by then.

        :raises UpstreamError: the provider cannot be reached, fails (5xx) or answers nonsense
        :raises UpstreamTimeout: it takes longer than the time-outs allow
        """
        with _translating_errors():
            response = self._session.post(
                f"{model.base_url}/chat/completions",
                data=body,
                headers={**_headers(model, stream), **headers},
                timeout=self._timeout,
                allow_redirects=False,
                stream=stream,
            )
        if 400 <= response.status_code < 500:
            with _translating_errors(), response:
                return _refusal(model, response)
        if response.status_code != 200:
            with _translating_errors(), response:
                raise UpstreamError(
                    f"{model.name} answered with status {response.status_code}.",
                    usage_stated(_json_object(response.content)),
                )
        if stream and response.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
            return CompletionStream(response)
        with _translating_errors(), response:
            return _completion(model, response.content)


def _headers(model: Model, stream: bool) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if stream else "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
    }
    if model.api_key:
        headers["Authorization"] = f"Bearer {model.api_key}"
    return headers


def _completion(model: Model, body: bytes) -> Completion:
    values = _json_object(body)
    if not isinstance(values.get("choices"), list):
        raise UpstreamError(
            f"{model.name} answered with something that is no completion.", usage_stated(values)
        )
    return Completion(body, values)


def _refusal(model: Model, response: requests.Response) -> Refusal:
    headers = {
        name: value
        for name in REFUSAL_HEADERS
        if (value := response.headers.get(name)) and VISIBLE.fullmatch(value)
    }
    body = response.content
    if model.api_key:
        for spelling in (model.api_key, model.api_key.replace("/", "\\/")):
            body = body.replace(spelling.encode(), b"[key]")
    if not isinstance(_json_object(body).get("error"), dict):
        error = UpstreamError(f"{model.name} refused the request with status {response.status_code}.")
        body = json.dumps(error.body()).encode()
    return Refusal(response.status_code, body, headers)


def _json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a provider sent, or an empty one where it sent anything else."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


@contextmanager
def _translating_errors() -> Iterator[None]:
    """Foreign errors become ours here and nowhere else; their texts hold addresses, so ours do not."""
    try:
        yield
    except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
        raise UpstreamTimeout("The provider took too long to answer.") from error
    except requests.ConnectionError as error:
        # requests says ConnectionError for a time-out while a body is read.
        if "Read timed out" in str(error):
            raise UpstreamTimeout("The provider took too long to answer.") from error
        raise UpstreamError("The provider could not be reached or closed the connection.") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, RuntimeError) as error:
        raise UpstreamError("The provider's answer broke off or could not be read.") from error
