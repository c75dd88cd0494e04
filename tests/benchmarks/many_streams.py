"""`make bench-streams`: thousands of streams at once through two workers, and the memory that they take.

Opens 2,000 streams of 50 chunks at once, half of them at each mock model, checks that each comes whole, in
order and right, and prints the resident memory of each worker before, while all are open, and afterwards.
`python -m tests.benchmarks.many_streams 500 --padding 100000` opens others, with longer prompts. Exit status
1 where any stream was not right.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.many_streams import Request, run_streams
from tests.support.processes import Service, running_gateway, running_model, running_redis

WORKERS = 2
# Long enough for all to have begun before the first has ended.
SECONDS_OF_A_STREAM = 20.0
MEBIBYTE = 2**20
SECONDS_AFTERWARDS = 2.0


def main(count: int, chunks: int, padding: int) -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory()))
        interval = str(SECONDS_OF_A_STREAM / chunks)
        cheap, dear = (
            started.enter_context(running_model(name, folder, TOKEN_INTERVAL_SECONDS=interval))
            for name in ("cheap_model", "expensive_model")
        )
        gateway = started.enter_context(
            running_gateway(
                folder,
                REDIS_URL=started.enter_context(running_redis(folder)),
                CHEAP_MODEL_URL=f"{cheap.url}/v1",
                EXPENSIVE_MODEL_URL=f"{dear.url}/v1",
                WEB_CONCURRENCY=str(WORKERS),
            )
        )
        return measure(gateway, count, chunks, padding)


def measure(gateway: Service, count: int, chunks: int, padding: int) -> int:
    models = ("CheapModel", "ExpensiveModel")
    run_streams(gateway.url, [Request(number, chunks=1) for number in range(20)])  # warm
    report("before", gateway)
    wanted = [Request(number, chunks, models[number % 2], padding) for number in range(count)]
    streams = run_streams(gateway.url, wanted, seconds=600, all_begun=lambda: report("all open", gateway))
    time.sleep(SECONDS_AFTERWARDS)
    report("afterwards", gateway)
    right = count - len(streams.wrong)
    print(
        f"{count} streams of {chunks} chunks: {right} whole, in order and right, in {streams.seconds:.1f} s;"
    )
    print(f"{streams.begun} began, {streams.most_in_work} were in work at once")
    for number, wrong in list(streams.wrong.items())[:5]:
        print(f"stream {number}: {wrong}")
    return 1 if streams.wrong else 0


def report(when: str, gateway: Service) -> None:
    """The resident memory of each worker now."""
    sizes = [worker.memory_info().rss / MEBIBYTE for worker in gateway.workers]
    print(f"{when:<12}" + "".join(f"{size:>8.1f} MiB" for size in sizes), flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("streams", type=int, nargs="?", default=2000)
    options.add_argument("--chunks", type=int, default=50)
    options.add_argument("--padding", type=int, default=0, help="further characters of each prompt")
    chosen = options.parse_args()
    sys.exit(main(chosen.streams, chosen.chunks, chosen.padding))
