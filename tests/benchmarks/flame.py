"""`make bench-flame`: where the CPU of a request goes, with 64 clients who have keys with budgets.

Samples the worker's stacks by py-spy, which has to be allowed to look at other processes: root, or
`sysctl kernel.yama.ptrace_scope=0`. Prints the shares of the layers and the functions that took most;
`--out docs` writes `performance-flame.svg` and the page, `--key no` measures without keys.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.benchmarks import page
from tests.benchmarks.gateways import DEFAULT, VARIANTS, key_header, own_gateway
from tests.benchmarks.measured import Target
from tests.benchmarks.rig import Rig, rig
from tests.benchmarks.speed import parser, warm_up
from tests.benchmarks.stacks import Stack, flame_graph, hottest, parsed, shares
from tests.support.processes import ROOT

CLIENTS = 64
SAMPLES_A_SECOND = 400
HOTTEST = 12
PICTURE = "performance-flame.svg"
LINK = f"[The flame graph]({PICTURE}): what calls is below what it calls, as wide as the CPU that both take."


def main(arguments: argparse.Namespace) -> int:
    variant, with_key = arguments.variant, arguments.key == "yes"
    with tempfile.TemporaryDirectory() as text, rig(Path(text)) as ground:
        Path(text).chmod(0o755)
        with own_gateway(ground, "ours", VARIANTS[variant]).running() as started:
            target = started.target
            if with_key:
                target = replace(target, headers=(key_header(target),))
            warm_up(ground, [target])
            stacks, cpu_us = sample(ground, target, arguments.seconds * arguments.rounds)
    layers = page.table(
        ["layer", "share of the CPU", "µs a request"],
        [[layer, f"{share:.1%}", f"{share * cpu_us:,.0f}"] for layer, share in shares(stacks).items()],
    )
    rows = [[f"`{frame}`", f"{share:.1%}"] for frame, share in hottest(stacks, HOTTEST)]
    functions = page.table(["function itself", "share"], rows)
    told = f"{sum(stacks.values()):,} samples of a worker's CPU under {CLIENTS} clients, "
    told += f"{'full features' if with_key else 'bare'}."
    block = "\n\n".join([page.circumstances("make bench-flame"), told, layers, functions])
    print(block)
    if arguments.out:
        title = "Where the CPU of a request goes"
        (arguments.out / PICTURE).write_text(flame_graph(stacks, title))
        page.write(arguments.out, "flame", f"{block}\n\n{LINK}")
    return 0


def sample(ground: Rig, target: Target, seconds: int) -> tuple[dict[Stack, int], float]:
    """The worker's stacks under load, and the microseconds of a request's CPU before."""
    before = target.measure(ground, CLIENTS, min(seconds, 5))
    service = target.service
    if service is None or not service.workers:
        raise ValueError(f"{target.name} has no worker")
    file = ground.folder / "stacks.txt"
    command = [
        str(Path(sys.executable).with_name("py-spy")),
        "record",
        "--pid",
        str(service.workers[0].pid),
        "--duration",
        str(seconds),
    ]
    command += ["--rate", str(SAMPLES_A_SECOND), "--format", "raw", "--output", str(file)]
    # A little longer, since py-spy takes a moment to begin.
    load = threading.Thread(target=partial(target.measure, ground, CLIENTS, seconds + 2, quiet=False))
    load.start()
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        load.join()
    if done.returncode or not file.exists():
        sys.exit(f"py-spy failed: {done.stdout}{done.stderr}")
    return dict(parsed(file.read_text(), str(ROOT))), before.cpu_us


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--variant", choices=VARIANTS, default=DEFAULT)
    options.add_argument("--key", choices=("yes", "no"), default="yes")
    sys.exit(main(options.parse_args()))
