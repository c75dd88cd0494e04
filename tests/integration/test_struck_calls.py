"""A call that is broken off leaves nothing behind, and tells how far it had come, wherever it was waiting."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.config import UPSTREAM_TRANSPORTS
from tests.support.odd_providers import unreachable_provider
from tests.support.processes import ROOT
from tests.support.talking import talking_provider

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BEGINNING = b'{"choices": [{"message": {"content": "Pa'
EVENT = b'data: {"choices": []}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
# What has come wherever a call waits, by the stage in which it does so.
STAGES: dict[str, bytes | None] = {
    "connecting": None,
    "sending": None,
    "awaiting": b"",
    "in the head": OK,
    "in the body": OK + b"Content-Length: 999\r\n\r\n" + BEGINNING,
    "in a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n999\r\n" + BEGINNING,
    "streaming": STREAM + b"%x\r\n%b\r\n" % (len(EVENT), EVENT),
}


@pytest.fixture(scope="module", params=UPSTREAM_TRANSPORTS)
def told(request: pytest.FixtureRequest) -> Any:
    """What became of a call in each stage, struck or left to its time-outs."""
    with ExitStack() as opened:
        urls = {}
        for stage, sent in STAGES.items():
            if stage == "connecting":
                urls[stage] = opened.enter_context(unreachable_provider())
            elif sent is None:
                listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
                urls[stage] = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            else:
                urls[stage] = opened.enter_context(talking_provider(sent)).url
        ran = subprocess.run(
            [sys.executable, "-m", "tests.support.struck_calls", request.param, json.dumps(urls)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert ran.stderr == ""
    return json.loads(ran.stdout)


@pytest.mark.parametrize("stage", STAGES)
def test_who_breaks_a_call_off_learns_how_far_it_was(told: Any, stage: str) -> None:
    call = told["struck"][stage]
    assert call["outcome"] == "Struck"
    assert call["was_sent"] is (stage != "connecting")
    assert call["received"] == (BEGINNING.decode() if stage in ("in the body", "in a chunk") else "")
    assert call["events"] == (EVENT.decode() if stage == "streaming" else "")


@pytest.mark.parametrize("kind", ["slow", "too long"])
@pytest.mark.parametrize("stage", STAGES)
def test_no_wait_is_longer_than_it_may_be(told: Any, stage: str, kind: str) -> None:
    call = told[kind][stage]
    assert call["outcome"] == "UpstreamTimeout"
    assert 0.2 <= call["seconds"] < 2


@pytest.mark.parametrize("kind", ["struck", "slow", "too long"])
def test_no_connection_is_left(told: Any, kind: str) -> None:
    assert told[kind]["sockets left"] == 0
