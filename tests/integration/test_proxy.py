"""The faults that tests of the ledger put between the gateway and Redis do what they say."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.proxy import TcpProxy, tcp_proxy
from tests.support.resp import Messages
from tests.support.waiting import eventually

COUNT = "return redis.call('INCRBY', KEYS[1], 1)"
REPLIES = [
    b"+OK\r\n",
    b"$-1\r\n",
    b"$0\r\n\r\n",
    b"$4\r\n\r\n\r\n\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n$-1\r\n-ERR no\r\n",
    b"%1\r\n+key\r\n~2\r\n#t\r\n,1.5\r\n",
    b"|1\r\n+ttl\r\n:1\r\n_\r\n",
    b"=7\r\ntxt:abc\r\n",
]


@pytest.fixture
def proxy(redis_url: str) -> Iterator[TcpProxy]:
    with tcp_proxy(redis_url) as one:
        yield one


@pytest.fixture
def key(redis_url: str) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex}"
    yield name
    with redis.Redis.from_url(redis_url) as client:
        client.delete(name)


def value_of(redis_url: str, key: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.get(key) or 0)


def client_of(proxy: TcpProxy, timeout: float = 5) -> redis.Redis:
    return redis.Redis.from_url(
        proxy.url, socket_timeout=timeout, retry=Retry(NoBackoff(), 0), decode_responses=True
    )


def counting(client: redis.Redis, key: str) -> list[float | None]:
    """How long each of 20 calls of a script took in seconds; `None` where no reply came."""
    count = client.script_load(COUNT)
    took: list[float | None] = []
    for _ in range(20):
        began = time.monotonic()
        try:
            client.evalsha(count, 1, key)
            took.append(time.monotonic() - began)
        except redis.ConnectionError:
            took.append(None)
    return took


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_messages_are_found_however_they_are_cut(size: int) -> None:
    messages, found = Messages(), []
    sent = b"".join(REPLIES)
    for start in range(0, len(sent), size):
        found += messages.feed(sent[start : start + size])
    assert found == REPLIES


def test_what_passes_is_unchanged(proxy: TcpProxy, key: str) -> None:
    with client_of(proxy) as client:
        text = "\r\n$5\r\n" * 50_000
        assert client.set(key, text)
        assert client.get(key) == text
        pipeline = client.pipeline()
        for number in range(200):
            pipeline.echo(str(number))
        assert pipeline.execute() == [str(number) for number in range(200)]


def test_the_given_share_of_the_replies_is_late_and_of_these_alone(
    proxy: TcpProxy, redis_url: str, key: str
) -> None:
    fault = proxy.delay_replies(0.2, 0.3, b"EVALSHA")
    with client_of(proxy) as client:
        for _ in range(10):
            client.ping()
        took = counting(client, key)
    late = [index for index, seconds in enumerate(took) if seconds is None or seconds >= 0.3]
    assert late == [4, 9, 14, 19]
    assert fault.struck == 4
    assert value_of(redis_url, key) == 20


def test_a_late_reply_belongs_to_what_has_been_done_in_time(
    proxy: TcpProxy, redis_url: str, key: str
) -> None:
    proxy.delay_replies(1, 1.0, b"EVALSHA")
    with client_of(proxy, timeout=0.3) as client:
        count = client.script_load(COUNT)
        with pytest.raises(redis.TimeoutError):
            client.evalsha(count, 1, key)
        assert value_of(redis_url, key) == 1
        assert client.echo("next") == "next"
    time.sleep(1.0)
    assert value_of(redis_url, key) == 1


def test_a_dropped_reply_is_a_reset_after_the_deed(proxy: TcpProxy, redis_url: str, key: str) -> None:
    fault = proxy.drop_replies(0.5, b"EVALSHA")
    with client_of(proxy) as client:
        took = counting(client, key)
    assert [seconds is None for seconds in took] == [False, True] * 10
    assert fault.struck == 10
    assert value_of(redis_url, key) == 20


def test_in_a_pipeline_all_before_the_dropped_reply_is_done(
    proxy: TcpProxy, redis_url: str, key: str
) -> None:
    with client_of(proxy) as client:
        count = client.script_load(COUNT)
        proxy.drop_replies(0.1, b"EVALSHA")
        pipeline = client.pipeline(transaction=False)
        for _ in range(10):
            pipeline.echo("x" * 100_000)
            pipeline.evalsha(count, 1, key)
        with pytest.raises(redis.ConnectionError):
            pipeline.execute()
    assert value_of(redis_url, key) == 10


def test_the_share_holds_over_many_connections(proxy: TcpProxy, redis_url: str, key: str) -> None:
    fault = proxy.drop_replies(0.1, b"EVALSHA")
    with ThreadPoolExecutor(8) as threads, client_of(proxy) as client:
        took = [each for one in threads.map(lambda _: counting(client, key), range(10)) for each in one]
    assert took.count(None) == fault.struck == 20
    assert value_of(redis_url, key) == 200


def test_mending_ends_every_fault(proxy: TcpProxy, key: str) -> None:
    proxy.drop_replies(1)
    proxy.delay_replies(1, 5)
    proxy.mend()
    with client_of(proxy) as client:
        assert None not in counting(client, key)
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        proxy.mend()
        assert client.ping()


def test_what_is_asked_in_a_stall_is_done_after_it(proxy: TcpProxy, redis_url: str, key: str) -> None:
    with client_of(proxy, timeout=0.2) as client:
        client.ping()
        proxy.stall()
        with pytest.raises(redis.TimeoutError):
            client.incr(key)
        assert value_of(redis_url, key) == 0
        proxy.mend()
        assert client.ping()
    assert eventually(lambda: value_of(redis_url, key) == 1)


def test_it_survives_a_server_that_is_not_there() -> None:
    with tcp_proxy("redis://127.0.0.1:1/0") as proxy, client_of(proxy) as client:
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.ping()


def test_its_threads_end_with_it(redis_url: str) -> None:
    before = threading.active_count()
    with tcp_proxy(redis_url) as proxy, client_of(proxy) as client:
        client.ping()
        assert threading.active_count() > before
    assert eventually(lambda: threading.active_count() <= before)
