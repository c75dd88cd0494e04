"""A provider that answers one request after another on a connection, with bytes that a test has written."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Talk:
    """What a provider has been asked so far: the requests' heads and bodies, by how many connections, and how
    many of these are over."""

    url: str
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    ended: int = 0


@contextmanager
def talking_provider(
    *answers: bytes, closes: bool = False, reads_body: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[Talk]:
    """Gives the answers in turn, the last one from then on, and closes the connection after each where it
    `closes`; after an empty one it says nothing until its client leaves. One that reads no body answers as
    soon as it has the head."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        talk = Talk(f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}/v1")

        def answer(client: socket.socket) -> None:
            with suppress(OSError), client:
                connection = client if tls is None else tls.wrap_socket(client, server_side=True)
                with connection:
                    while request := _request(connection, reads_body):
                        talk.requests.append(request)
                        wanted = answers[min(len(talk.requests), len(answers)) - 1]
                        connection.sendall(wanted)
                        if closes:
                            break
            talk.ended += 1

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    talk.connections += 1
                    threading.Thread(target=answer, args=(client,), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield talk
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _request(connection: socket.socket, reads_body: bool) -> tuple[bytes, bytes] | None:
    """The next request, once all of it has come; None where its client has left."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (piece := connection.recv(65536)):
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    while reads_body and len(body) < length:
        if not (piece := connection.recv(65536)):
            return None
        body += piece
    return head, body
