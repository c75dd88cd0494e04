"""The command line: `flask feedback`."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import IO, NamedTuple

import click
from flask.cli import AppGroup

from gateway.config import Settings
from gateway.feedback import is_request_id, score_of_text
from gateway.keys.commands import REDIS_TIMEOUT_SECONDS, as_json_option, in_clear_words
from gateway.ledger.connection import connect
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.names import Names

COLUMNS = ("id", "score")
UNKNOWN = "no request of this id is remembered"

feedback_commands = AppGroup("feedback", help="How good the answers were, for routing to learn from.")


class Line(NamedTuple):
    """One line of a file: the decision that it scores, or what is wrong with it."""

    number: int
    decision: str
    score: float
    problem: str | None = None


@feedback_commands.command("import", with_appcontext=False)
@click.argument("file", type=click.File("r", encoding="utf-8-sig", errors="replace"))
@as_json_option
@in_clear_words
def import_scores(file: IO[str], as_json: bool) -> None:
    """Note the scores in FILE, a CSV with the columns id and score, 0 to 1; of several for one id the last
    counts.

    Lines that are wrong are told by their numbers, and the others are noted; the exit code is 1 then.
    """
    log = decision_log()
    lines = list(_read(file, log))
    good = [line for line in lines if line.problem is None]
    known = log.score_all([(line.decision, line.score) for line in good])
    noted = sum(known)
    wrong = [line for line in lines if line.problem is not None]
    # Dropped from the log between the two looks at it.
    wrong += [
        line._replace(problem=UNKNOWN) for line, is_known in zip(good, known, strict=True) if not is_known
    ]
    if as_json:
        told = [{"line": line.number, "problem": line.problem} for line in wrong]
        click.echo(json.dumps({"noted": noted, "wrong": told}, indent=2))
    else:
        for line in wrong:
            click.echo(f"line {line.number}: {line.problem}", err=True)
        click.echo(f"{noted} scores noted, {len(wrong)} lines wrong")
    if wrong:
        raise SystemExit(1)


def decision_log() -> DecisionLog:
    settings = Settings.from_env()
    return DecisionLog(connect(settings.redis_url, REDIS_TIMEOUT_SECONDS), Names(settings.redis_key_prefix))


def _read(file: IO[str], log: DecisionLog) -> Iterator[Line]:
    """
    :raises click.ClickException: for a file without the columns
    """
    decisions: defaultdict[str, list[str]] = defaultdict(list)
    for name in log.names():
        decisions[name.partition(":")[2]].append(name)
    rows = csv.DictReader(file, strict=True)
    try:
        columns = [name.strip().lower() for name in rows.fieldnames or ()]
    except csv.Error:
        columns = []
    if missing := [name for name in COLUMNS if name not in columns]:
        raise click.ClickException(f"The file has no column {missing[0]!r} in its first line.")
    rows.fieldnames = columns
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Line(rows.line_num, "", 0, f"this is no CSV: {error}")
            continue
        yield _line(rows.line_num, (row["id"] or "").strip(), (row["score"] or "").strip(), decisions)


def _line(number: int, request_id: str, text: str, decisions: defaultdict[str, list[str]]) -> Line:
    score = score_of_text(text)
    if not is_request_id(request_id):
        return Line(number, "", 0, "the id is none of a request")
    if score is None:
        return Line(number, "", 0, "the score is no number from 0 to 1")
    names = decisions.get(request_id, [])
    if not names:
        return Line(number, "", 0, UNKNOWN)
    if len(names) > 1:
        return Line(number, "", 0, "several keys have a request of this id")
    return Line(number, names[0], score)
