"""One request of a client, read piece by piece."""

from __future__ import annotations

import json
import time
from typing import Any

import requests
import urllib3

from selftest.answers import Answer

# Longer than any bound that is promised; only a request that hangs comes up to it.
MOST_SECONDS = 45.0
READ_BYTES = 65536


def post(url: str, body: Any, headers: dict[str, str], leave_after: float | None = None) -> Answer:
    """The answer, read to its end or until its client leaves, `leave_after` seconds after it asked.

    :raises requests.RequestException: where no answer has begun
    """
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    begun = time.monotonic()
    try:
        response = requests.post(
            url,
            data=data,
            headers={"Content-Type": "application/json", **headers},
            timeout=MOST_SECONDS if leave_after is None else leave_after,
            stream=True,
        )
    except requests.ReadTimeout:
        if leave_after is None:
            raise
        return Answer(0, {}, broken=True, seconds=time.monotonic() - begun)
    answer = Answer(response.status_code, response.headers)
    with response:
        try:
            while piece := response.raw.read1(READ_BYTES):
                answer.pieces.append((time.monotonic() - begun, piece))
                if leave_after is not None and time.monotonic() - begun > leave_after:
                    answer.broken = True
                    break
        except (urllib3.exceptions.HTTPError, OSError):
            answer.broken = True
    answer.seconds = time.monotonic() - begun
    return answer
