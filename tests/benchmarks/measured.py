"""What is measured: something that answers chat completions, the processes it consists of, their figures."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.loads import Load, StreamLoad, run_streams, run_wrk
from tests.benchmarks.rig import BODY, MODEL, STREAM_MODEL, Rig
from tests.support.processes import Service

MEBIBYTE = 2**20
QUIET_SECONDS = 5.0
QUIET_SHARE = 0.1
TRIES, MUCH_NOISE = 3, 0.15


@dataclass(frozen=True)
class Target:
    """Where chat completions are answered, plain and streamed, and what clients send beside the body.

    `service` is who answers, None where nobody is to be measured.
    """

    name: str
    url: str
    stream_url: str
    headers: tuple[str, ...] = ()
    stream_headers: tuple[str, ...] = ()
    service: Service | None = None
    model: str = MODEL
    stream_model: str = STREAM_MODEL

    @property
    def processes(self) -> list[psutil.Process]:
        """The service's processes, its first one first."""
        return [] if self.service is None else tree_of(self.service)

    def measure(self, rig: Rig, clients: int, seconds: int, *, quiet: bool = True) -> Slice:
        """What it does for so many clients, who ask without a pause."""
        body = rig.body_file(BODY | {"model": self.model})
        return measure(
            rig,
            self.processes,
            lambda: run_wrk(self.url, body, clients=clients, seconds=seconds, headers=self.headers),
            quiet=quiet,
        )

    def measure_streams(self, rig: Rig, streams: int) -> StreamSlice:
        """What so many streams at once cost, from their beginning to their ends."""
        processes = self.processes
        wait_for_quiet(rig.core)
        before = cpu_seconds(processes)
        headers = self.stream_headers or self.headers
        load = run_streams(rig.folder, self.stream_url, streams, headers=headers, model=self.stream_model)
        time.sleep(0.3)  # their bills
        return StreamSlice(load, (cpu_seconds(processes) - before) * 1e3 / streams, memory(processes))


@dataclass(frozen=True)
class Slice:
    """What wrk saw, the microseconds of CPU that a request took, the memory of the largest process when it
    ended, in MiB, and the share of the time that others took on the core: the machine's noise."""

    load: Load
    cpu_us: float
    memory: float
    noise: float

    @property
    def per_second(self) -> float:
        return self.load.requests / self.load.seconds


@dataclass(frozen=True)
class StreamSlice:
    """What the clients of the streams saw, the milliseconds of CPU that a stream took, and the memory."""

    load: StreamLoad
    cpu_ms: float
    memory: float


def measure(
    rig: Rig, processes: list[psutil.Process], act: Callable[[], Load], *, quiet: bool = True
) -> Slice:
    """What a load costs these processes. With `quiet`, on a core that was so when it began, and once more
    where others took much of it all the same; the least disturbed time counts."""
    seen = _measure_once(rig, processes, act, quiet=quiet)
    for _ in range(TRIES - 1 if quiet and processes else 0):
        if seen.noise < MUCH_NOISE:
            break
        again = _measure_once(rig, processes, act, quiet=quiet)
        seen = min(seen, again, key=lambda each: each.noise)
    return seen


def _measure_once(
    rig: Rig, processes: list[psutil.Process], act: Callable[[], Load], *, quiet: bool
) -> Slice:
    if quiet:
        wait_for_quiet(rig.core)
    began, busy, before = time.monotonic(), core_seconds(rig.core), cpu_seconds(processes)
    load = act()
    spent = cpu_seconds(processes) - before
    others = max(0.0, core_seconds(rig.core) - busy - spent) / (time.monotonic() - began)
    return Slice(load, spent * 1e6 / max(1, load.requests), memory(processes), others)


def ask(target: Target) -> tuple[int, str]:
    """One request: the status, and what was said.

    :raises OSError: where there is no answer
    """
    place, _, path = target.url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(place, timeout=30)
    try:
        headers = dict(line.split(": ", 1) for line in target.headers)
        body = json.dumps(BODY | {"model": target.model})
        connection.request("POST", f"/{path}", body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise OSError(repr(error)) from error
    finally:
        connection.close()


def tree_of(service: Service) -> list[psutil.Process]:
    first = psutil.Process(service.process.pid)
    return [first, *first.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """What they have used so far, to the nanosecond: `/proc/PID/stat` counts in hundredths of a second, in
    which a short slice's figures would drown."""
    return sum(time.clock_gettime(~process.pid << 3 | 2) for process in processes)


def memory(processes: list[psutil.Process]) -> float:
    """The resident memory of the largest of them, in MiB."""
    return max((process.memory_info().rss / MEBIBYTE for process in processes), default=0.0)


def wait_for_quiet(core: int) -> None:
    """Return when other programs leave this core alone, or after a few seconds."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        began, busy = time.monotonic(), core_seconds(core)
        time.sleep(0.2)
        share = (core_seconds(core) - busy) / (time.monotonic() - began)
        if share < QUIET_SHARE or time.monotonic() > deadline:
            return


def core_seconds(core: int) -> float:
    """Seconds for which this core was busy, or away since the machine is a guest of another."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, interrupts, soft, stolen = (int(field) for field in fields[:8])
            return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
    raise RuntimeError(f"no core {core}")
