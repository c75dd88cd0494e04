"""Keeps the copy of all keys on this host's disk up to date, whichever worker does it.

The one that holds the lock of a file does; where it dies the kernel gives the lock back, and another takes
over. All writing happens in a thread, since a disk may be slow. A copy that cannot be kept up to date is
removed: it would go on accepting keys that have been revoked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import gevent

from gateway.errors import LedgerUnavailable
from gateway.keys.key_copy import DAMAGED, DATABASE, KeyCopy
from gateway.ledger.key_store import KEY_MEMBER, OWNER_MEMBER, START, Cursor, KeyStore

LOCK = "keys.lock"
LOOK_SECONDS = 0.5
AFTER_FAILURE_SECONDS = 30.0  # a full disk would otherwise be filled again at once
PAGE = 100  # records that are read in one go, between which the worker serves
BETWEEN_PAGES_SECONDS = 0.005
FORMAT = 1  # of the database, kept in its `user_version`
SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE keys (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE owners (name TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE place (version INTEGER NOT NULL, member TEXT NOT NULL, is_whole INTEGER NOT NULL);
INSERT INTO place VALUES (0, '', 0);
PRAGMA user_version = 1;
COMMIT;
"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class KeyCopier:
    """Copies what `store` holds into the directory of `copy`, if it gets to be the one that does."""

    def __init__(self, copy: KeyCopy, store: KeyStore) -> None:
        self._directory = copy.directory
        self._store = store
        self._lock: int | None = None
        self._database: CopyDatabase | None = None
        self._is_failing = False

    def start(self) -> None:
        """Copy from now on, in a greenlet of this worker."""
        gevent.spawn(self._run)

    def look(self) -> bool:
        """Bring the copy up to date, if this is the worker that does it; whether it is.

        :raises OSError, sqlite3.Error: when there can be no copy
        :raises LedgerUnavailable: while Redis is away
        """
        if self._lock is None:
            self._lock = _try_lock(self._directory / LOCK)
            if self._lock is None:
                return False
        if self._database is not None and not self._database.is_in_place:
            self._close()
        if self._database is None:
            self._database = _in_thread(CopyDatabase.open, self._directory)
        self._follow(self._database)
        return True

    def look_safely(self) -> float:
        """The same, where whatever hinders it is logged once and leaves no copy that is out of date; the
        seconds until the next look makes sense."""
        try:
            if self.look():
                self._note(None)
        except LedgerUnavailable:
            pass  # the ring tells of it
        except (OSError, sqlite3.Error) as error:
            self._note(error)
            self._discard()
            return AFTER_FAILURE_SECONDS
        return LOOK_SECONDS

    def stop(self) -> None:
        """Leave it to another worker."""
        self._close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _follow(self, database: CopyDatabase) -> None:
        if database.is_whole and self._store.version() == database.cursor.version:
            return
        while True:
            changes = self._store.changes_since(database.cursor, PAGE)
            if changes.is_rewritten:
                _in_thread(database.clear)
                continue
            records = self._store.records(changes.members)
            rows = list(zip(changes.members, records, strict=True))
            _in_thread(database.apply, rows, changes.cursor, changes.is_last)
            if changes.is_last:
                return
            gevent.sleep(BETWEEN_PAGES_SECONDS)

    def _run(self) -> None:
        while True:
            wait = AFTER_FAILURE_SECONDS
            try:
                wait = self.look_safely()
            except Exception:
                logger.exception("copying the keys failed")
            gevent.sleep(wait)

    def _note(self, error: Exception | None) -> None:
        if error is not None and not self._is_failing:
            logger.warning("there is no local copy of the keys for when Redis is away: %s", error)
        if error is None and self._is_failing:
            logger.info("the local copy of the keys is kept again")
        self._is_failing = error is not None

    def _discard(self) -> None:
        """Remove the copy, unless it is another worker's."""
        self._close()
        if self._lock is not None:
            with contextlib.suppress(OSError):
                remove_copy(self._directory)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


class CopyDatabase:
    """The copy as its one writer has it open. `cursor` is how far in the feed it has come; with `is_whole`
    that was the feed's end."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        self._directory = directory
        self._connection = connection
        self._inode = os.stat(directory / DATABASE).st_ino
        version, member, is_whole = connection.execute(
            "SELECT version, member, is_whole FROM place"
        ).fetchone()
        self.cursor = Cursor(version, member)
        self.is_whole = bool(is_whole)

    @classmethod
    def open(cls, directory: Path) -> CopyDatabase:
        """The database in `directory`; a new one where there is none, or one that cannot be read."""
        if not (directory / DAMAGED).exists():
            try:
                return cls._open(directory)
            except (sqlite3.DatabaseError, TypeError, ValueError) as error:
                logger.warning("the local copy of the keys is begun anew: %s", error)
        remove_copy(directory)
        return cls._open(directory)

    @classmethod
    def _open(cls, directory: Path) -> CopyDatabase:
        file = directory / DATABASE
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError("it is damaged")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(SCHEMA)
            elif version != FORMAT:
                raise sqlite3.DatabaseError("it is another version's")
            return cls(directory, connection)
        except BaseException:
            connection.close()
            raise

    @property
    def is_in_place(self) -> bool:
        """Whether it is still the one that others read, and none of them has found it damaged."""
        try:
            return os.stat(self._directory / DATABASE).st_ino == self._inode and not os.path.exists(
                self._directory / DAMAGED
            )
        except OSError:
            return False

    def apply(self, rows: list[tuple[str, dict[str, str]]], cursor: Cursor, is_whole: bool) -> None:
        """Write the records of what has changed up to `cursor`, all at once; an empty one is removed."""
        with self._transaction():
            for member, record in rows:
                of_key = member.startswith(KEY_MEMBER)
                name = member.removeprefix(KEY_MEMBER if of_key else OWNER_MEMBER)
                if record:
                    put = "INSERT OR REPLACE INTO keys" if of_key else "INSERT OR REPLACE INTO owners"
                    self._connection.execute(f"{put} VALUES (?, ?)", (name, json.dumps(record)))
                else:
                    remove = "DELETE FROM keys WHERE id" if of_key else "DELETE FROM owners WHERE name"
                    self._connection.execute(f"{remove} = ?", (name,))
            self._place(cursor, is_whole)
        self.cursor, self.is_whole = cursor, is_whole

    def clear(self) -> None:
        """Begin anew."""
        with self._transaction():
            self._connection.execute("DELETE FROM keys")
            self._connection.execute("DELETE FROM owners")
            self._place(START, False)
        self.cursor, self.is_whole = START, False

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _place(self, cursor: Cursor, is_whole: bool) -> None:
        values = (cursor.version, cursor.member, int(is_whole))
        self._connection.execute("UPDATE place SET version = ?, member = ?, is_whole = ?", values)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise


def remove_copy(directory: Path) -> None:
    """
    :raises OSError: where it cannot be removed
    """
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", DAMAGED):
        (directory / name).unlink(missing_ok=True)


def _try_lock(file: Path) -> int | None:
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _in_thread(act: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
    result: Result = gevent.get_hub().threadpool.apply(act, args, kwargs)
    return result
