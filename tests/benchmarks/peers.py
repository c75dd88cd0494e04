"""`make bench-peers`: this gateway and others in one run: LiteLLM, TensorZero, sglang's router, Portkey.

Installs into `.run/peers` what is not there yet, which takes some minutes and 2 GB, and measures what
`make bench` does, and what each takes on disk. One that cannot be installed or does not start is told and
left out. `--only` is a regular expression of the peers' names; `--out docs` writes the page and its plot.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import page
from tests.benchmarks.peer_setups import ALL, Peer, own_mebibytes
from tests.benchmarks.rig import rig
from tests.benchmarks.speed import begin, parser, report, standing, take_turns, tell, warm_up
from tests.benchmarks.speed_report import BARE, FULL, LEANEST, Figures

OURS = f"^({BARE}|{FULL}|{LEANEST})$"


def main(arguments: argparse.Namespace) -> int:
    peers = list(installed(arguments.only))
    with tempfile.TemporaryDirectory() as text, rig(Path(text)) as ground:
        Path(text).chmod(0o755)
        with standing(ground, OURS) as (targets, all_figures), ExitStack() as started:
            for peer in peers:
                try:
                    target, cold_starts, idle = begin(peer.gateway(ground), started)
                except RuntimeError as error:
                    tell(f"left out: {error}")
                    continue
                targets.append(target)
                all_figures[target.name] = Figures(target.name, {}, [], cold_starts, idle)
                warm_up(ground, [target])
            take_turns(ground, targets, all_figures, arguments.rounds, arguments.seconds)
        shown = [all_figures[target.name] for target in targets]
    measured = [peer for peer in peers if peer.name in all_figures]
    title = "The gateway beside other gateways"
    return report(shown, arguments, "make bench-peers", "peers", title, sizes(measured))


def installed(only: str) -> Iterator[Peer]:
    """Those of this name that are installed, or can be."""
    for peer in ALL:
        if re.search(only, peer.name):
            tell(f"installing {peer.name}")
            try:
                peer.install()
            except subprocess.CalledProcessError as error:
                tell(f"{peer.name} is left out: {error}")
            else:
                yield peer


def sizes(peers: list[Peer]) -> str:
    """The versions, and what each takes on disk beside Python or node, as Markdown."""
    rows = [["ours", "", f"{own_mebibytes():,.0f}"]]
    rows += [[peer.name, peer.version, f"{peer.installed_mebibytes:,.0f}"] for peer in peers]
    return page.table(["", "version", "MiB installed"], rows)


if __name__ == "__main__":
    sys.exit(main(parser(__doc__).parse_args()))
