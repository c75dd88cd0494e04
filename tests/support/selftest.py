"""`make selftest`: a stack of local processes on free ports, and the self-test against it.

Redis starts again by itself after a stop, as Docker Compose has it.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selftest.cli import main
from selftest.settings import Settings
from tests.support.processes import (
    RedisServer,
    Service,
    redis_server,
    running_gateway,
    running_model,
)

LOOK_SECONDS = 0.1


@contextmanager
def supervised(server: RedisServer) -> Iterator[None]:
    """Start the Redis again whenever it has stopped, as long as the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if not server.is_running:
                server.start()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


@contextmanager
def stack_for_selftest(folder: Path) -> Iterator[Settings]:
    """A whole stack with an admin key; gives what the self-test must know of it."""
    redis_folder = folder / "redis"
    redis_folder.mkdir()
    with (
        redis_server(redis_folder) as server,
        supervised(server),
        running_model("cheap_model", folder) as cheap,
        running_model("expensive_model", folder) as expensive,
    ):
        admin_key = secrets.token_urlsafe()
        with running_gateway(
            folder,
            REDIS_URL=server.url,
            CHEAP_MODEL_URL=f"{cheap.url}/v1",
            EXPENSIVE_MODEL_URL=f"{expensive.url}/v1",
            GATEWAY_ADMIN_KEY=admin_key,
        ) as gateway:
            yield settings_for(gateway, cheap.url, expensive.url, server.url, admin_key)


def settings_for(
    gateway: Service,
    cheap_model_url: str,
    expensive_model_url: str,
    redis_url: str,
    admin_key: str | None,
    prefix: str = "gateway",
) -> Settings:
    """What the self-test must know of a stack of local processes whose Redis is its own."""
    return Settings(
        gateway_url=gateway.url,
        cheap_model_url=cheap_model_url,
        expensive_model_url=expensive_model_url,
        redis_url=redis_url,
        redis_key_prefix=prefix,
        own_redis_url=redis_url,
        admin_key=admin_key,
        gateway_pid=gateway.process.pid,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, stack_for_selftest(Path(name)) as settings:
        status = main(sys.argv[1:], settings)
    sys.exit(status)
