"""A copy of all keys and owners in a file of this host, for when Redis cannot be asked: one SQLite database
in a directory, which `key_copier.py` keeps up to date. It holds no key's secret, only its hash."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

from gateway.budget import Budget
from gateway.keys.key_record import UnreadableRecord, budget_of, key_of
from gateway.keys.virtual_key import VirtualKey

DATABASE = "keys.sqlite"
DAMAGED = "keys.damaged"  # whoever finds the database damaged says so by this file
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
WAIT_SECONDS = 0.05  # for the file's lock, which is only held for moments
KEY_QUERY = "SELECT is_whole, (SELECT record FROM keys WHERE id = ?) FROM place"
OWNER_QUERY = "SELECT is_whole, (SELECT record FROM owners WHERE name = ?) FROM place"


class NotCopied(Exception):
    """The copy cannot tell: it does not have this, is not whole, or there is none."""


class KeyCopy:
    """Reads the copy in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / DATABASE
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None

    def key(self, key_id: str) -> VirtualKey:
        """
        :raises NotCopied: also where it has no such key, which may be a new one
        """
        record = self._record(KEY_QUERY, key_id)
        if record is None:
            raise NotCopied
        try:
            return key_of(key_id, record)
        except UnreadableRecord:
            self._tell_damage()
            raise NotCopied from None

    def owner_budget(self, owner: str) -> Budget | None:
        """
        :raises NotCopied:
        """
        try:
            return budget_of(self._record(OWNER_QUERY, owner) or {})
        except UnreadableRecord:
            self._tell_damage()
            raise NotCopied from None

    def _record(self, query: str, name: str) -> dict[str, str] | None:
        try:
            row = self._open().execute(query, (name,)).fetchone()
        except (sqlite3.Error, OSError) as error:
            if is_damage(error):
                self._tell_damage()
            self._close()
            raise NotCopied from error
        if row is None or not row[0]:
            raise NotCopied
        try:
            record: dict[str, str] | None = None if row[1] is None else dict(json.loads(row[1]))
        except (ValueError, TypeError):
            self._tell_damage()
            raise NotCopied from None
        return record

    def __del__(self) -> None:
        self._close()  # Python warns of connections that nobody has closed

    def _open(self) -> sqlite3.Connection:
        inode = os.stat(self._file).st_ino
        if self._connection is None or inode != self._inode:
            self._close()
            uri = f"{self._file.absolute().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, isolation_level=None)
            self._inode = inode
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _tell_damage(self) -> None:
        with contextlib.suppress(OSError):
            (self.directory / DAMAGED).touch()


def is_damage(error: Exception) -> bool:
    """Whether the database can no longer be read, and not only not now."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) in DAMAGE
