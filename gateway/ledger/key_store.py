"""Virtual keys and owners' budgets in Redis: the one place that changes or reads them.

Every change is one atomic script that also notes it in the feed of changes, by which the gateways learn of
it: a sorted set of `key:ID` and `owner:NAME` by the number of the last change of each. These numbers rise,
and are those of the clock in µs where that has not stood still, so that a Redis which has lost its last
changes, or all of them, does not give the same numbers again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import redis

from gateway.budget import Budget, OnBudget, Scope
from gateway.errors import InvalidRequest, KeyNotFound, LedgerUnavailable
from gateway.keys.key_record import UnreadableRecord, budget_of, budget_record, key_of, record_of
from gateway.keys.virtual_key import VirtualKey, hash_of, is_id, new_key
from gateway.ledger.connection import translating_errors
from gateway.ledger.key_accounts import BudgetState, KeyAccounts, KeyUsage
from gateway.ledger.names import Names
from gateway.ledger.scripts import Script

KEY_MEMBER = "key:"
OWNER_MEMBER = "owner:"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cursor:
    """A place in the feed of changes: just behind the change of `member` that had the number `version`."""

    version: int
    member: str


START = Cursor(0, "")


@dataclass(frozen=True)
class Changes:
    """Some changes behind a cursor: whose, and where the next ones begin. `is_last` where there are none yet.

    With `is_rewritten` the feed is another than the cursor was taken from: Redis was emptied or has lost its
    last changes. Then nothing that was learned from it holds, and `cursor` is the start of the new feed.
    """

    members: list[str]
    cursor: Cursor
    is_last: bool
    is_rewritten: bool = False


class KeyStore:
    """All keys and owners below one prefix. Every method raises `LedgerUnavailable` where Redis cannot be
    asked; a change may have happened then."""

    def __init__(self, client: redis.Redis, names: Names) -> None:
        self._redis = client
        self._names = names
        self._accounts = KeyAccounts(client, names)
        self._put_key = Script(client, "put_key")
        self._change_key = Script(client, "change_key")
        self._put_owner = Script(client, "put_owner")

    def create(
        self,
        name: str,
        *,
        owner: str | None = None,
        budget: Budget | None = None,
        on_budget: OnBudget = OnBudget.CLAMP,
        rpm: int | None = None,
        tpm: int | None = None,
        models: frozenset[str] | None = None,
        policy: str | None = None,
        expires_at: int | None = None,
    ) -> tuple[VirtualKey, str]:
        """A new key, and its text, which cannot be had again."""
        while True:
            key_id, text = new_key()
            key = VirtualKey(
                id=key_id,
                name=name,
                secret_hash=hash_of(text),
                created_at=0,
                owner=owner,
                budget=budget,
                on_budget=on_budget,
                rpm=rpm,
                tpm=tpm,
                models=models,
                policy=policy,
                expires_at=expires_at,
            )
            record = record_of(key)
            del record["created_at"]  # by the clock of Redis
            names = self._names
            keys = [names.key(key_id), names.keys, names.key_changes, names.key_version]
            with translating_errors():
                created_at = int(self._put_key(keys, [key_id, *_flat(record)]))
            if created_at >= 0:
                return key_of(key_id, record | {"created_at": str(created_at)}), text

    def find(self, key_id: str) -> VirtualKey | None:
        """The key of this id, if there is one."""
        if not is_id(key_id):
            return None
        (record,) = self.records([KEY_MEMBER + key_id])
        return _readable(key_id, record)

    def get(self, key_id: str) -> VirtualKey:
        """
        :raises KeyNotFound:
        """
        key = self.find(key_id)
        if key is None:
            raise _not_found()
        return key

    def page(self, after: str | None, limit: int) -> tuple[list[VirtualKey], bool]:
        """At most `limit` keys in the order of their creation, behind the key `after`; and whether there are
        more. Costs the same anywhere in the list.

        :raises KeyNotFound: when there is no key `after`
        """
        first = 0
        with translating_errors():
            if after is not None:
                rank = self._redis.zrank(self._names.keys, after)
                if rank is None:
                    raise _not_found()
                first = cast("int", rank) + 1
            ids = cast("list[str]", self._redis.zrange(self._names.keys, first, first + limit))
        records = self.records([KEY_MEMBER + key_id for key_id in ids[:limit]])
        found = [_readable(key_id, record) for key_id, record in zip(ids, records, strict=False)]
        return [key for key in found if key is not None], len(ids) > limit

    def update(self, before: VirtualKey, after: VirtualKey) -> VirtualKey:
        """Change what differs between the two, and nothing else; the key as it is then.

        :raises KeyNotFound:
        :raises InvalidRequest: when it has been revoked
        """
        old, new = record_of(before), record_of(after)
        changed = {name: new.get(name, "") for name in old | new if new.get(name) != old.get(name)}
        return self._changed(before.id, changed)

    def rotate(self, key_id: str) -> tuple[VirtualKey, str]:
        """Exchange the key's secret, of which the old one is refused from now on; the new text.

        :raises KeyNotFound:
        :raises InvalidRequest: when it has been revoked
        """
        _, text = new_key(key_id)
        return self._changed(key_id, {"secret_hash": hash_of(text)}), text

    def revoke(self, key_id: str) -> VirtualKey:
        """Refuse the key for ever; one that has been revoked before stays as it is.

        :raises KeyNotFound:
        """
        outcome, record = self._change(key_id, "revoke", {})
        return _of_change(key_id, outcome, record)

    def set_owner_budget(self, owner: str, budget: Budget | None) -> None:
        """Give all of an owner's keys together a budget, or none."""
        names = self._names
        keys = [names.owner(owner), names.key_changes, names.key_version]
        with translating_errors():
            self._put_owner(keys, [owner, *_flat(budget_record(budget))])

    def owner_budget(self, owner: str) -> Budget | None:
        """What all of an owner's keys together may spend."""
        (record,) = self.records([OWNER_MEMBER + owner])
        try:
            return budget_of(record)
        except UnreadableRecord as error:
            raise LedgerUnavailable("The owner's budget in Redis cannot be read.") from error

    def usages(self, keys: Sequence[VirtualKey]) -> list[KeyUsage]:
        """What each of the keys has used so far."""
        return self._accounts.usages([key.id for key in keys])

    def budget_states(self, scopes: Sequence[Scope], now: datetime | None = None) -> list[BudgetState]:
        """What is gone of each of the budgets."""
        return self._accounts.states(scopes, now or datetime.now(UTC))

    def version(self) -> int:
        """The number of the last change; 0 where there has been none."""
        with translating_errors():
            found = self._redis.get(self._names.key_version)
        try:
            return int(found or 0)
        except ValueError as error:
            raise LedgerUnavailable("The number of the last change of keys cannot be read.") from error

    def newest(self) -> Cursor:
        """The end of the feed as it is now."""
        with translating_errors():
            last = self._redis.zrange(self._names.key_changes, 0, 0, desc=True, withscores=True)
        return Cursor(int(last[0][1]), str(last[0][0])) if last else START

    def changes_since(self, cursor: Cursor, most: int = 500) -> Changes:
        """At most `most` changes behind `cursor`, from the oldest. Of each key and owner only its last
        change is in the feed."""
        names = self._names
        with translating_errors(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zscore(names.key_changes, cursor.member)
            pipeline.zrangebyscore(
                names.key_changes, f"({cursor.version}", "+inf", start=0, num=most + 1, withscores=True
            )
            score, found = pipeline.execute()
        if cursor != START and (score is None or int(score) < cursor.version):
            return Changes([], START, is_last=False, is_rewritten=True)
        taken = found[:most]
        ends = Cursor(int(taken[-1][1]), taken[-1][0]) if taken else cursor
        return Changes([member for member, _ in taken], ends, is_last=len(found) <= most)

    def records(self, members: Sequence[str]) -> list[dict[str, str]]:
        """The fields of the keys and owners that a feed of changes names, empty for what is not there."""
        with translating_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for member in members:
                if member.startswith(KEY_MEMBER):
                    pipeline.hgetall(self._names.key(member.removeprefix(KEY_MEMBER)))
                else:
                    pipeline.hgetall(self._names.owner(member.removeprefix(OWNER_MEMBER)))
            records: list[dict[str, str]] = pipeline.execute()
        return records

    def _changed(self, key_id: str, fields: dict[str, str]) -> VirtualKey:
        outcome, record = self._change(key_id, "", fields)
        if outcome == "revoked":
            raise InvalidRequest("This key has been revoked, and stays so; create another.")
        return _of_change(key_id, outcome, record)

    def _change(self, key_id: str, act: str, fields: dict[str, str]) -> tuple[str, dict[str, str]]:
        if not is_id(key_id):
            raise _not_found()
        keys = [self._names.key(key_id), self._names.key_changes, self._names.key_version]
        with translating_errors():
            outcome, *flat = self._change_key(keys, [key_id, act, *_flat(fields)])
        return outcome, dict(zip(flat[::2], flat[1::2], strict=True))


def _of_change(key_id: str, outcome: str, record: dict[str, str]) -> VirtualKey:
    key = None if outcome == "unknown" else _readable(key_id, record)
    if key is None:
        raise _not_found()
    return key


def _readable(key_id: str, record: dict[str, str]) -> VirtualKey | None:
    if not record:
        return None
    try:
        return key_of(key_id, record)
    except UnreadableRecord as error:
        logger.error("%s; the key is refused", error)
        return None


def _flat(fields: dict[str, str]) -> list[str]:
    return [part for field in fields.items() for part in field]


def _not_found() -> KeyNotFound:
    return KeyNotFound("There is no virtual key with this id.")
