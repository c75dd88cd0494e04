"""What a budget holds for a call that was given up while it was asked for is freed, even by a death right
then."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.budget import Budget
from gateway.ledger.connection import connect
from tests.support.outboxes import NAMES, another_process, never_made, recovery_of
from tests.support.processes import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

HOLDS = NAMES.holds("gateway", Budget(Decimal(1)).window(datetime.now(UTC)))
# Its client leaves while Redis has been asked and has not answered yet, and it dies with that.
WORKER = """
from gevent import monkey; monkey.patch_all()
import os, signal, sys
from decimal import Decimal
from pathlib import Path
import gevent
from gateway.budget import Budget, Scope
from gateway.client import ClientLeft
from gateway.keys.virtual_key import Tenant
from gateway.ledger.connection import connect
from gateway.ledger.ledger import Ledger
from gateway.ledger.recovery import FoundBill
from gateway.ledger.reservation import Call

url, directory = sys.argv[1:]
client = connect(url, 5)
ledger = Ledger(client, "gateway", journal_directory=Path(directory), patience=5)
ledger.start(lambda call, record: FoundBill(None, stated=True))
tenant = Tenant(None, (Scope("gateway", Budget(Decimal(1))),))

def reserve():
    return ledger.reserve(Call("CheapModel", "CheapModel", 1, tenant, most=Decimal("0.5")))

ledger.release(reserve())  # Redis has the scripts from now on
gevent.sleep(0.1)
os.kill(client.info("server")["process_id"], signal.SIGSTOP)
asking = gevent.spawn(reserve)
gevent.sleep(0.1)
asking.kill(ClientLeft, block=False)
gevent.get_hub().loop.run_callback(os.kill, os.getpid(), signal.SIGKILL)
gevent.sleep(5)
"""


def test_a_worker_that_dies_when_its_client_has_just_left_holds_nothing(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    directory = tmp_path / "journals"
    directory.mkdir()
    with another_process(WORKER, own_redis.url, str(directory)) as worker:
        assert worker.wait(15) == -signal.SIGKILL
    own_redis.resume()
    with connect(own_redis.url, 1) as client:
        assert eventually(lambda: client.zcard(HOLDS) == 1)  # what had been asked came about
        recovery = recovery_of(directory, client, never_made)

        def is_free() -> bool:
            recovery.look()
            return not client.zcard(HOLDS)

        assert eventually(is_free, 3)
