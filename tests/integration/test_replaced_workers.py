"""Workers and catalogs are replaced under load, and no request is lost: no client asks twice here."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from tests.conftest import StartGateway
from tests.support.agreement import assert_totals_agree, books_of
from tests.support.load import run_load
from tests.support.processes import ROOT
from tests.support.traffic import CLIENTS, chat_body, meanwhile
from tests.support.waiting import eventually

LOAD_SECONDS = 9
EXCHANGES = 20


def test_neither_a_reload_nor_a_changed_models_file_loses_a_request(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    shipped = (ROOT / "gateway" / "models.toml").read_text()
    file = tmp_path / "models.toml"
    file.write_text(shipped)
    gateway = start_gateway(MODELS_FILE=str(file), WEB_CONCURRENCY="2")
    service, before = gateway.service, books_of(gateway)
    first = {worker.pid for worker in service.workers}

    def disturb() -> None:
        for number in range(EXCHANGES):
            time.sleep(0.3)
            new = tmp_path / "new.toml"
            new.write_text(f"{shipped}\n# change {number}\n")
            new.replace(file)
            if number in (3, 12):
                service.process.send_signal(signal.SIGHUP)
            if number == 8:
                service.workers[0].terminate()

    def headers(number: int) -> dict[str, str]:
        return {"Connection": "close" if number % 3 else "keep-alive"}

    with meanwhile(disturb):
        result = run_load(
            [gateway.gateway_url],
            clients=CLIENTS,
            seconds=LOAD_SECONDS,
            body=chat_body,
            headers=headers,
        )
    print(result)
    assert len(result.outcomes) > 100
    assert result.whole == result.outcomes, [each for each in result.outcomes if not each.whole][:5]
    assert eventually(lambda: not first & {worker.pid for worker in service.workers})
    assert_totals_agree(gateway, before, within_seconds=5)
