"""`python -m evaluation`: judge the routing policies on the public data, and write docs/routing.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from evaluation.cascade_report import cascade_block
from evaluation.cascades import TRIPLES, load_questions
from evaluation.data import FILES, ROOT, DataError, load
from evaluation.difficulty import CrossValidated
from evaluation.metrics import RESAMPLES
from evaluation.policy_report import policy_blocks
from tests.benchmarks.page import replaced

PAGE = "routing.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder of the page; without it the tables are printed")
    parser.add_argument(
        "--resamples", type=int, default=RESAMPLES, help="bootstrap samples (default: %(default)s)"
    )
    arguments = parser.parse_args()
    began = time.monotonic()
    try:
        benchmarks = {name: load(name) for name in FILES}
        questions = {triple.benchmark: load_questions(triple.benchmark) for triple in TRIPLES}
    except DataError as exc:
        sys.exit(str(exc))
    difficulty = CrossValidated(benchmarks)
    blocks, pictures = policy_blocks(benchmarks, difficulty, arguments.resamples)
    blocks["cascades"], more_pictures = cascade_block(questions, difficulty, arguments.resamples)
    blocks = {name: f"{_circumstances()}\n\n{block}" for name, block in blocks.items()}
    if arguments.out:
        write(arguments.out, blocks, pictures | more_pictures)
    else:
        print("\n\n".join(blocks.values()))
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)


def write(folder: Path, blocks: Mapping[str, str], pictures: Mapping[str, str]) -> None:
    """Put each block between its marks in the page, and each picture beside it."""
    page = folder / PAGE
    text = page.read_text()
    for name, block in blocks.items():
        text = replaced(text, name, block)
    page.write_text(text)
    for name, picture in pictures.items():
        (folder / name).write_text(picture)


def _circumstances() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = done.stdout.strip() or "unknown"
    return (
        f"`make eval-routing`, {datetime.now(UTC):%Y-%m-%d}, commit {commit}, litellm {version('litellm')}."
    )


if __name__ == "__main__":
    main()
