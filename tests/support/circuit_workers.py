"""Processes that each hold the circuits of one worker; see `circuit_program`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT

FAILURES = 3
OPEN_SECONDS = 0.5


@dataclass
class CircuitWorker:
    process: subprocess.Popen[str]
    log_file: Path

    @property
    def log(self) -> list[str]:
        return self.log_file.read_text().splitlines()

    def send(self, do: str, model: str, **more: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, "model": model, **more}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def state(self, model: str) -> str:
        return str(self._do("state", model))

    def open(self, model: str) -> None:
        """Let so many requests fail that its circuit opens."""
        assert self._do("fail", model, times=FAILURES) == "open"

    def asks(self, model: str, times: int = 1) -> int:
        """How many of so many requests were let through; the last of them is under way now."""
        return int(self._do("ask", model, times=times)["granted"])

    def longest_wait(self, model: str, times: int) -> float:
        """For one permit of so many, in seconds."""
        return float(self._do("ask", model, times=times)["longest"])

    def succeed(self, model: str) -> None:
        """The one that is under way has worked."""
        assert self._do("succeed", model) == "closed"

    def abandon(self, model: str) -> None:
        self._do("abandon", model)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _do(self, do: str, model: str, **more: int) -> Any:
        self.send(do, model, **more)
        return self.answer()


@contextmanager
def circuit_workers(
    count: int, url: str, directory: Path, models: list[str], **board: float
) -> Iterator[list[CircuitWorker]]:
    """So many, which know Redis by `url`, have logs in `directory`, and answer."""
    rules = {"failures": FAILURES, "open_seconds": OPEN_SECONDS}
    settings = json.dumps({"rules": rules, "board": board, "models": models})
    command = [sys.executable, "-m", "tests.support.circuit_program", url, settings]
    workers: list[CircuitWorker] = []
    try:
        for number in range(count):
            log_file = directory / f"circuits-{number}.log"
            with log_file.open("w") as log:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            workers.append(CircuitWorker(process, log_file))
        for worker in workers:
            worker.state(models[0])
        yield workers
    finally:
        for worker in workers:
            worker.kill()
