"""How many connections a worker takes, and what it does where the system allows fewer open files."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gateway.config import Settings
from gateway.open_files import connections_wanted, connections_within, files_wanted
from tests.support.processes import ROOT

ALLOW = """
import resource
from gateway.open_files import allow_open_files
print(allow_open_files({}), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize("requests", ["1", "50", "2000", "100000"])
@pytest.mark.parametrize("queued", ["0", "100", "100000"])
def test_all_slots_and_as_many_slow_clients_and_a_full_queue_leave_room_for_probes(
    requests: str, queued: str
) -> None:
    settings = Settings.from_env({"MAX_REQUESTS_IN_WORK": requests, "MAX_QUEUED_REQUESTS": queued})
    assert connections_wanted(settings) - 2 * int(requests) - int(queued) >= 500
    assert files_wanted(settings) > connections_wanted(settings) + int(requests)
    assert connections_within(files_wanted(settings), settings) == connections_wanted(settings)


@pytest.mark.parametrize("files", [1, 10, 300, 1024, 4096])
def test_fewer_files_are_shared_between_clients_and_providers(files: int) -> None:
    settings = Settings.from_env({})
    connections = connections_within(files, settings)
    assert 1 <= connections < connections_wanted(settings)
    assert connections <= max(1, files * 0.6)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed"),
    [(100, 400, 300, 300), (100, 400, 500, 400), (200, 400, 150, 150), (400, 400, 900, 400)],
)
def test_the_limit_is_raised_as_far_as_is_wanted_and_allowed(
    soft: int, hard: int, wanted: int, allowed: int
) -> None:
    limits = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$0" -c "$1"'
    command = ["sh", "-c", limits, sys.executable, ALLOW.format(wanted)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(allowed), str(max(soft, allowed)), str(hard)]
