"""Many clients at once, over one gateway or several, and what became of each of their requests."""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import requests

COST = "X-Gateway-Cost-Usd"
REQUEST_SECONDS = 60.0
# After these an answer in events is whole, in whichever API.
LAST_EVENTS = (
    "data: [DONE]",
    "event: message_stop",
    "event: response.completed",
    "event: response.incomplete",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one request; `attempt` counts from 0 where it was sent again.

    `began` is a time of `time.monotonic()`; `seconds` passed until the answer had ended or broken off.
    `status` is `None` where there was none; `code` is the error's, also of one within a stream; `cost_usd` is
    what the answer says. `whole`: an answer with 2xx, complete. `broken`: the connection failed, or ended
    before the answer was complete.
    """

    number: int
    attempt: int
    url: str
    streamed: bool
    began: float
    seconds: float
    status: int | None
    code: str | None
    cost_usd: Decimal | None
    whole: bool
    broken: bool
    retry_after: float | None = None
    path: str = ""
    retry_is_useless: bool = False  # as the answer says, and the official clients believe


@dataclass(frozen=True)
class LoadResult:
    """All outcomes in the order in which the requests began, and how long all of them took in seconds."""

    outcomes: list[Outcome]
    seconds: float

    @property
    def whole(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.whole]

    @property
    def broken(self) -> list[Outcome]:
        return [each for each in self.outcomes if each.broken]

    @property
    def statuses(self) -> Counter[int | None]:
        return Counter(each.status for each in self.outcomes)

    @property
    def codes(self) -> Counter[str]:
        return Counter(each.code for each in self.outcomes if each.code is not None)

    @property
    def cost_usd(self) -> Decimal:
        """The sum of what the answers say that they cost."""
        return sum((each.cost_usd for each in self.outcomes if each.cost_usd is not None), Decimal(0))

    def between(self, start: float, end: float) -> LoadResult:
        """Those requests that were in work at some time from `start` to `end`, of `time.monotonic()`."""
        inside = [each for each in self.outcomes if each.began <= end and each.began + each.seconds >= start]
        return LoadResult(inside, end - start)

    def percentile(self, share: float) -> float:
        """The seconds within which this share of the whole answers came; 0 where there was none."""
        taken = sorted(each.seconds for each in self.whole)
        return taken[max(0, math.ceil(share * len(taken)) - 1)] if taken else 0.0

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in self.statuses.most_common())
        codes = ", ".join(f"{code}: {count}" for code, count in self.codes.most_common())
        return (
            f"{len(self.outcomes)} requests in {self.seconds:.1f} s ({statuses}), {len(self.whole)} whole, "
            f"{len(self.broken)} broken, p50 {self.percentile(0.5) * 1000:.0f} ms, "
            f"p99 {self.percentile(0.99) * 1000:.0f} ms; errors: {codes or 'none'}"
        )


def run_load(
    urls: list[str],
    *,
    clients: int,
    body: Callable[[int], dict[str, Any]],
    requests: int | None = None,
    seconds: float | None = None,
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | Callable[[int], Mapping[str, str]] | None = None,
    retry: Callable[[Outcome], float | None] | None = None,
    request_seconds: float = REQUEST_SECONDS,
) -> LoadResult:
    """Send so many requests, or for so many seconds, whichever ends first, by so many clients at once.

    The request `number` is `body(number)` to `urls[number % len(urls)]`, each client keeping its connections.
    `retry` says after how many seconds a request is sent again, to the next gateway, and `None` for never.
    None takes longer than `request_seconds`, and nothing is begun after `seconds`. Never raises for what a
    gateway or a connection does.
    """
    if requests is None and seconds is None:
        raise ValueError("a load needs an end")
    numbers = itertools.count() if requests is None else iter(range(requests))
    lock = threading.Lock()
    began = time.monotonic()
    ends = math.inf if seconds is None else began + seconds
    outcomes: list[Outcome] = []

    def work() -> None:
        with _new_session() as session:
            for number in _shared(numbers, lock, ends):
                for attempt in itertools.count():
                    sent = headers(number) if callable(headers) else headers or {}
                    url = urls[(number + attempt) % len(urls)]
                    outcome = _send(
                        session, url, path, body(number), sent, (number, attempt), request_seconds
                    )
                    outcomes.append(outcome)
                    wait = None if retry is None else retry(outcome)
                    if wait is None or time.monotonic() + wait >= ends:
                        break
                    time.sleep(wait)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return LoadResult(sorted(outcomes, key=lambda each: each.began), time.monotonic() - began)


def again_if_unavailable(outcome: Outcome) -> float | None:
    """A `retry` for requests that were refused for now or broke before their answer began."""
    if outcome.whole or outcome.status not in (None, 429, 503):
        return None
    return min(1.0, outcome.retry_after or 0.05)


def _new_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def _shared(numbers: Iterator[int], lock: threading.Lock, ends: float) -> Iterator[int]:
    """The numbers that are left when this client comes for its next one."""
    while time.monotonic() < ends:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        yield number


def _send(
    session: requests.Session,
    url: str,
    path: str,
    body: dict[str, Any],
    headers: Mapping[str, str],
    place: tuple[int, int],
    request_seconds: float,
) -> Outcome:
    streamed = body.get("stream") is True
    began = time.monotonic()
    answer: requests.Response | None = None
    received, broken = b"", False
    try:
        with session.post(
            url + path, json=body, headers=dict(headers), timeout=request_seconds, stream=True
        ) as answer:
            for piece in answer.iter_content(None):
                received += piece
                if time.monotonic() - began > request_seconds:
                    broken = True
                    break
    except (requests.RequestException, OSError):
        broken = True
    seconds = time.monotonic() - began
    status = None if answer is None else answer.status_code
    said = _said(received.decode(errors="replace"), streamed and status == 200)
    cost = None if answer is None else answer.headers.get(COST)
    whole = status is not None and 200 <= status < 300 and not broken and said.whole
    retry_after = None if answer is None else answer.headers.get("Retry-After")
    return Outcome(
        *place,
        url,
        streamed,
        began,
        seconds,
        status,
        said.code,
        Decimal(cost) if cost is not None else said.cost_usd,
        whole=whole,
        broken=broken or (status == 200 and not said.whole and said.code is None),
        retry_after=float(retry_after) if retry_after and retry_after.isdigit() else None,
        path=path,
        retry_is_useless=answer is not None and answer.headers.get("X-Should-Retry") == "false",
    )


@dataclass(frozen=True)
class _Said:
    """What an answer's body says."""

    whole: bool
    code: str | None
    cost_usd: Decimal | None


def _said(text: str, in_events: bool) -> _Said:
    lines = text.splitlines() if in_events else [f"data: {text}"]
    code: str | None = None
    cost: Decimal | None = None
    readable = False
    for line in lines:
        try:
            data = json.loads(line.removeprefix("data: "), parse_float=Decimal)
        except ValueError:
            continue
        readable = True
        if not isinstance(data, dict):
            continue
        if error := data.get("error"):
            code = (error.get("code") or error.get("type")) if isinstance(error, dict) else str(error)
        usage = data.get("usage") or (data.get("response") or {}).get("usage")
        if isinstance(usage, dict) and usage.get("cost") is not None:
            cost = Decimal(str(usage["cost"]))
    ended = any(line.startswith(LAST_EVENTS) for line in lines) if in_events else readable
    return _Said(ended and code is None, code, cost)
