"""A gateway and a Redis that a test may do anything to, before the mock models of the session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import GatewayUnderTest
from tests.support.processes import RedisServer, running_gateway

PREFIX = "gateway"


@contextmanager
def own_gateway(
    folder: Path,
    model_urls: dict[str, str],
    redis_server: RedisServer,
    redis_url: str | None = None,
    **settings: str,
) -> Iterator[GatewayUnderTest]:
    """A gateway of two workers, whose way to its Redis is `redis_url` where that is another than Redis's
    own."""
    environ = {
        "REDIS_URL": redis_url or redis_server.url,
        "REDIS_KEY_PREFIX": PREFIX,
        "WEB_CONCURRENCY": "2",
        "CHEAP_MODEL_URL": f"{model_urls['CheapModel']}/v1",
        "EXPENSIVE_MODEL_URL": f"{model_urls['ExpensiveModel']}/v1",
        **settings,
    }
    with running_gateway(folder, **environ) as service:
        yield GatewayUnderTest(service.url, model_urls, redis_server.url, PREFIX, service)
