"""The way to Redis: clients that never wait long and never send twice, and the one place that turns what
can go wrong on it into `LedgerUnavailable`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.environment import InvalidSetting
from gateway.errors import LedgerUnavailable

CONNECTIONS = 64
# Many requests may want one at once and wait for each other here.
WAIT_FOR_CONNECTION_SECONDS = 10.0


def connect(url: str, timeout: float) -> redis.Redis:
    """A client that gives up after `timeout` seconds, waits for a free connection instead of failing,
    and never sends a command twice, since an increment that timed out may have counted.
    Nothing is sent before the first command.

    :raises InvalidSetting: for a URL whose database or options make no sense
    """
    try:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=WAIT_FOR_CONNECTION_SECONDS,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        # Not connected by this; the URL's options are only looked at here.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise InvalidSetting("REDIS_URL", "has a part that Redis clients do not know") from error
    return redis.Redis.from_pool(pool)


@contextmanager
def translating_errors(seconds: float | None = None) -> Iterator[None]:
    """
    :raises LedgerUnavailable: for whatever Redis or the way to it does wrong, and where the block takes
        longer than so many `seconds`, be it that each of its steps alone does not
    """
    try:
        with gevent.Timeout(seconds, redis.TimeoutError("too slow")):
            yield
    except (redis.RedisError, OSError) as error:
        raise LedgerUnavailable("The ledger cannot be reached now.") from error
