"""A worker's journal: a file of records, one per line, that outlives the worker.

A record is a JSON object behind its CRC-32 in hexadecimal. Appending hands it to the operating system, so
that a process that is killed loses nothing of it; a machine that loses power may lose what came after the
last `sync`. The file is locked while its worker lives; when it dies the system gives the lock away, and
another worker can adopt the file. A last record that was cut off is recognised and dropped.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import orjson

SUFFIX = ".journal"
READ_BYTES = 2**20

Record: TypeAlias = dict[str, Any]

logger = logging.getLogger(__name__)


class JournalUnwritable(Exception):
    """The record is not in the journal: the disk is full, or there is no place for one."""


class Journal:
    """One open and locked file. `length` is that of its whole records in bytes."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.length = os.fstat(descriptor).st_size
        self._descriptor = descriptor

    @classmethod
    def create(cls, directory: Path, name: str) -> Journal:
        """A new journal.

        :raises JournalUnwritable: where the directory takes none
        """
        path = directory / f"{name}{SUFFIX}"
        # Locked before it can be seen, so that nobody takes it for that of a dead worker.
        hidden = path.with_suffix(".new")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = _open(hidden, os.O_CREAT | os.O_TRUNC)
        except OSError as error:
            raise JournalUnwritable from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(path)
        except OSError as error:
            os.close(descriptor)
            raise JournalUnwritable from error
        return cls(path, descriptor)

    @classmethod
    def adopt(cls, path: Path) -> Journal | None:
        """The journal of a worker that has died; None while it lives, or where another has adopted it."""
        try:
            descriptor = _open(path)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between our opening and locking it may have been removed or exchanged for a shorter one.
            if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return cls(path, descriptor)
        except OSError:
            pass
        os.close(descriptor)
        return None

    @property
    def is_in_place(self) -> bool:
        """Whether others would find it: it may have been deleted."""
        try:
            return os.stat(self.path).st_ino == os.fstat(self._descriptor).st_ino
        except OSError:
            return False

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(SUFFIX)

    def append(self, record: Record) -> None:
        """
        :raises JournalUnwritable: then nothing of the record stays behind
        """
        line = _line_of(record)
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise JournalUnwritable from error
        if written < len(line):
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.length)
            raise JournalUnwritable
        self.length += len(line)

    def records(self, start: int = 0) -> Iterator[tuple[int, Record]]:
        """The records from the offset `start` on, each with the offset behind it. Those that cannot be read
        are told in the log and left out; a last one that was cut off is cut off the file."""
        position = start
        for line in self._lines(start):
            record = _record_of(line)
            end = position + len(line)
            if record is not None:
                yield end, record
            elif end >= self.length:
                logger.warning(
                    "the last record of a journal was cut off and is dropped", extra={"journal": self.name}
                )
                self._truncate(position)
                return
            else:
                logger.error(
                    "a record of a journal cannot be read and is left out",
                    extra={"journal": self.name, "offset": position},
                )
            position = end

    def shorten(self, records: Iterable[Record], start: int) -> None:
        """Exchange all that stands before the offset `start` for these records, at once.

        :raises JournalUnwritable: then all is as it was
        """
        new = self.path.with_suffix(".new")
        text = b"".join(map(_line_of, records)) + os.pread(self._descriptor, self.length - start, start)
        try:
            descriptor = _open(new, os.O_CREAT | os.O_TRUNC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.write(descriptor, text) < len(text):
                    raise JournalUnwritable
                new.rename(self.path)
            except BaseException:
                os.close(descriptor)
                raise
        except (OSError, JournalUnwritable) as error:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise JournalUnwritable from error
        os.close(self._descriptor)
        self._descriptor, self.length = descriptor, len(text)

    def sync(self) -> None:
        """Wait until the disk has it; takes as long as the disk takes."""
        with suppress(OSError):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Leave the file to whoever adopts it."""
        os.close(self._descriptor)

    def remove(self) -> None:
        """Delete the file, which nobody needs any more."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(".new").unlink(missing_ok=True)  # of a death while it was shortened
        self.close()

    def _lines(self, start: int) -> Iterator[bytes]:
        """The file's lines up to its present length, each with its end."""
        rest, position, end = b"", start, self.length
        while position < end:
            piece = os.pread(self._descriptor, min(READ_BYTES, end - position), position)
            if not piece:
                break
            position += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line + b"\n"
        if rest:
            yield rest

    def _truncate(self, length: int) -> None:
        with suppress(OSError):
            os.ftruncate(self._descriptor, length)
        self.length = length


def journals_in(directory: Path) -> list[Path]:
    """The files of all journals, be their workers alive or dead."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == SUFFIX)
    except OSError:
        return []


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o600)


def _line_of(record: Record) -> bytes:
    text = orjson.dumps(record)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _record_of(line: bytes) -> Record | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    record: Record = json.loads(text)
    return record
