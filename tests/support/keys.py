"""Virtual keys for tests, in a Redis and a copy of their own."""

from __future__ import annotations

from pathlib import Path

from gateway.keys.key_copier import KeyCopier
from gateway.keys.key_copy import KeyCopy
from gateway.ledger.connection import connect
from gateway.ledger.key_store import KeyStore
from gateway.ledger.names import Names

RING_TIMEOUT_SECONDS = 0.1


def key_store(url: str, prefix: str = "gateway", timeout: float = RING_TIMEOUT_SECONDS) -> KeyStore:
    """The keys below `prefix`, by a client of its own with the time-out that a gateway has."""
    return KeyStore(connect(url, timeout), Names(prefix))


def copied(store: KeyStore, directory: Path) -> KeyCopy:
    """A copy of all keys as they are now."""
    copy = KeyCopy(directory)
    copier = KeyCopier(copy, store)
    assert copier.look()
    copier.stop()
    return copy
