"""What workers know of keys: from Redis, from memory, and from the copy while Redis is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from gateway.budget import Budget, Period, Scope
from gateway.errors import GatewayError, InvalidApiKey, LedgerUnavailable
from gateway.keys.key_copy import KeyCopy, NotCopied
from gateway.keys.key_ring import KeyRing
from gateway.keys.virtual_key import VirtualKey, id_of, new_key
from gateway.ledger.connection import connect
from gateway.ledger.key_store import KeyStore
from gateway.ledger.names import Names
from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.keys import copied, key_store
from tests.support.processes import RedisServer, redis_server
from tests.support.stack import SHORT
from tests.support.waiting import eventually

pytestmark = pytest.mark.heavy

REFUSED_WITHIN_SECONDS = 1.0
MANY_CHECKS_SECONDS = 1.0  # far below as many time-outs
MANY_CHECKS = 2000
MOST_CPU_SECONDS = 0.0003  # for one check
ONE_TIME_OUT_SECONDS = 0.35  # with room for a busy machine


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that a test may kill, pause and empty, and that has lost nothing then."""
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis", appendfsync="always") as server:
        yield server


@pytest.fixture
def store(redis: RedisServer) -> KeyStore:
    return key_store(redis.url)


@pytest.fixture
def ring(redis: RedisServer) -> KeyRing:
    """A worker's, that has looked at the feed once."""
    ring = KeyRing(key_store(redis.url))
    ring.poll()
    return ring


def refusal(ring: KeyRing, text: str) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        ring.tenant_of(text)
    return refused.value


def seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def test_a_key_is_valid_at_once_and_has_all_budgets_from_the_narrowest(
    redis: RedisServer, store: KeyStore
) -> None:
    ring = KeyRing(key_store(redis.url), Budget(Decimal(100)))
    store.set_owner_budget("ann", Budget(Decimal(10), Period.WEEK))
    _, plain = store.create("plain")
    key, text = store.create("full", owner="ann", budget=Budget(Decimal(1), Period.DAY))
    of_key, of_owner = (
        Scope(f"key:{key.id}", Budget(Decimal(1), Period.DAY)),
        Scope("owner:ann", Budget(Decimal(10), Period.WEEK)),
    )
    of_all = Scope("gateway", Budget(Decimal(100)))
    for _ in range(2):  # from Redis, then from memory
        assert ring.tenant_of(plain).scopes == (of_all,)
        assert ring.tenant_of(text).key == key
        assert ring.tenant_of(text).scopes == (of_key, of_owner, of_all)
    assert ring.anybody().key is None
    assert ring.anybody().scopes == (of_all,)


def test_without_budgets_there_are_no_scopes(ring: KeyRing, store: KeyStore) -> None:
    _, text = store.create("a", owner="ann")
    assert ring.tenant_of(text).scopes == ()
    assert ring.anybody().scopes == ()


def test_keys_that_are_not_valid_are_told_apart_only_to_those_who_have_them(
    ring: KeyRing, store: KeyStore
) -> None:
    (revoked, revoked_text), (expired, expired_text) = store.create("a"), store.create("b")
    store.revoke(revoked.id)
    store.update(expired, replace(expired, expires_at=int(time.time()) - 1))
    assert "revoked" in str(refusal(ring, revoked_text))
    assert "expired" in str(refusal(ring, expired_text))
    others = {str(refusal(ring, new_key(key_id)[1])) for key_id in (revoked.id, expired.id, None)}
    assert others == {str(refusal(ring, "gw-nonsense"))}
    for text in (revoked_text, expired_text, new_key()[1], "gw-nonsense", ""):
        assert isinstance(refusal(ring, text), InvalidApiKey)


def test_a_key_expires_on_time_also_in_memory(ring: KeyRing, store: KeyStore) -> None:
    _, text = store.create("a", expires_at=int(time.time()) + 2)
    assert ring.tenant_of(text)
    assert eventually(lambda: not _is_valid(ring, text))
    assert "expired" in str(refusal(ring, text))


def test_what_has_changed_is_known_after_the_next_look(ring: KeyRing, store: KeyStore) -> None:
    key, text = store.create("a", owner="ann")
    ring.tenant_of(text)
    store.set_owner_budget("ann", Budget(Decimal(1)))
    store.update(key, replace(key, rpm=5))
    ring.poll()
    assert ring.tenant_of(text).key == replace(key, rpm=5)
    assert [scope.name for scope in ring.tenant_of(text).scopes] == ["owner:ann"]
    store.revoke(key.id)
    store.set_owner_budget("ann", None)
    ring.poll()
    assert "revoked" in str(refusal(ring, text))


def test_what_has_not_changed_is_not_asked_again(ring: KeyRing, store: KeyStore) -> None:
    _, text = store.create("a", owner="ann")
    other, _ = store.create("b")
    ring.poll()
    ring.tenant_of(text)
    store.revoke(other.id)
    ring.poll()
    with connect(_url_of(store), 1) as client:
        before = client.info("commandstats")["cmdstat_hgetall"]["calls"]
        ring.tenant_of(text)
        assert client.info("commandstats")["cmdstat_hgetall"]["calls"] == before


def test_a_rotated_key_s_new_text_is_valid_at_once_and_its_old_one_after_the_next_look_no_more(
    ring: KeyRing, store: KeyStore
) -> None:
    key, old = store.create("a")
    ring.tenant_of(old)
    _, new = store.rotate(key.id)
    assert ring.tenant_of(new).key
    ring.poll()
    assert isinstance(refusal(ring, old), InvalidApiKey)


def test_a_key_that_gets_more_time_is_valid_again_at_once(ring: KeyRing, store: KeyStore) -> None:
    key, text = store.create("a")
    expired = store.update(key, replace(key, expires_at=int(time.time()) - 1))
    refusal(ring, text)
    store.update(expired, replace(expired, expires_at=None))
    assert ring.tenant_of(text).key == key


def test_a_key_that_is_revoked_while_it_is_looked_up_is_not_remembered_as_valid(redis: RedisServer) -> None:
    class RevokesMeanwhile(KeyStore):
        def find(self, key_id: str) -> VirtualKey | None:
            found = super().find(key_id)
            if found and found.revoked_at is None:
                self.revoke(key_id)
                followers[0].poll()  # the change is seen before what was found can be remembered
            return found

    store = RevokesMeanwhile(connect(redis.url, 1), Names("gateway"))
    ring = KeyRing(store)
    followers = [ring]
    ring.poll()
    _, text = store.create("a")
    assert ring.tenant_of(text)
    assert "revoked" in str(refusal(ring, text))


def test_memory_is_bounded_and_what_was_forgotten_is_asked_again(redis: RedisServer, store: KeyStore) -> None:
    ring = KeyRing(key_store(redis.url), size=2)
    texts = [store.create("a", owner=f"owner {number}")[1] for number in range(5)]
    for _ in range(2):
        for text in texts:
            assert ring.tenant_of(text).key
    assert len(ring._keys) == len(ring._owner_scopes) == 2


def test_checking_a_key_that_is_known_takes_little_of_the_cpu(ring: KeyRing, store: KeyStore) -> None:
    _, text = store.create("a", owner="ann", budget=Budget(Decimal(1)))
    ring.tenant_of(text)
    begun = time.process_time()
    for _ in range(MANY_CHECKS):
        ring.tenant_of(text)
    assert (time.process_time() - begun) / MANY_CHECKS < MOST_CPU_SECONDS


def test_many_changes_at_once_are_not_missed(ring: KeyRing, store: KeyStore) -> None:
    made = [store.create("a") for _ in range(600)]
    for _, text in made:
        ring.tenant_of(text)
    ring.poll()
    for key, _ in made:
        store.revoke(key.id)
    ring.poll()
    assert not any(_is_valid(ring, text) for _, text in made)


def test_an_emptied_redis_is_noticed_even_if_it_has_been_filled_again(
    redis: RedisServer, ring: KeyRing, store: KeyStore
) -> None:
    _, text = store.create("a")
    ring.poll()
    assert ring.tenant_of(text)
    redis.wipe()
    for _ in range(3):
        store.create("b")
    ring.poll()
    assert isinstance(refusal(ring, text), InvalidApiKey)


def test_while_redis_is_gone_known_keys_stay_valid_and_others_are_not_called_invalid(
    redis: RedisServer, ring: KeyRing, store: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    key, known = store.create("a", owner="ann")
    _, unseen = store.create("b")
    assert ring.tenant_of(known)
    redis.kill()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            ring.poll()
            assert ring.tenant_of(known).key
            assert isinstance(refusal(ring, unseen), LedgerUnavailable)
            assert isinstance(refusal(ring, new_key(key.id)[1]), InvalidApiKey)
            assert isinstance(refusal(ring, "gw-nonsense"), InvalidApiKey)
        redis.start()
        ring.poll()
    assert ring.tenant_of(unseen).key
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_no_request_waits_for_a_redis_that_is_known_to_be_paused(
    redis: RedisServer, ring: KeyRing, store: KeyStore
) -> None:
    _, known = store.create("a")
    ring.tenant_of(known)
    redis.pause()
    try:
        assert seconds(lambda: refusal(ring, new_key()[1])) < ONE_TIME_OUT_SECONDS
        assert seconds(lambda: [refusal(ring, new_key()[1]) for _ in range(50)]) < MANY_CHECKS_SECONDS
        assert seconds(lambda: [ring.tenant_of(known) for _ in range(50)]) < MANY_CHECKS_SECONDS
        assert seconds(ring.poll) < ONE_TIME_OUT_SECONDS
    finally:
        redis.resume()
    assert eventually(lambda: _is_back(ring))
    assert isinstance(refusal(ring, new_key()[1]), InvalidApiKey)


def test_a_worker_that_starts_while_redis_is_gone_knows_all_keys_from_the_copy(
    redis: RedisServer, store: KeyStore, tmp_path: Path
) -> None:
    store.set_owner_budget("ann", Budget(Decimal(1)))
    (key, text), (revoked, revoked_text) = store.create("a", owner="ann"), store.create("b")
    store.revoke(revoked.id)
    copy = copied(store, tmp_path)
    redis.kill()
    ring = KeyRing(store, copy=copy)
    ring.poll()
    assert ring.tenant_of(text).key == key
    assert [scope.name for scope in ring.tenant_of(text).scopes] == ["owner:ann"]
    assert "revoked" in str(refusal(ring, revoked_text))
    assert isinstance(refusal(ring, new_key(key.id)[1]), InvalidApiKey)
    assert isinstance(refusal(ring, new_key()[1]), LedgerUnavailable)


def test_memory_goes_before_a_copy_that_has_fallen_behind(
    redis: RedisServer, store: KeyStore, tmp_path: Path
) -> None:
    key, old = store.create("a")
    copy = copied(store, tmp_path)
    _, new = store.rotate(key.id)
    ring = KeyRing(store, copy=copy)
    ring.poll()
    ring.tenant_of(new)
    redis.kill()
    ring.poll()
    assert ring.tenant_of(new).key
    assert isinstance(refusal(ring, old), InvalidApiKey)


@pytest.fixture
def two_gateways(redis: RedisServer, start_gateway: StartGateway) -> list[GatewayUnderTest]:
    """Of two workers each, on the same Redis."""
    settings = {"REDIS_URL": redis.url, "REDIS_KEY_PREFIX": "gateway", "GATEWAY_REQUIRE_KEYS": "on"}
    return [start_gateway(**settings, WEB_CONCURRENCY="2") for _ in range(2)]


def test_a_revoked_key_is_refused_within_a_second_by_every_worker_of_every_gateway(
    store: KeyStore, two_gateways: list[GatewayUnderTest]
) -> None:
    (key, text), (_, other) = store.create("a"), store.create("b")
    for gateway in two_gateways:  # new connections, so that every worker has seen it
        assert {_status(gateway, text) for _ in range(20)} == {200}
    store.revoke(key.id)
    revoked = time.monotonic()
    late = []
    while (since := time.monotonic() - revoked) < 2 * REFUSED_WITHIN_SECONDS:
        late += [since for gateway in two_gateways if _status(gateway, text) == 200]
    assert all(since < REFUSED_WITHIN_SECONDS for since in late)
    assert {_status(gateway, other) for gateway in two_gateways for _ in range(5)} == {200}


def test_a_gateway_that_is_started_again_while_redis_is_gone_still_knows_its_keys(
    redis: RedisServer, store: KeyStore, start_gateway: StartGateway, tmp_path: Path
) -> None:
    texts = [store.create(f"key {number}")[1] for number in range(300)]
    settings = {"REDIS_URL": redis.url, "REDIS_KEY_PREFIX": "gateway", "GATEWAY_REQUIRE_KEYS": "on"}
    gateway = start_gateway(**settings, JOURNAL_DIR=str(tmp_path))
    assert eventually(lambda: any(_is_copied(place, texts[-1]) for place in tmp_path.iterdir()))
    redis.kill()
    never_seen = texts[:5]
    assert [_status(gateway, text) for text in never_seen] == [200] * 5
    gateway.service.kill()
    gateway.service.start()
    assert [_status(gateway, text) for text in texts[5:10]] == [200] * 5
    assert _status(gateway, new_key()[1]) == 503
    assert _status(gateway, "gw-nonsense") == 401


def _is_valid(ring: KeyRing, text: str) -> bool:
    try:
        ring.tenant_of(text)
    except InvalidApiKey:
        return False
    return True


def _is_copied(directory: Path, text: str) -> bool:
    try:
        return KeyCopy(directory).key(id_of(text) or "").is_opened_by(text)
    except NotCopied:
        return False


def _is_back(ring: KeyRing) -> bool:
    ring.poll()
    return not ring._is_away


def _url_of(store: KeyStore) -> str:
    connection = store._redis.connection_pool.connection_kwargs
    return f"redis://{connection['host']}:{connection['port']}/0"


def _status(gateway: GatewayUnderTest, text: str) -> int:
    """Of a chat over a connection of its own."""
    body = {"messages": [{"role": "user", "content": SHORT}]}
    headers = {"Authorization": f"Bearer {text}", "Connection": "close"}
    url = f"{gateway.gateway_url}/v1/chat/completions"
    return requests.post(url, json=body, headers=headers, timeout=10).status_code
