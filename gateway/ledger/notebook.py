"""A writer's journal as it is written: the calls that are open, and whether it takes records at all."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from gateway.ledger.journal import Journal, JournalUnwritable, Record

logger = logging.getLogger(__name__)


class Notebook:
    """`open_calls` are the records of calls that are not over, by their ids; `is_journaling` says whether the
    journal has taken the last record."""

    def __init__(self, name: str, journal: Journal | None = None) -> None:
        self.journal = journal
        self.is_journaling = journal is not None
        self.open_calls: dict[str, Record] = {}
        self._name = name
        self._directory: Path | None = None

    def keep_journal(self, directory: Path) -> None:
        """Write everything to a journal in `directory` from now on.

        :raises JournalUnwritable: where that takes none
        """
        self._directory = directory
        self.journal = Journal.create(directory, self._name)
        self.is_journaling = True

    def open_call(self, call: str, record: Record) -> None:
        """Note that a call is about to be made.

        :raises JournalUnwritable:
        """
        record = {"open": call, **record}
        self.open_calls[call] = record
        self.append(record)

    def note_asked(self, call: str) -> None:
        """Note that a call that was opened as still being reserved is made now."""
        self.open_calls[call]["reserving"] = False
        with suppress(JournalUnwritable):
            self.append({"asked": call})

    def close_call(self, call: str) -> None:
        """Note that a call is not made after all, without anything to add."""
        self.open_calls.pop(call, None)
        with suppress(JournalUnwritable):
            self.append({"closed": call})

    def append(self, record: Record) -> int:
        """The offset behind the record in the journal. Whether that takes any is logged when it changes.

        :raises JournalUnwritable:
        """
        try:
            if self.journal is None:
                raise JournalUnwritable
            self.journal.append(record)
        except JournalUnwritable as error:
            if self.is_journaling:
                self.is_journaling = False
                cause = type(error.__cause__ or error).__name__
                logger.error("the journal takes no records; Redis alone keeps them", extra={"cause": cause})
            raise
        if not self.is_journaling:
            self.is_journaling = True
            logger.warning("the journal takes records again")
        return self.journal.length

    @property
    def has_lost_its_journal(self) -> bool:
        """Whether it could not be opened, or has been deleted under our hands."""
        return self._directory is not None and not (self.journal is not None and self.journal.is_in_place)

    def begin_again(self, first: Record) -> None:
        """Exchange the journal for a new one with `first` and the open calls.

        :raises JournalUnwritable: then all is as it was
        """
        assert self._directory is not None  # noqa: S101 - where none is wanted none is lost
        journal = Journal.create(self._directory, self._name)
        for record in (first, *self.open_calls.values()):
            journal.append(record)
        lost, self.journal = self.journal, journal
        if lost is not None:
            lost.close()
        self.is_journaling = True
        logger.warning("the journal was not there, and is begun again")
