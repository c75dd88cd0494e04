"""The gateway's workers, as processes that can be killed: where this process sees them, by a shared PID
namespace or on the same machine."""

from __future__ import annotations

import time
from pathlib import PurePath

import psutil

from selftest.verdicts import DoesNotHold, NotTried

# How the gateway's command line can be told from others, whether it is gunicorn yet or not.
MARKS = ("gateway.app:", "-m gateway")
BACK_SECONDS = 30.0
POLL_SECONDS = 0.1


class Workers:
    """The workers of one gateway. `pid` is its main process, None: the only one that can be seen."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid

    def alive(self) -> list[psutil.Process]:
        """Those that live, the oldest first.

        :raises NotTried: where the gateway's processes cannot be seen
        """
        children = [child for child in self._main_process().children() if _lives(child)]
        return sorted(children, key=lambda child: child.pid)

    def kill(self, worker: psutil.Process) -> None:
        """`kill -9`.

        :raises NotTried: where that is not allowed
        """
        try:
            worker.kill()
        except psutil.NoSuchProcess:
            return
        except psutil.AccessDenied as error:
            raise NotTried("may not kill the gateway's workers: run it as the same user") from error

    def await_number(self, number: int) -> None:
        """Wait until so many live again.

        :raises DoesNotHold: where they do not
        """
        deadline = time.monotonic() + BACK_SECONDS
        while len(self.alive()) < number:
            if time.monotonic() > deadline:
                raise DoesNotHold(
                    f"{len(self.alive())} of {number} workers live {BACK_SECONDS:g} s after a kill"
                )
            time.sleep(POLL_SECONDS)

    def _main_process(self) -> psutil.Process:
        if self._pid is not None:
            try:
                return psutil.Process(self._pid)
            except psutil.NoSuchProcess as error:
                raise NotTried("the gateway's main process is gone") from error
        gateways = {process.pid: process for process in psutil.process_iter() if _is_gateway(process)}
        mains = [process for process in gateways.values() if process.ppid() not in gateways]
        if len(mains) != 1:
            raise NotTried("cannot see the gateway's processes: `docker compose run --rm selftest` can")
        return mains[0]


def _is_gateway(process: psutil.Process) -> bool:
    try:
        return is_gateway_command(process.cmdline())
    except psutil.Error:
        return False


def is_gateway_command(command: list[str]) -> bool:
    """Whether it is the command line of a gateway's process, of the main one or of a worker."""
    program, *arguments = command or [""]
    # A container's init repeats the command line of the gateway's main process, which would look like its
    # worker then.
    is_python = PurePath(program).name.startswith("python")
    return is_python and any(mark in " ".join(arguments) for mark in MARKS)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
