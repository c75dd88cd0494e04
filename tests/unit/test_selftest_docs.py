"""The page about the self-test shows what it really prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from selftest.cli import main
from selftest.promises import PROMISES
from selftest.report import print_table
from selftest.verdicts import Outcome, Verdict

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "selftest.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
SAMPLE, LIST = (text for language, text in BLOCKS if not language)
NAMES = {promise.name: promise for promise in PROMISES}
HOLDS = Outcome.HOLDS.value


def sample_names() -> list[str]:
    words = [line.split() for line in SAMPLE.splitlines()]
    return [line[0] for line in words if line and line[0] in NAMES]


def form(table: str) -> list[str]:
    """Its lines without what differs from one run to the next: blanks, what was seen, and figures."""
    lines = []
    for line in table.splitlines():
        words = line.split()
        if words and (words[0] in NAMES or words[0] == "promise"):
            lines.append(f"{words[0]} {HOLDS if words[-1] == HOLDS else ''}".strip())
        elif words and set(words[0]) == {"─"}:
            lines.append("─")
        elif re.match(r"\d+ of \d+ promises hold", line):
            lines.append(re.sub(r"\d+", "N", line))
    return lines


def test_the_sample_has_the_form_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    names = sample_names()
    assert len(names) > 3
    verdicts = [Verdict(NAMES[name], Outcome.HOLDS, 5, "something", 1.0) for name in names]
    print_table(verdicts, 12.3)
    assert form(SAMPLE) == form(capsys.readouterr().out)


def test_the_sample_tells_what_is_tried_in_these_words() -> None:
    squeezed = re.sub(r"\s+", "", SAMPLE)
    for name in sample_names():
        words = NAMES[name].tried.split()
        assert all(word in squeezed for word in words), name


def test_the_list_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out == LIST


def test_every_option_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    options = set(re.findall(r"--[a-z]+", capsys.readouterr().out)) - {"--help"}
    assert {option for option in options if f"| `{option}" not in PAGE} == set()
