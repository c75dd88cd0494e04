"""What a gateway has to serve while something dies: many clients, all APIs, plain and streamed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.support.load import LoadResult, Outcome, again_if_unavailable, run_load
from tests.support.stack import LONG, SHORT

CLIENTS = 32
# None may take longer, whatever happens; the slowest answer takes about half a second.
REQUEST_SECONDS = 20.0
WRITTEN = (None, 12, None, 60)  # tokens that are asked for


def chat_body(number: int) -> dict[str, Any]:
    """In turn for the cheap model and the dear one, plain and streamed, with and without usage, the answer as
    long as it comes or longer."""
    content = LONG if number // 2 % 2 else SHORT
    if tokens := WRITTEN[number // 8 % 4]:
        content += f" [[write {tokens} tokens]]"
    body: dict[str, Any] = {"messages": [{"role": "user", "content": content}]}
    if number % 2:
        body["stream"] = True
        if number // 4 % 2:
            body["stream_options"] = {"include_usage": True}
    return body


def responses_body(number: int) -> dict[str, Any]:
    return {"model": "auto", "input": LONG if number // 2 % 2 else SHORT, "stream": number % 2 == 1}


def messages_body(number: int) -> dict[str, Any]:
    content = LONG if number // 2 % 2 else SHORT
    return {
        "model": "auto",
        "max_tokens": 200,
        "messages": [{"role": "user", "content": content}],
        "stream": number % 2 == 1,
    }


def embeddings_body(number: int) -> dict[str, Any]:
    return {"model": "auto", "input": [SHORT] * (number % 3 + 1)}


Body = Callable[[int], dict[str, Any]]
# Of eight clients, how many ask by which API.
SHARES: dict[str, tuple[int, Body]] = {
    "/v1/chat/completions": (5, chat_body),
    "/v1/responses": (1, responses_body),
    "/v1/messages": (1, messages_body),
    "/v1/embeddings": (1, embeddings_body),
}


def run_traffic(
    url: str,
    *,
    seconds: float,
    clients: int = CLIENTS,
    headers: Mapping[str, str] | Callable[[int], Mapping[str, str]] | None = None,
    retry: Callable[[Outcome], float | None] | None = again_if_unavailable,
    request_seconds: float = REQUEST_SECONDS,
) -> LoadResult:
    """Ask for so many seconds; who is refused for now, or whose connection breaks, asks again. None leaves
    before its answer is whole."""
    with ThreadPoolExecutor(len(SHARES)) as threads:
        loads = [
            threads.submit(
                run_load,
                [url],
                clients=clients * share // 8,
                seconds=seconds,
                body=body,
                path=path,
                headers=headers,
                retry=retry,
                request_seconds=request_seconds,
            )
            for path, (share, body) in SHARES.items()
        ]
        results = [load.result() for load in loads]
    outcomes = [outcome for result in results for outcome in result.outcomes]
    return LoadResult(
        sorted(outcomes, key=lambda each: each.began), max(result.seconds for result in results)
    )


@contextmanager
def meanwhile(fault: Callable[[], None]) -> Iterator[None]:
    """Do something to the stack while the block runs; what fails there fails the test."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            fault()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]
