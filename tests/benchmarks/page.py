"""`docs/performance.md`: what is written by hand stays, and between marks stands what was measured last."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.support.processes import ROOT

PAGE = "performance.md"
LIBRARIES = ("flask", "gunicorn", "gevent", "requests", "urllib3", "redis")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; all columns but the first are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replaced(page: str, name: str, block: str) -> str:
    """The page with the block of this name in the place of what stood there.

    :raises ValueError: where the page has no such place
    """
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"no place for {name} in the page")
    return f"{before}{begin}\n{block.strip()}\n\n{end}{after}"


def write(folder: Path, name: str, block: str) -> None:
    """Put the block into the page in this folder."""
    page = folder / PAGE
    page.write_text(replaced(page.read_text(), name, block))


def circumstances(command: str, *further: str) -> str:
    """The command, the commit, the versions and the machine, as a paragraph."""
    versions = [f"Python {platform.python_version()}", *map(_library, LIBRARIES)]
    versions += [_first(r"nginx/(\S+)", "nginx", "-v", name="nginx"), *further]
    return (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, commit {_commit()}. {', '.join(versions)}. "
        f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}."
    )


def _library(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _first(pattern: str, *command: str, name: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(pattern, done.stdout + done.stderr)
    return f"{name} {found.group(1)}" if found else name


def _commit() -> str:
    """The commit's short name, and whether the code was changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--", "gateway")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    return found.group(1) if found else platform.machine()
