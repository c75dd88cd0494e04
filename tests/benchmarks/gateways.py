"""The gateways that the speed benchmarks start: this repository's own in named variants, and the stock."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measured import Target, ask
from tests.benchmarks.rig import CHAT, Rig, favour
from tests.support.ports import lasting_port
from tests.support.processes import ROOT, STOP_SECONDS, Service, spawn
from tests.support.spending import ADMIN_KEY, create_key

START_SECONDS = 240.0
# By name, the settings in which each variant differs from what comes without any.
DEFAULT, LEANEST, PLAIN = "default", "leanest", "plain"
VARIANTS: dict[str, dict[str, str]] = {
    DEFAULT: {},
    # The least that it can do: no line in the log, no journal, nobody else asked.
    LEANEST: {
        "LOG_LEVEL": "warning",
        "JOURNAL_DIR": "",
        "CIRCUIT_BREAKER": "off",
        "UPSTREAM_RETRIES": "0",
        "UPSTREAM_FALLBACKS": "off",
    },
    # What lies below Flask and requests as it comes, without parts of our own.
    PLAIN: {"HTTP_SERVER": "gunicorn", "UPSTREAM_TRANSPORT": "urllib3"},
}
# So much that nothing is refused.
PLENTY = {"budget_usd": "100000000", "rpm": 10**9, "tpm": 10**12}
# gunicorn, and redis-py without the parser in C, even where that is installed.
STOCK_START = "import sys; sys.modules['hiredis'] = None; from gunicorn.app.wsgiapp import run; run()"
STOCK_KEY = "Authorization: Bearer sk-bench"


@dataclass(frozen=True)
class Gateway:
    """How one is started. `target_of` tells where it is to be asked, None as long as that is not known."""

    name: str
    command: list[str]
    environ: dict[str, str]
    log_file: Path
    target_of: Callable[[Service], Target | None]

    @contextmanager
    def running(self) -> Iterator[Started]:
        """One that has answered its first request, until the block ends.

        :raises RuntimeError: where it ends before, or does not answer in time
        """
        self.log_file.unlink(missing_ok=True)
        service = Service("", self.command, self.environ, self.log_file)
        began = time.monotonic()
        service.process = spawn(self.command, self.log_file, self.environ)
        favour(service.process.pid)
        try:
            target = self._first_answer(service)
            yield Started(service, target, time.monotonic() - began)
        finally:
            end(service)

    def _first_answer(self, service: Service) -> Target:
        deadline, said = time.monotonic() + START_SECONDS, "nothing"
        while time.monotonic() < deadline:
            if service.process.poll() is not None:
                break
            if (target := self.target_of(service)) is not None:
                with contextlib.suppress(OSError):
                    status, said = ask(target)
                    if status == 200:
                        return target
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} did not answer, last {said[:300]}:\n{service.log[-2000:]}")


@dataclass(frozen=True)
class Started:
    """A gateway that serves, and the seconds from its start to its first answer."""

    service: Service
    target: Target
    cold_start: float


def end(service: Service) -> None:
    """Stop it as `docker compose stop` does, or else by force."""
    if service.process.poll() is None:
        service.process.terminate()
        try:
            service.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            service.kill()


def own_gateway(
    rig: Rig, name: str, settings: dict[str, str], *, checkout: Path = ROOT, cores: str = ""
) -> Gateway:
    """This repository's own, or that of another checkout of it, with one worker and a journal; it counts
    apart from all others. `settings` are environment variables, which go before these."""
    port = lasting_port()
    journal = rig.folder / f"journal-{port}"
    journal.mkdir()
    environ = {
        "GATEWAY_PORT": str(port),
        "GATEWAY_ADMIN_KEY": ADMIN_KEY,
        "JOURNAL_DIR": str(journal),
        "MODELS_FILE": str(rig.models_file),
        "REDIS_URL": rig.redis_url,
        "REDIS_KEY_PREFIX": f"gateway-{port}",
        "REDIS_TIMEOUT_SECONDS": "1",  # a machine's hiccup is no outage
        "WEB_CONCURRENCY": "1",
        **settings,
    }
    start = ["sh", "-c", 'cd "$0" && exec "$@"', str(checkout), sys.executable, "-m", "gateway"]
    log_file = rig.folder / f"{port}.log"
    return Gateway(name, rig.pinned(start, cores), environ, log_file, at_port(name, port))


def stock_gateway(rig: Rig, name: str) -> Gateway:
    """The one of `tests/benchmarks/stock.py`, under gunicorn's gevent worker as it comes."""
    port = lasting_port()
    environ = {
        "PLAIN_URL": f"http://127.0.0.1:{rig.upstream}/v1",
        "STREAM_URL": f"http://127.0.0.1:{rig.stream_upstream}/v1",
        "REDIS_URL": rig.redis_url,
    }
    command = [sys.executable, "-c", STOCK_START, "--workers", "1", "--worker-class", "gevent"]
    command += ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "--http-parser", "python"]
    command += ["tests.benchmarks.stock:create_app()"]
    return Gateway(
        name, rig.pinned(command), environ, rig.folder / "stock.log", at_port(name, port, STOCK_KEY)
    )


def at_port(name: str, port: int, *headers: str) -> Callable[[Service], Target]:
    """Where one is that serves all at the usual path of this port."""
    url = f"http://127.0.0.1:{port}"
    return lambda service: Target(name, url + CHAT, url + CHAT, headers, service=service)


def key_header(target: Target) -> str:
    """The header of a new virtual key of ours, with a budget and limits that refuse nothing."""
    _, headers = create_key(target.url.removesuffix(CHAT), **PLENTY)
    return f"Authorization: {headers['Authorization']}"
