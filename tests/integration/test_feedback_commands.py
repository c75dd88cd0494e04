"""`flask feedback import`: what is right in a file is noted, and what is wrong is told by its line."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.decisions import decision_log, forget, remember
from tests.support.flask_commands import FlaskCommands
from tests.unit.test_decision import DECISION

pytestmark = pytest.mark.heavy


@pytest.fixture
def feedback(redis_url: str) -> Iterator[FlaskCommands]:
    """Four requests are remembered: `a`, `b` of a key, and `c` of two keys."""
    prefix = f"test-{uuid.uuid4().hex}"
    owners = [("a", None), ("b", "0" * 12), ("c", "0" * 12), ("c", "1" * 12)]
    remember(redis_url, prefix, [replace(DECISION, request_id=name, key_id=key) for name, key in owners])
    yield FlaskCommands("feedback", redis_url, prefix)
    forget(redis_url, prefix)


def scores(feedback: FlaskCommands) -> dict[str, float | None]:
    return {each.name: each.feedback for each in decision_log(feedback.url, feedback.prefix).read()}


def test_what_is_right_is_noted_and_what_is_wrong_is_told_by_its_line(
    feedback: FlaskCommands, tmp_path: Path
) -> None:
    lines = [
        "Score,note,ID",
        "0.5,,a",
        "1,x,b",
        "much,,a",
        "1,,c",
        ",,",
        "1,,d",
        '0.25,"two\nlines",a',
        "2,,a",
    ]
    (tmp_path / "scores.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    told = feedback.json("import", str(tmp_path / "scores.csv"), code=1)
    assert told["noted"] == 3
    assert [wrong["line"] for wrong in told["wrong"]] == [4, 5, 6, 7, 10]
    assert {"key" in wrong["problem"] for wrong in told["wrong"]} == {True, False}
    assert scores(feedback) == {":a": 0.25, f"{'0' * 12}:b": 1, f"{'0' * 12}:c": None, f"{'1' * 12}:c": None}


def test_a_file_without_faults_is_read_from_standard_input_too(feedback: FlaskCommands) -> None:
    assert "2 scores noted" in feedback.output("import", "-", stdin="id,score\na,1\nb,0\n")
    assert scores(feedback)[":a"] == 1


@pytest.mark.parametrize("text", ["", "a,1\n", "id\na\n", "score\n1\n", "\x00\x01,\n"])
def test_a_file_without_the_columns_is_refused_whole(
    feedback: FlaskCommands, tmp_path: Path, text: str
) -> None:
    (tmp_path / "scores.csv").write_text(text)
    assert "column" in feedback.refusal("import", str(tmp_path / "scores.csv"))


def test_a_file_that_is_not_there_and_a_redis_that_is_not_are_told_in_clear_words(
    feedback: FlaskCommands, tmp_path: Path
) -> None:
    assert feedback.run("import", str(tmp_path / "none.csv")).returncode == 2
    (tmp_path / "scores.csv").write_text("id,score\na,1\n")
    nowhere = FlaskCommands("feedback", "redis://:canary@127.0.0.1:1/0", feedback.prefix)
    refusal = nowhere.refusal("import", str(tmp_path / "scores.csv"))
    assert "Redis" in refusal
    assert "canary" not in refusal
