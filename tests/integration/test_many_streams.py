"""Hundreds of streams at once through two workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.conftest import StartGateway
from tests.support.many_streams import Request, run_streams
from tests.support.processes import running_model
from tests.support.waiting import eventually

pytestmark = [pytest.mark.heavy, pytest.mark.load]

STREAMS, CHUNKS = 500, 50


def test_five_hundred_streams_at_once_are_all_whole_and_in_order(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    # Slow enough for all to be in work before the first has ended.
    with running_model("cheap_model", tmp_path, TOKEN_INTERVAL_SECONDS="0.1") as model:
        gateway = start_gateway(CHEAP_MODEL_URL=f"{model.url}/v1", WEB_CONCURRENCY="2")
        wanted = [Request(number, CHUNKS) for number in range(STREAMS)]

        streams = run_streams(gateway.gateway_url, wanted)

        assert streams.wrong == {}
        assert streams.most_in_work == STREAMS
        assert eventually(lambda: gateway.metrics()["totalRequests"] == STREAMS)
        bill = requests.get(f"{model.url}/ledger", timeout=10).json()
        assert (bill["calls"], bill["output_tokens"]) == (STREAMS, STREAMS * CHUNKS)
        assert gateway.counted("CheapModel").output_tokens == STREAMS * CHUNKS
