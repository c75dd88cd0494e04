"""A provider that answers when a test lets it, so that a gateway has exactly as much in work as is wanted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.waiting import eventually

MOST_SECONDS = 30
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
LONG_PIECE = "x" * 2**16
# In a prompt: a streamed answer of 16 MiB, more than a connection takes from a client that does not read.
LONG_ANSWER, LONG_PIECES = "[[long]]", 256


class GatedProvider:
    """Asks for chat completions wait while the gate is closed: plain ones before they are answered, streamed
    ones after their first piece. `in_work` is how many are there now, `come` how many have been so far."""

    def __init__(self) -> None:
        self.url = ""
        self.come = 0
        self._changed = threading.Condition()
        self._is_open = True
        self._passes = 0
        self._in_work = 0
        self._failures = 0
        self._status = 503

    @property
    def in_work(self) -> int:
        return self._in_work

    def close(self) -> None:
        with self._changed:
            self._is_open = False

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._passes = 0
            self._changed.notify_all()

    def let_one_through(self) -> None:
        with self._changed:
            self._passes += 1
            self._changed.notify()

    def fail(self, times: int, status: int = 503) -> None:
        """Answer the next so many at once with this status, whatever the gate."""
        with self._changed:
            self._failures, self._status = times, status

    def failure(self) -> int | None:
        """The status for the one that has come, None where it is answered as usual."""
        with self._changed:
            if not self._failures:
                return None
            self._failures -= 1
            return self._status

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self.open()

    def has(self, count: int, seconds: float = 15) -> bool:
        """Whether so many are in work before long."""
        return eventually(lambda: self._in_work == count, seconds)

    @contextmanager
    def working(self) -> Iterator[None]:
        with self._changed:
            self._in_work += 1
            self.come += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_work -= 1

    def wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._passes > 0, MOST_SECONDS)
            if not self._is_open:
                self._passes -= 1


@contextmanager
def gated_provider() -> Iterator[GatedProvider]:
    provider = GatedProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with provider.working(), suppress(OSError):
                if (status := provider.failure()) is not None:
                    self.refuse(status)
                    return
                asked: dict[str, Any] = json.loads(body)
                self.answer(asked, 1 + LONG_PIECES * (LONG_ANSWER in asked["messages"][-1]["content"]))

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *values: Any) -> None:
            return

        def answer(self, asked: dict[str, Any], pieces: int) -> None:
            if not asked.get("stream"):
                provider.wait()
                message = {"role": "assistant", "content": "hi"}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                self.begin("application/json")
                self.wfile.write(json.dumps({"choices": [choice], "usage": USAGE}).encode())
                return
            self.begin("text/event-stream")
            self.say("hi")
            provider.wait()
            for _ in range(pieces - 1):
                self.say(LONG_PIECE)
            self.say(None, finish_reason="stop")
            self.wfile.write(b"data: [DONE]\n\n")

        def refuse(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"message": "No.", "type": "a_kind"}}).encode())

        def begin(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()

        def say(self, text: str | None, finish_reason: str | None = None) -> None:
            delta = {} if text is None else {"content": text}
            chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        provider.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield provider
        finally:
            provider.open()
            server.shutdown()
            thread.join()
