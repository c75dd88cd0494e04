"""Virtual keys in a real Redis: each change whole, in the feed, and seen by all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import cast

import pytest
import redis

from gateway.budget import Budget, OnBudget, Period, Scope
from gateway.errors import InvalidRequest, KeyNotFound, LedgerUnavailable
from gateway.keys.key_view import key_views
from gateway.keys.virtual_key import VirtualKey, new_key
from gateway.ledger.connection import connect
from gateway.ledger.key_accounts import KeyUsage
from gateway.ledger.key_store import START, Changes, Cursor, KeyStore
from gateway.ledger.names import Names

AT_ONCE = 20


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, 5) as client:
        yield client


@pytest.fixture
def names(client: redis.Redis) -> Iterator[Names]:
    names = Names(f"test-{uuid.uuid4().hex}")
    yield names
    for key in client.scan_iter(f"{names.prefix}:*"):
        client.delete(key)


@pytest.fixture
def store(client: redis.Redis, names: Names) -> KeyStore:
    return KeyStore(client, names)


def create(store: KeyStore, count: int) -> list[VirtualKey]:
    return [store.create(f"key {number}")[0] for number in range(count)]


def members(keys: list[VirtualKey]) -> list[str]:
    return [f"key:{key.id}" for key in keys]


def scores_of(client: redis.Redis, name: str) -> list[tuple[str, float]]:
    return cast("list[tuple[str, float]]", client.zrange(name, 0, -1, withscores=True))


def test_a_key_is_read_as_it_was_created(store: KeyStore) -> None:
    key, text = store.create(
        "näme",
        owner="ann: {x}",
        budget=Budget(Decimal("0.10"), Period.WEEK),
        on_budget=OnBudget.DOWNGRADE,
        rpm=1,
        tpm=2,
        models=frozenset({"B", "A"}),
        expires_at=2_000_000_000,
    )
    assert store.get(key.id) == key
    assert key.is_opened_by(text)
    assert abs(key.created_at - datetime.now(UTC).timestamp()) < 5


def test_redis_holds_no_key_s_text(store: KeyStore, client: redis.Redis, names: Names) -> None:
    key, text = store.create("a")
    stored = repr(client.hgetall(names.key(key.id)))
    assert key.secret_hash in stored
    assert text[len("gw-0123456789ab-") :] not in stored


def test_an_unknown_key_is_told(store: KeyStore) -> None:
    key, _ = store.create("a")
    for key_id in (new_key()[0], f"{key.id}:usage", "", "*", key.id.upper() + "x"):
        assert store.find(key_id) is None
        for act in (store.get, store.rotate, store.revoke):
            with pytest.raises(KeyNotFound):
                act(key_id)
        with pytest.raises(KeyNotFound):
            store.update(replace(key, id=key_id), replace(key, id=key_id, name="b"))


def test_a_record_that_cannot_be_read_is_no_key(
    store: KeyStore, client: redis.Redis, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = create(store, 2)
    client.hset(names.key(bad.id), "rpm", "many")
    assert store.find(bad.id) is None
    assert bad.id in caplog.text
    assert bad.secret_hash not in caplog.text
    assert store.page(None, 10) == ([good], False)


def test_only_what_is_said_changes(store: KeyStore) -> None:
    key, _ = store.create("a", owner="ann", budget=Budget(Decimal(1), Period.DAY), rpm=5)
    changed = store.update(key, replace(key, rpm=None, models=frozenset({"A"})))
    assert changed == store.get(key.id) == replace(key, rpm=None, models=frozenset({"A"}))
    # Another change that was begun before this one takes nothing of it back.
    assert store.update(key, replace(key, name="b")) == replace(changed, name="b")
    assert store.update(key, replace(key, budget=None)).budget is None


def test_rotating_exchanges_the_secret_and_nothing_else(store: KeyStore) -> None:
    key, old = store.create("a", owner="ann", rpm=5)
    rotated, new = store.rotate(key.id)
    assert rotated == store.get(key.id)
    assert replace(rotated, secret_hash=key.secret_hash) == key
    assert rotated.is_opened_by(new)
    assert not rotated.is_opened_by(old)


def test_of_keys_that_are_rotated_at_once_exactly_one_stays_valid(redis_url: str, names: Names) -> None:
    stores = [KeyStore(connect(redis_url, 5), names) for _ in range(AT_ONCE)]
    key, old = stores[0].create("a")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        texts = [text for _, text in pool.map(lambda store: store.rotate(key.id), stores)]
    assert len(set(texts)) == AT_ONCE
    now = stores[0].get(key.id)
    assert sum(now.is_opened_by(text) for text in [*texts, old]) == 1


def test_a_key_that_is_revoked_while_it_is_rotated_stays_revoked(redis_url: str, names: Names) -> None:
    stores = [KeyStore(connect(redis_url, 5), names) for _ in range(AT_ONCE)]
    key, _ = stores[0].create("a")

    def act(number: int) -> None:
        if number == AT_ONCE // 2:
            stores[number].revoke(key.id)
        else:
            try:
                stores[number].rotate(key.id)
            except InvalidRequest:
                return

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(act, range(AT_ONCE)))
    assert stores[0].get(key.id).revoked_at is not None


def test_a_revoked_key_stays_listed_and_never_changes_again(store: KeyStore) -> None:
    key, _ = store.create("a")
    revoked = store.revoke(key.id)
    assert revoked.revoked_at is not None
    assert replace(revoked, revoked_at=None) == key
    before = store.newest()
    assert store.revoke(key.id) == revoked
    with pytest.raises(InvalidRequest):
        store.rotate(key.id)
    with pytest.raises(InvalidRequest):
        store.update(key, replace(key, name="b"))
    assert store.page(None, 10) == ([revoked], False)
    assert store.newest() == before


def test_keys_that_are_created_at_once_are_all_there(
    redis_url: str, names: Names, client: redis.Redis
) -> None:
    stores = [KeyStore(connect(redis_url, 5), names) for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        keys = [key for created in pool.map(lambda store: create(store, 10), stores) for key in created]
    listed, has_more = stores[0].page(None, 1000)
    assert not has_more
    assert sorted(listed, key=lambda key: key.id) == sorted(keys, key=lambda key: key.id)
    created = [score for _, score in scores_of(client, names.keys)]
    changed = [score for _, score in scores_of(client, names.key_changes)]
    assert len(set(created)) == len(set(changed)) == len(keys), "two have the same number"
    assert int(changed[-1]) == stores[0].version()


def test_pages_follow_the_creation_and_leave_nothing_out(store: KeyStore) -> None:
    keys = create(store, 7)
    for limit in (1, 2, 3, 6, 7, 8):
        found: list[VirtualKey] = []
        has_more, after = True, None
        while has_more:
            page, has_more = store.page(after, limit)
            assert len(page) == limit or not has_more
            found += page
            after = page[-1].id
        assert found == keys
    assert store.page(keys[-1].id, 5) == ([], False)


def test_a_page_s_end_stays_where_it_is_while_keys_are_created(store: KeyStore) -> None:
    create(store, 3)
    first, _ = store.page(None, 2)
    later = create(store, 3)
    rest, has_more = store.page(first[-1].id, 10)
    assert rest[1:] == later
    assert not has_more


def test_a_page_behind_an_unknown_key_is_refused(store: KeyStore) -> None:
    with pytest.raises(KeyNotFound):
        store.page(new_key()[0], 10)


def test_an_owner_has_the_budget_that_was_set_last(store: KeyStore) -> None:
    assert store.owner_budget("ann: {x}") is None
    for budget in (Budget(Decimal("1.5"), Period.MONTH), Budget(Decimal(2)), None):
        store.set_owner_budget("ann: {x}", budget)
        assert store.owner_budget("ann: {x}") == budget


def test_the_feed_tells_of_every_change_once_from_the_oldest(store: KeyStore) -> None:
    assert store.version() == 0
    assert store.newest() == START
    assert store.changes_since(START) == Changes([], START, is_last=True)
    first, second, third = create(store, 3)
    store.set_owner_budget("ann", Budget(Decimal(1)))
    store.rotate(first.id)
    feed = store.changes_since(START)
    assert feed.members == [*members([second, third]), "owner:ann", f"key:{first.id}"]
    assert feed.cursor == store.newest()
    assert feed.cursor.version == store.version()
    assert store.changes_since(feed.cursor) == Changes([], feed.cursor, is_last=True)
    store.update(second, replace(second, name="b"))
    store.revoke(third.id)
    store.set_owner_budget("ann", None)
    assert store.changes_since(feed.cursor).members == [*members([second, third]), "owner:ann"]


def test_a_long_feed_is_read_in_parts(store: KeyStore) -> None:
    keys = create(store, 7)
    cursor, found, is_last = START, list[str](), False
    while not is_last:
        part = store.changes_since(cursor, most=3)
        assert len(part.members) == 3 or part.is_last
        cursor, is_last = part.cursor, part.is_last
        found += part.members
    assert found == members(keys)
    assert cursor == store.newest()


def test_a_feed_that_was_lost_is_told_from_one_that_went_on(
    store: KeyStore, client: redis.Redis, names: Names
) -> None:
    rewritten = Changes([], START, is_last=False, is_rewritten=True)
    first, second = create(store, 2)
    cursor = store.newest()
    scores = scores_of(client, names.key_changes)

    for name in (names.key_changes, names.key_version, names.keys):
        client.delete(name)
    assert store.changes_since(cursor) == rewritten, "emptied"
    create(store, 5)
    assert store.version() > cursor.version
    assert store.changes_since(cursor) == rewritten, "emptied and filled anew"

    client.delete(names.key_changes)
    client.zadd(names.key_changes, {scores[0][0]: scores[0][1]})
    client.set(names.key_version, int(scores[0][1]))
    assert store.changes_since(cursor) == rewritten, "the last change was lost"
    assert store.changes_since(Cursor(int(scores[0][1]), scores[0][0])).is_last
    assert store.changes_since(Cursor(int(scores[0][1]) + 1, scores[0][0])) == rewritten, "it was lost again"
    assert [first.id, second.id] == [member.removeprefix("key:") for member, _ in scores]


def test_changes_have_rising_numbers_even_where_the_clock_has_gone_back(
    store: KeyStore, client: redis.Redis, names: Names
) -> None:
    create(store, 1)
    ahead = store.version() + 10**12
    client.set(names.key_version, ahead)
    key, _ = store.create("a")
    store.set_owner_budget("ann", None)
    store.revoke(key.id)
    assert store.version() == ahead + 3
    assert store.newest() == Cursor(ahead + 3, f"key:{key.id}")


def test_what_keys_have_used_is_read_from_their_accounts(
    store: KeyStore, client: redis.Redis, names: Names
) -> None:
    used, unused = create(store, 2)
    counted = ("requests", 3, "input_tokens", 10, "cached_input_tokens", 4, "output_tokens", 5)
    client.hset(names.key_usage(used.id), items=[*counted, "cost_usd", "0.30000000000000004"])
    assert store.usages([unused, used]) == [KeyUsage(), KeyUsage(3, Decimal("0.3"), 10, 4, 5)]
    client.hset(names.key_usage(used.id), "requests", "many")
    with pytest.raises(LedgerUnavailable):
        store.usages([used])


def test_what_is_gone_of_a_budget_is_that_of_this_run_without_holds_that_have_lapsed(
    store: KeyStore, client: redis.Redis, names: Names
) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    scope = Scope("owner:ann", Budget(Decimal(5), Period.DAY))
    window = scope.budget.window(now)
    client.hset(names.budget(scope.name, window), mapping={"spent": "1.25", "held": "0.75"})
    lapsed, alive = now.timestamp() - 1, now.timestamp() + 60
    client.zadd(names.holds(scope.name, window), {"call-1:0.5": lapsed, "call-2:0.25": alive})
    (state,) = store.budget_states([scope], now)
    assert (state.spent, state.held) == (Decimal("1.25"), Decimal("0.25"))
    assert state.resets_at == datetime(2026, 11, 25, tzinfo=UTC)
    (tomorrow,) = store.budget_states([scope], datetime(2026, 11, 25, tzinfo=UTC))
    assert tomorrow.spent == tomorrow.held == 0


def test_each_of_many_keys_is_shown_with_its_own_budget(
    store: KeyStore, client: redis.Redis, names: Names
) -> None:
    keys = [
        store.create("a", budget=Budget(Decimal(number)) if number % 2 else None)[0] for number in range(6)
    ]
    for number, key in enumerate(keys):
        if key.budget is not None:
            client.hset(names.budget(f"key:{key.id}", key.budget.window(datetime.now(UTC))), "spent", number)
    views = key_views(store, keys)
    assert [view["id"] for view in views] == [key.id for key in keys]
    assert [view["budget_spent_usd"] for view in views] == [None, 1.0, None, 3.0, None, 5.0]


def test_a_redis_that_is_not_there_is_told_by_every_verb() -> None:
    store = KeyStore(connect("redis://127.0.0.1:1/0", 0.2), Names("test"))
    key = VirtualKey(id=new_key()[0], name="a", secret_hash="0", created_at=0)
    for act in (
        lambda: store.create("a"),
        lambda: store.find(key.id),
        lambda: store.page(None, 1),
        lambda: store.rotate(key.id),
        lambda: store.revoke(key.id),
        lambda: store.update(key, replace(key, name="b")),
        lambda: store.set_owner_budget("ann", None),
        lambda: store.owner_budget("ann"),
        lambda: store.usages([key]),
        lambda: store.version(),
        lambda: store.newest(),
        lambda: store.changes_since(START),
    ):
        with pytest.raises(LedgerUnavailable):
            act()
