"""Providers that no mock model is: one that cannot be connected to, and one that never comes to an end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

EVERY_SECONDS = 0.05
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECE = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":0,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"and "},"finish_reason":null}]}\n\n'
)


@contextmanager
def unreachable_provider() -> Iterator[str]:
    """Gives the base URL of one to which no connection comes about, nor is refused."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):  # until those that wait to be accepted are as many as may
            waiting = opened.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(listener.getsockname())
            except TimeoutError:
                break
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@contextmanager
def endless_provider() -> Iterator[str]:
    """Gives the base URL of one that answers a piece every 0.05 s, of a stream where one is asked for, until
    its client leaves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer(client: socket.socket) -> None:
            with client, suppress(OSError):
                streamed = b'"stream": true' in _request(client)
                piece = PIECE if streamed else b" "
                client.sendall(HEAD % (b"text/event-stream" if streamed else b"application/json"))
                while True:
                    client.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
                    time.sleep(EVERY_SECONDS)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=answer, args=(client,), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _request(client: socket.socket) -> bytes:
    """The request, once all of it has come."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += client.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if b"content-length" in line
    )
    while len(body) < length:
        body += client.recv(65536)
    return body
