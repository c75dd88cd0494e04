"""What is received of a provider's whole answer, piece by piece, each in its time."""

from __future__ import annotations

import requests

from gateway.errors import UpstreamError
from gateway.timeouts import Deadline, time_limit
from gateway.transport import READ_BYTES, AnswerBody
from gateway.upstream_errors import FOREIGN_ERRORS, SLOW, translated

MAX_ANSWER_BYTES = 256 * 2**20  # thousands of embeddings take a hundred million


def body_received(
    response: requests.Response, body: bytearray, idle: float, deadline: Deadline
) -> tuple[bytes, UpstreamError | None]:
    """The body, or as much of it as came before it broke off, and how it did. `body` has what has come
    wherever this waits."""
    if has_come_whole(response):  # with its head, as most answers do
        whole: bytes = response.raw.read1()
        return whole, None
    try:
        while piece := next_piece(response, idle, deadline):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise UpstreamError("The provider's answer is too large.")
    except UpstreamError as failure:
        return bytes(body), failure
    return bytes(body), None


def next_piece(response: requests.Response, idle: float, deadline: Deadline) -> bytes:
    """What comes next of the body, none at its end.

    :raises UpstreamError: where it breaks off, or nothing comes for `idle` seconds or until `deadline`
    """
    try:
        with time_limit(idle, deadline, SLOW):
            piece: bytes = response.raw.read1(READ_BYTES, decode_content=True)
            return piece
    except FOREIGN_ERRORS as error:
        raise translated(error) from error


def has_come_whole(response: requests.Response) -> bool:
    """Whether the rest of the body can be read without a wait. Not known by every transport."""
    return isinstance(response.raw, AnswerBody) and response.raw.is_whole
