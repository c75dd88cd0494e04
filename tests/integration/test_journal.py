"""The journal is a file that outlives its writer: what is in it is read again whole, by one who adopts it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.ledger.journal import Journal, JournalUnwritable, Record, journals_in
from tests.support.outboxes import another_process

RECORDS: list[Record] = [
    {"open": "call-1", "model": "CheapModel", "key": None},
    {"batch": 1, "tally": {"amounts": [["gateway:requests", None, 1]]}, "closes": ["call-1"]},
    {"open": "call-2", "model": "M\u00fcnchen \u2028 \r\n"},
]
HOLDER = """
import sys, time
from pathlib import Path
from gateway.ledger.journal import Journal
journal = Journal.create(Path(sys.argv[1]), "writer")
journal.append({"open": "call"})
print("ready", flush=True)
time.sleep(60)
"""
CUT_OFF = "the last record of a journal was cut off and is dropped"
LEFT_OUT = "a record of a journal cannot be read and is left out"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal whose writer has died."""
    journal = Journal.create(tmp_path, "writer")
    for record in RECORDS:
        journal.append(record)
    journal.close()
    return journal.path


def read(path: Path) -> list[Record]:
    """What an adopter finds, who then leaves it."""
    journal = Journal.adopt(path)
    assert journal is not None
    found = [record for _, record in journal.records()]
    journal.close()
    return found


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_what_was_appended_is_read_again(path: Path) -> None:
    assert read(path) == RECORDS
    assert journals_in(path.parent) == [path]


def test_records_are_read_from_any_that_came_before(path: Path) -> None:
    journal = Journal.adopt(path)
    assert journal is not None
    ends = [end for end, _ in journal.records()]
    assert ends[-1] == journal.length == path.stat().st_size
    for index, end in enumerate(ends):
        assert [record for _, record in journal.records(end)] == RECORDS[index + 1 :]


def test_a_last_record_that_was_cut_off_anywhere_is_dropped(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for length in range(start + 1, len(whole)):
        caplog.clear()
        path.write_bytes(whole[:length])
        assert read(path) == RECORDS[:-1], length
        assert messages(caplog) == [CUT_OFF], length
        assert path.read_bytes() == whole[:start], length
    caplog.clear()
    assert read(path) == RECORDS[:-1]
    assert messages(caplog) == []


def test_a_last_record_whose_end_never_reached_the_disk_is_dropped(path: Path) -> None:
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for zeros in range(1, len(whole) - start + 1):
        path.write_bytes(whole[:-zeros] + bytes(zeros))
        assert read(path) == RECORDS[:-1], zeros


def test_after_a_record_that_was_cut_off_others_can_be_appended(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])
    journal = Journal.adopt(path)
    assert journal is not None
    assert [record for _, record in journal.records()] == RECORDS[:-1]
    journal.append({"batch": 2})
    assert [record for _, record in journal.records()] == [*RECORDS[:-1], {"batch": 2}]


@pytest.mark.parametrize("damage", [b"\x00", b"\r", b"\n", b" ", b"\xff", b"0"])
def test_a_damaged_record_in_the_middle_is_left_out_and_told(
    path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    end = whole.index(b"\n", start)
    for position in range(start, end):
        if whole[position : position + 1] == damage:
            continue
        caplog.clear()
        path.write_bytes(whole[:position] + damage + whole[position + 1 :])
        assert read(path) == [RECORDS[0], RECORDS[2]], position
        assert set(messages(caplog)) == {LEFT_OUT}, position
        assert path.stat().st_size == len(whole)


def test_a_lost_line_feed_takes_no_more_than_the_two_records_beside_it(path: Path) -> None:
    whole = path.read_bytes()
    position = whole.index(b"\n")
    path.write_bytes(whole[:position] + b"x" + whole[position + 1 :])
    assert read(path) == [RECORDS[2]]


def test_a_record_longer_than_what_is_read_at_once_is_read_whole(tmp_path: Path) -> None:
    records: list[Record] = [{"open": "x" * size} for size in (10, 2**20, 3 * 2**20 + 7, 5)]
    journal = Journal.create(tmp_path, "writer")
    for record in records:
        journal.append(record)
    journal.close()
    assert read(journal.path) == records


def test_nobody_adopts_the_journal_of_a_process_that_lives(tmp_path: Path) -> None:
    with another_process(HOLDER, str(tmp_path)) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        (path,) = journals_in(tmp_path)
        assert Journal.adopt(path) is None
        holder.kill()
        holder.wait()
        assert read(path) == [{"open": "call"}]


def test_nobody_adopts_the_journal_that_is_held_here(path: Path) -> None:
    journal = Journal.adopt(path)
    assert journal is not None
    assert Journal.adopt(path) is None
    journal.close()
    assert read(path) == RECORDS


def test_of_many_adopters_at_once_one_wins(path: Path) -> None:
    adopters = 16
    for _ in range(20):
        barrier = threading.Barrier(adopters)

        def adopt(_: int, start: Callable[[], int] = barrier.wait) -> Journal | None:
            start()
            return Journal.adopt(path)

        with ThreadPoolExecutor(adopters) as threads:
            won = [journal for journal in threads.map(adopt, range(adopters)) if journal is not None]
        assert len(won) == 1
        won[0].close()


def test_a_journal_that_was_removed_while_it_was_opened_is_not_adopted(path: Path) -> None:
    journal = Journal.adopt(path)
    assert journal is not None
    journal.remove()
    assert not path.exists()
    assert Journal.adopt(path) is None


def test_a_shortened_journal_has_what_it_was_given_and_all_that_came_behind(path: Path) -> None:
    journal = Journal.adopt(path)
    assert journal is not None
    (first, *_) = [end for end, _ in journal.records()]
    journal.shorten([{"after": 7}], first)
    expected = [{"after": 7}, *RECORDS[1:]]
    assert [record for _, record in journal.records()] == expected
    assert Journal.adopt(path) is None, "the new file must be locked as well"
    journal.append({"batch": 8})
    journal.close()
    assert read(path) == [*expected, {"batch": 8}]
    assert list(path.parent.iterdir()) == [path]


def test_a_directory_that_takes_no_files_has_no_journal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnwritable):
        Journal.create(tmp_path / "file", "writer")
    assert journals_in(tmp_path / "file") == []
    assert journals_in(tmp_path / "nothing") == []
