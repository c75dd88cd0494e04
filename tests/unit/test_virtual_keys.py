"""Virtual keys without Redis: their text, how they are stored, who brings them."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from gateway.budget import Budget, OnBudget, Period
from gateway.errors import InvalidApiKey, LedgerUnavailable, UnknownPath
from gateway.incoming import RequestHeaders
from gateway.keys.authentication import authenticate, require_admin
from gateway.keys.key_record import UnreadableRecord, budget_of, key_of, record_of
from gateway.keys.key_ring import KeyRing, Remembered
from gateway.keys.virtual_key import VirtualKey, hash_of, id_of, is_id, new_key
from gateway.ledger.key_store import KeyStore
from gateway.ledger.names import Names

MODELS = ["CheapModel", "ExpensiveModel"]
PLAIN = VirtualKey(id="0123456789ab", name="n", secret_hash=hash_of("x"), created_at=1)
FULL = replace(
    PLAIN,
    owner="ann: {x}",
    budget=Budget(Decimal("0.000000000001"), Period.WEEK),
    on_budget=OnBudget.DOWNGRADE,
    rpm=1,
    tpm=2,
    models=frozenset(MODELS),
    expires_at=3,
    revoked_at=4,
)


@pytest.fixture
def ring() -> KeyRing:
    """One whose Redis is not there."""
    nowhere = redis.Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.1)
    return KeyRing(KeyStore(nowhere, Names("test")), Budget(Decimal(5)))


def test_a_new_key_is_unlike_any_other_and_names_its_id() -> None:
    keys = [new_key() for _ in range(1000)]
    assert len({key_id for key_id, _ in keys}) == len({text for _, text in keys}) == 1000
    for key_id, text in keys:
        assert re.fullmatch(r"gw-[0-9a-f]{12}-[A-Za-z0-9_-]{43}", text)
        assert id_of(text) == key_id
        assert is_id(key_id)


def test_a_key_of_a_given_id_has_a_new_secret() -> None:
    (first_id, first), (second_id, second) = new_key("0123456789ab"), new_key("0123456789ab")
    assert first_id == second_id == "0123456789ab"
    assert first != second


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gw-",
        "sk-1",
        "gw-0123456789ab-" + "a" * 42,
        "gw-0123456789ab-" + "a" * 44,
        "gw-0123456789AB-" + "a" * 43,
        "gw-0123456789ab-" + "a" * 43 + "\n",
        " gw-0123456789ab-" + "a" * 43,
        "gw-0123456789ab-" + "ä" * 43,
    ],
)
def test_what_is_not_formed_like_a_key_has_no_id(text: str) -> None:
    assert id_of(text) is None


@pytest.mark.parametrize(
    "text", ["0123456789ab:usage", "0123456789a", "0123456789abc", "0123456789AB", "*", ""]
)
def test_what_is_no_id_is_told(text: str) -> None:
    assert not is_id(text)


def test_a_key_is_opened_by_its_own_text_alone() -> None:
    key_id, text = new_key()
    key = replace(PLAIN, id=key_id, secret_hash=hash_of(text))
    assert key.is_opened_by(text)
    assert not key.is_opened_by(new_key(key_id)[1])
    assert not key.is_opened_by(key.secret_hash)


def test_neither_the_secret_nor_its_hash_is_in_the_words_of_a_key() -> None:
    assert PLAIN.secret_hash not in repr(PLAIN)


@pytest.mark.parametrize(
    ("expires_at", "revoked_at", "valid"),
    [
        (None, None, True),
        (11, None, True),
        (10, None, False),
        (9, None, False),
        (None, 5, False),
        (11, 99, False),
    ],
)
def test_a_key_is_valid_until_it_expires_or_is_revoked(
    expires_at: int | None, revoked_at: int | None, valid: bool
) -> None:
    assert replace(PLAIN, expires_at=expires_at, revoked_at=revoked_at).is_valid(10) is valid


@pytest.mark.parametrize("key", [PLAIN, FULL], ids=["plain", "full"])
def test_a_stored_key_is_the_same_when_it_is_read(key: VirtualKey) -> None:
    record = record_of(key)
    assert key_of(key.id, record) == key
    assert all(isinstance(value, str) and value for value in record.values())


@given(st.decimals(0, 10**9, places=12))
def test_a_stored_budget_keeps_every_digit(usd: Decimal) -> None:
    assert budget_of(record_of(replace(PLAIN, budget=Budget(usd)))) == Budget(usd)


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"secret_hash": None},
        {"secret_hash": "é"},
        {"created_at": "yesterday"},
        {"rpm": "many"},
        {"budget_usd": "much"},
        {"budget_usd": "NaN"},
        {"budget_usd": "Infinity"},
        {"period": "year"},
        {"on_budget": "pay"},
        {"revoked_at": ""},
    ],
    ids=str,
)
def test_a_record_that_somebody_has_damaged_is_not_read_as_a_key(change: dict[str, str | None]) -> None:
    record = {name: value for name, value in (record_of(FULL) | change).items() if value is not None}
    with pytest.raises(UnreadableRecord):
        key_of(FULL.id, record)


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    remembered: Remembered[int] = Remembered(2)
    for name, value in (("a", 1), ("b", 2)):
        remembered.put(name, value)
    assert remembered.get("a") == 1
    remembered.put("c", 3)
    assert [remembered.get(name) for name in "abc"] == [1, None, 3]
    assert len(remembered) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer sk-other"},
        {"Authorization": "Basic Z3ctMTIz"},
        {"Authorization": "gw-0123456789ab"},
        {"x-api-key": "sk-ant-1"},
        {"api-key": "0123"},
        {"Cookie": "gw-0123456789ab"},
    ],
    ids=str,
)
def test_without_a_virtual_key_one_is_anybody_or_refused(ring: KeyRing, headers: dict[str, str]) -> None:
    tenant = authenticate(RequestHeaders.of(headers.items()), ring, required=False)
    assert tenant == ring.anybody()
    assert tenant.key is None
    assert [scope.name for scope in tenant.scopes] == ["gateway"]
    with pytest.raises(InvalidApiKey):
        authenticate(RequestHeaders.of(headers.items()), ring, required=True)


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer gw-canary"},
        {"authorization": "bearer gw-canary"},
        {"Authorization": "BEARER   gw-canary "},
        {"X-Api-Key": "gw-canary"},
        {"API-KEY": "gw-canary"},
        {"Authorization": "Bearer sk-other", "x-api-key": "gw-canary"},
        {"Authorization": "Basic abc", "api-key": "gw-canary"},
    ],
    ids=str,
)
def test_what_begins_like_a_virtual_key_must_be_one_and_is_never_repeated(
    ring: KeyRing, headers: dict[str, str], required: bool
) -> None:
    with pytest.raises(InvalidApiKey) as refusal:
        authenticate(RequestHeaders.of(headers.items()), ring, required=required)
    assert "canary" not in str(refusal.value) + str(refusal.value.body())
    assert refusal.value.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_that_nobody_can_look_up_now_is_not_called_invalid(ring: KeyRing) -> None:
    with pytest.raises(LedgerUnavailable) as refusal:
        authenticate(
            RequestHeaders.of({"Authorization": f"Bearer {new_key()[1]}"}.items()), ring, required=False
        )
    assert refusal.value.headers["Retry-After"]


ADMIN = "admin-secret"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {ADMIN}"},
        {"Authorization": f"bearer {ADMIN}"},
        {"x-api-key": ADMIN},
        {"Authorization": "Bearer something", "x-api-key": ADMIN},
    ],
    ids=str,
)
def test_the_admin_key_opens_the_admin_routes(headers: dict[str, str]) -> None:
    require_admin(RequestHeaders.of(headers.items()), ADMIN)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ADMIN},
        {"Authorization": f"Basic {ADMIN}"},
        {"Authorization": f"Bearer {ADMIN}x"},
        {"Authorization": f"Bearer {ADMIN[:-1]}"},
        {"Authorization": f"Bearer {ADMIN.upper()}"},
        {"Authorization": f"Bearer {new_key()[1]}"},
        {"Authorization": "Bearer "},
        {"x-api-key": "é"},
    ],
    ids=lambda headers: str(sorted(headers)),
)
def test_nothing_else_opens_the_admin_routes(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidApiKey):
        require_admin(RequestHeaders.of(headers.items()), ADMIN)


def test_without_an_admin_key_there_are_no_admin_routes() -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer None"}):
        with pytest.raises(UnknownPath):
            require_admin(RequestHeaders.of(headers.items()), None)
