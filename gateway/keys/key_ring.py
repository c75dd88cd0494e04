"""The virtual keys as one worker knows them.

Keys are asked from Redis when they are first used and then remembered; a greenlet follows the feed of changes
and forgets what has changed, so that a revoked key is refused soon. While Redis is away what is remembered
goes on being valid, and what is not is looked for in the copy on disk; no request waits for a Redis that is
known to be away.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import gevent
from gevent.lock import BoundedSemaphore

from gateway.budget import Budget, Scope
from gateway.errors import InvalidApiKey, LedgerUnavailable
from gateway.keys.key_copier import KeyCopier
from gateway.keys.key_copy import KeyCopy, NotCopied
from gateway.keys.virtual_key import Tenant, VirtualKey, id_of
from gateway.ledger.key_store import KEY_MEMBER, OWNER_MEMBER, Cursor, KeyStore

SIZE = 10_000
POLL_SECONDS = 0.3
# More at once would only wait for each other's time-outs when Redis goes away.
ASKING_AT_ONCE = 16
UNKNOWN = "The API key is not valid."
AWAY = "The ledger cannot be reached, so this API key cannot be checked now."

Answer = TypeVar("Answer")
Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class Remembered(Generic[Value]):
    """The `size` values that were used last, by name."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[str, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str) -> Value | None:
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def put(self, name: str, value: Value) -> None:
        self._values[name] = value
        self._values.move_to_end(name)
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def forget(self, name: str) -> None:
        self._values.pop(name, None)

    def forget_all(self) -> None:
        self._values.clear()


class KeyRing:
    """Tells whose a request is. `gateway_budget` is that of all requests together."""

    def __init__(
        self,
        store: KeyStore,
        gateway_budget: Budget | None = None,
        copy: KeyCopy | None = None,
        *,
        size: int = SIZE,
        patience: float | None = None,
    ) -> None:
        self._store = store
        self._patience = patience
        self._copy = copy
        self._gateway_scopes: tuple[Scope, ...] = ()
        if gateway_budget is not None:
            self._gateway_scopes = (Scope("gateway", gateway_budget),)
        self._anybody = Tenant(None, self._gateway_scopes)
        self._keys: Remembered[VirtualKey] = Remembered(size)
        self._owner_scopes: Remembered[tuple[Scope, ...]] = Remembered(size)
        self._cursor: Cursor | None = None
        self._forgettings = 0
        self._is_followed = False
        self._is_away = False
        self._places = BoundedSemaphore(ASKING_AT_ONCE)

    def start(self) -> None:
        """Follow the changes from now on, in a greenlet of this worker, and keep the copy if that falls to
        this worker."""
        gevent.spawn(self._run)
        if self._copy is not None:
            KeyCopier(self._copy, self._store).start()

    def anybody(self) -> Tenant:
        """Whoever asks without a key."""
        return self._anybody

    def tenant_of(self, text: str) -> Tenant:
        """The holder of the key `text`.

        :raises InvalidApiKey: when it is malformed, unknown, expired or revoked
        :raises LedgerUnavailable: when that cannot be known now
        """
        key_id = id_of(text)
        if key_id is None:
            raise InvalidApiKey(UNKNOWN)
        now = time.time()
        key = self._keys.get(key_id)
        if key is None or not (key.is_opened_by(text) and key.is_valid(now)):
            key = self._newest(key_id, key)
            if key is None or not key.is_opened_by(text):
                raise InvalidApiKey(UNKNOWN)
            if not key.is_valid(now):
                word = "expired" if key.revoked_at is None else "been revoked"
                raise InvalidApiKey(f"This API key has {word}.")
        scopes = self._gateway_scopes
        if key.owner is not None:
            scopes = self._scopes_of(key.owner) + scopes
        if key.budget is not None:
            scopes = (Scope(KEY_MEMBER + key_id, key.budget), *scopes)
        return Tenant(key, scopes)

    def poll(self) -> None:
        """Forget what has changed since the last look. Whoever does this once does it again and again."""
        self._is_followed = True
        try:
            self._look()
        except LedgerUnavailable:
            self._set_away(True)
        else:
            self._set_away(False)

    def _newest(self, key_id: str, remembered: VirtualKey | None) -> VirtualKey | None:
        """The key as Redis has it now, which may have been given another secret or more time since it was
        last asked; as it is `remembered` or copied where Redis is away."""
        if remembered is not None and remembered.revoked_at is not None:
            return remembered  # which is for ever
        before = self._forgettings
        try:
            key = self._ask(lambda: self._store.find(key_id))
        except LedgerUnavailable:
            # What is remembered is newer than the copy, which may still hold a secret that was exchanged.
            return remembered or self._copied(lambda copy: copy.key(key_id))
        # What changed while Redis answered may have been forgotten before it could be remembered.
        if key is not None and before == self._forgettings:
            self._keys.put(key_id, key)
        return key

    def _scopes_of(self, owner: str) -> tuple[Scope, ...]:
        scopes = self._owner_scopes.get(owner)
        if scopes is not None:
            return scopes
        before = self._forgettings
        try:
            budget = self._ask(lambda: self._store.owner_budget(owner))
        except LedgerUnavailable:
            return _owner_scopes(owner, self._copied(lambda copy: copy.owner_budget(owner)))
        scopes = _owner_scopes(owner, budget)
        if before == self._forgettings:
            self._owner_scopes.put(owner, scopes)
        return scopes

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        """What Redis answers.

        :raises LedgerUnavailable: at once where it is known to be away; the greenlet tries again
        """
        self._refuse_while_away()
        with self._places:
            self._refuse_while_away()
            try:
                with gevent.Timeout(self._patience, LedgerUnavailable(AWAY)):
                    return question()
            except LedgerUnavailable:
                self._set_away(True)
                raise

    def _copied(self, question: Callable[[KeyCopy], Answer]) -> Answer:
        if self._copy is None:
            raise LedgerUnavailable(AWAY)
        try:
            return question(self._copy)
        except NotCopied:
            raise LedgerUnavailable(AWAY) from None

    def _refuse_while_away(self) -> None:
        if self._is_away and self._is_followed:
            raise LedgerUnavailable(AWAY)

    def _set_away(self, is_away: bool) -> None:
        if is_away != self._is_away:
            self._is_away = is_away
            if is_away:
                logger.warning("Redis cannot be asked about keys; those that are known stay valid")
            else:
                logger.info("Redis can be asked about keys again")

    def _look(self) -> None:
        if self._cursor is None:
            self._begin()
        elif self._store.version() != self._cursor.version:
            changes = self._store.changes_since(self._cursor)
            if changes.is_rewritten or not changes.is_last:
                self._begin()
            else:
                self._forget(changes.members)
                self._cursor = changes.cursor

    def _begin(self) -> None:
        """Forget everything, and follow the feed from its end."""
        self._cursor = self._store.newest()
        self._forgettings += 1
        self._keys.forget_all()
        self._owner_scopes.forget_all()

    def _forget(self, members: Iterable[str]) -> None:
        self._forgettings += 1
        for member in members:
            if member.startswith(KEY_MEMBER):
                self._keys.forget(member.removeprefix(KEY_MEMBER))
            else:
                self._owner_scopes.forget(member.removeprefix(OWNER_MEMBER))

    def _run(self) -> None:
        while True:
            try:
                self.poll()
            except Exception:
                logger.exception("following the changes of keys failed")
            gevent.sleep(POLL_SECONDS)


def _owner_scopes(owner: str, budget: Budget | None) -> tuple[Scope, ...]:
    return () if budget is None else (Scope(OWNER_MEMBER + owner, budget),)
