"""`make bench-pair BASE=REF`: whether this tree's requests cost more CPU than those of an earlier commit.

Both serve at the same time, before the same provider, and are asked in turn for a second each, so that the
machine's noise is in both. Told is the median of the ratios of their CPU per request, with its quartiles, for
requests without a key and with one. Exit status 1 where median and lower quartile are both past 1.25, which
noise alone does not bring about. Without a base, or with one that does not start here, nothing is compared.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.gateways import key_header, own_gateway
from tests.benchmarks.measured import Target
from tests.benchmarks.rig import Rig, rig
from tests.support.processes import ROOT

RUN = ROOT / ".run"
BASES = ("origin/main", "HEAD~1")
PAIRS = 9
SECONDS = 1
CLIENTS = 64
WARM_CLIENTS, WARM_SECONDS = 8, 1
MOST = 1.25
KINDS = ("without a key", "with a key")


def main(base: str | None, pairs: int) -> int:
    commit = commit_of(base)
    if commit is None:
        print("no base to compare with")
        return 0
    checkout = checked_out(commit)
    try:
        with tempfile.TemporaryDirectory() as folder, rig(Path(folder)) as ground:
            Path(folder).chmod(0o755)
            return compare(ground, checkout, commit[:10], pairs)
    finally:
        shutil.rmtree(checkout)


def compare(ground: Rig, checkout: Path, name: str, pairs: int) -> int:
    with ExitStack() as started:
        try:
            base = started.enter_context(own_gateway(ground, "base", {}, checkout=checkout).running())
        except RuntimeError as error:
            print(f"{error}\n{name} does not start here: no base to compare with")
            return 0
        this = started.enter_context(own_gateway(ground, "this", {}).running())
        is_fine = True
        for kind in KINDS:
            of_base, of_this = (
                target if kind == KINDS[0] else replace(target, headers=(key_header(target),))
                for target in (base.target, this.target)
            )
            ratios = ratios_of(ground, of_this, of_base, pairs)
            low, middle, high = quartiles(ratios)
            print(f"CPU of a request {kind}: {middle:.2f} times that of {name}, {low:.2f} to {high:.2f}")
            is_fine &= verdict(ratios)
    if not is_fine:
        print(f"A request costs more than {MOST} times what it did.")
    return 0 if is_fine else 1


def ratios_of(ground: Rig, this: Target, base: Target, pairs: int) -> list[float]:
    """By pair of slices, the CPU of a request of the one to that of the other."""
    ratios = []
    for target in (base, this):
        target.measure(ground, WARM_CLIENTS, WARM_SECONDS)
    for number in range(pairs):
        turns = (this, base) if number % 2 else (base, this)
        seen = {target.name: target.measure(ground, CLIENTS, SECONDS, quiet=False) for target in turns}
        failed = {name: each.load.refused + each.load.broken for name, each in seen.items()}
        if any(failed.values()):
            raise RuntimeError(f"not all were answered: {failed}")
        ratios.append(seen[this.name].cpu_us / seen[base.name].cpu_us)
    return ratios


def quartiles(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper one."""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high


def verdict(ratios: Sequence[float]) -> bool:
    """Whether these may be nothing but noise, or no loss at all."""
    low, middle, _ = quartiles(ratios)
    return not (middle > MOST and low > MOST)


def commit_of(base: str | None) -> str | None:
    """The commit to compare with: the one that is named, or else the first that is another than this tree's.

    :raises SystemExit: where the one that is named is unknown
    """
    if base:
        return resolved(base) or sys.exit(f"{base} is no commit here")
    is_changed = git("diff", "--quiet", "HEAD").returncode != 0
    here = None if is_changed else resolved("HEAD")
    return next((found for each in BASES if (found := resolved(each)) not in (None, here)), None)


def resolved(reference: str) -> str | None:
    done = git("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}")
    return done.stdout.decode().strip() or None


def checked_out(commit: str) -> Path:
    """A new folder with the tree of this commit."""
    RUN.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="base-", dir=RUN))
    archive = git("archive", commit, "--", "gateway", check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def git(*arguments: str, check: bool = False) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=check)


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("base", nargs="?", help="origin/main, or else HEAD~1")
    options.add_argument("--pairs", type=int, default=PAIRS)
    chosen = options.parse_args()
    sys.exit(main(chosen.base, chosen.pairs))
