"""Requests of several clients at once, for as long as something is done to the stack."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from selftest.answers import Answer
from selftest.stack import LONG, SHORT, Stack
from selftest.verdicts import Trial

CLIENTS = 8
TRIES = 5
PAUSE_SECONDS = 0.3


@dataclass
class Result:
    """What became of the requests: `whole` answers, those that had to be asked `again`, and what the `failed`
    got in the end."""

    whole: int = 0
    again: int = 0
    slowest: float = 0.0
    failed: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, answer: Answer | None, tries: int, otherwise: str) -> None:
        """Count one request by its last answer."""
        with self.lock:
            self.again += tries > 1
            if answer is not None:
                self.slowest = max(self.slowest, answer.seconds)
            if answer is not None and answer.looks_whole:
                self.whole += 1
            else:
                self.failed.append(answer.code if answer is not None else otherwise)

    @property
    def asked(self) -> int:
        """All requests."""
        return self.whole + len(self.failed)

    def require_all(self, trial: Trial) -> None:
        """
        :raises DoesNotHold: where one got no whole answer
        """
        trial.times = self.asked
        told = f"{len(self.failed)} of {self.asked} requests failed, the first with {self.failed[:1]}"
        trial.expect(not self.failed and self.whole > 0, told)


def request_of(number: int) -> dict[str, Any]:
    """The mix: for the cheap and the dear model, plain and streamed, short and longer answers."""
    content = LONG if number // 2 % 2 else SHORT
    if number // 4 % 2:
        content += " [[write 60 tokens]]"
    streamed = {"stream": True, "stream_options": {"include_usage": number // 8 % 2 == 1}}
    return {"content": content, **(streamed if number % 2 else {})}


def mixed(stack: Stack, number: int, *, key: str | None = None, clients: int = CLIENTS) -> list[Answer]:
    """The answers to so many requests of the mix."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda n: stack.chat(key=key, **request_of(n)), range(number)))


@contextmanager
def traffic(
    stack: Stack, *, key: str | None = None, clients: int = CLIENTS, tries: int = 1
) -> Iterator[Result]:
    """Requests of the mix for as long as the block runs. One that breaks off or cannot be served just now is
    asked again, up to `tries` in all, as the official clients do."""
    result, stop = Result(), threading.Event()

    def run(client: int) -> None:
        number = client
        while not stop.is_set():
            ask(stack, request_of(number), key, tries, result)
            number += clients

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(run, client) for client in range(clients)]
        try:
            yield result
        finally:
            stop.set()
    for each in running:
        each.result()


def ask(stack: Stack, request: dict[str, Any], key: str | None, tries: int, result: Result) -> None:
    """One request, asked again as often as need be."""
    answer, otherwise = None, ""
    for attempt in range(1, tries + 1):
        try:
            answer = stack.chat(key=key, **request)
        except requests.RequestException as error:
            answer, otherwise = None, type(error).__name__
        if attempt == tries or (answer is not None and not _is_worth_repeating(answer)):
            break
        time.sleep(PAUSE_SECONDS * attempt)
    result.note(answer, attempt, otherwise)


def _is_worth_repeating(answer: Answer) -> bool:
    broken_stream = answer.status == 200 and not answer.looks_whole
    return broken_stream or answer.status in (429, 500, 502, 503)
