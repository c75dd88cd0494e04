"""`make bench-policies`: what each routing policy adds to the CPU of a request.

One gateway each for the usual settings, without the log of decisions, and with a share that is held; the
policies of the first are asked for by the request. All are up at the same time and take turns; told are
medians of the rounds, and of the ratios to the first within each round. Beside that the time that a prompt
takes to be scored, in this process. `--out docs` writes the page.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from gateway.routing.difficulty import bundled
from gateway.routing.signals import signals_of
from tests.benchmarks import page
from tests.benchmarks.flat import CLIENTS, Cases, case, costs, take_turns
from tests.benchmarks.gateways import own_gateway
from tests.benchmarks.rig import Rig, models_toml, rig
from tests.benchmarks.speed import parser
from tests.support.prompts import prompts

QUESTION = (
    "A train leaves the station at 9:15 and travels at 80 km per hour. A second train leaves at 10:00 on the "
    "same track and travels at 120 km per hour. At what time does the second train reach the first, and how "
    "far from the station are they then? Explain each step of your answer."
)
LONG_CHARACTERS = 20_000
TIMES = 5

USUAL, NO_LOG, HELD = "usual settings", "ROUTING_LOG_SIZE=0", "ROUTING_EXPENSIVE_SHARE=0.2"
GATEWAYS: dict[str, dict[str, str]] = {
    USUAL: {},
    NO_LOG: {"ROUTING_LOG_SIZE": "0"},
    HELD: {"ROUTING_EXPENSIVE_SHARE": "0.2"},
}
# The models that requests name, by the gateway that they are sent to.
ASKED = [
    (NO_LOG, "auto:prompt_length"),
    (USUAL, "auto:prompt_length"),
    (USUAL, "auto:difficulty"),
    (USUAL, "auto:cascade"),
    (HELD, "auto:prompt_length"),
    (HELD, "auto:difficulty"),
]


def main(arguments: argparse.Namespace) -> int:
    told = (
        f"Medians of {arguments.rounds} rounds of {arguments.seconds} s with {CLIENTS} clients, who ask the "
        f"same question of {len(QUESTION)} characters. A cascade's answer passes its check."
    )
    with tempfile.TemporaryDirectory() as text, rig(Path(text)) as ground:
        Path(text).chmod(0o755)
        table = requests_table(ground, arguments.rounds, arguments.seconds)
    block = "\n\n".join([page.circumstances("make bench-policies"), told, table, scoring_table()])
    print(block)
    if arguments.out:
        page.write(arguments.out, "policies", block)
    return 0


def requests_table(ground: Rig, rounds: int, seconds: int) -> str:
    """By the policy that is asked for."""
    file = ground.folder / "models-policies.toml"
    file.write_text(models_toml(ground.upstream, ground.upstream, 0))
    with ExitStack() as started:
        targets = {
            name: started.enter_context(
                own_gateway(ground, name, {"MODELS_FILE": str(file), **settings}).running()
            ).target
            for name, settings in GATEWAYS.items()
        }
        cases: Cases = {
            f"{model}, {gateway}": case(
                ground,
                targets[gateway],
                body=ground.body_file({"model": model, "messages": [{"role": "user", "content": QUESTION}]}),
            )
            for gateway, model in ASKED
        }
        return costs("policy", take_turns(cases, rounds, seconds))


def scoring_table() -> str:
    """The time that real prompts take to be scored, and much longer ones."""
    texts = prompts()
    bundled().score(signals_of([texts[0]]))  # loaded
    long = [(" ".join(texts[i : i + 100]))[:LONG_CHARACTERS] for i in range(0, len(texts), 7)]
    rows = []
    for name, some in (("real prompts", texts), (f"of {LONG_CHARACTERS:,} characters", long)):
        taken = sorted(1e3 * seconds_to_score(text) for text in some)
        middle, slow = statistics.median(taken), taken[int(0.95 * len(taken))]
        rows.append([name, f"{len(some):,}", f"{middle:.2f} ms", f"{slow:.2f} ms"])
    return page.table(["scored by difficulty", "prompts", "p50", "p95"], rows)


def seconds_to_score(text: str) -> float:
    """The least of some tries: what the machine does besides is not the prompt's."""
    least = float("inf")
    for _ in range(TIMES):
        began = time.perf_counter()
        bundled().score(signals_of([text]))
        least = min(least, time.perf_counter() - began)
    return least


if __name__ == "__main__":
    sys.exit(main(parser(__doc__).parse_args()))
