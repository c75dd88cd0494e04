"""`make chaos`: a gateway before providers that fail all the time, its workers killed meanwhile.

64 clients ask for ten minutes, in all APIs, plain and streamed, with a deadline of 20 seconds for each
request. Three calls of ten fail, each in one of all the ways that the mocks know, and every 20 seconds a
worker is killed. A client asks again as the official ones do: twice, after a connection that broke, a 408,
409, 429 or 5xx, unless the answer says that it is of no use; and as its user would, at most three times in
all, where a stream broke off after it had begun, which nobody else can mend.

At the end 99.9 % of the requests must have succeeded, none may have taken longer than its deadline and a
second, and the gateway must count the tokens that the mocks bill and their cost, to a billionth of a dollar.
Exit status 1 where that does not hold. `python -m tests.benchmarks.chaos 2` takes two minutes.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from tests.conftest import GatewayUnderTest
from tests.support.agreement import TOLERANCE_USD, books_of, table_of
from tests.support.load import LoadResult, Outcome
from tests.support.own_stack import own_gateway
from tests.support.processes import RedisServer, Service, redis_server, running_model
from tests.support.traffic import meanwhile, run_traffic
from tests.support.waiting import eventually

MINUTES = 10.0
CLIENTS = 64
DEADLINE_SECONDS = 20
KILL_EVERY_SECONDS = 20.0
SUCCEED = 0.999
AGREE_WITHIN_SECONDS = 60
RETRIES = 2  # of the official clients; a stream that broke off may be asked for once more
SHARE_OF_FAULTS = 0.3
FAULTS = (
    "status=500",
    "status=502",
    "status=503",
    "status=429,retry_after=1",
    "status=408",
    "connect_reset",
    "stall_before_first_byte",
    "stall_midstream",
    "cut_midstream",
    "cut_before_content",
    "malformed_json",
    "no_usage",
    "slow=0.5",
)
# A stall is noticed while there is time for another try. Where three calls of ten fail, the retry budget
# leaves a tenth of the requests to the other model at once; three retries there would fail one in a thousand.
SETTINGS = {
    "FORWARD_MOCK_FAULTS": "on",
    "UPSTREAM_RETRIES": "5",
    "UPSTREAM_FIRST_BYTE_TIMEOUT_SECONDS": "2",
    "UPSTREAM_IDLE_TIMEOUT_SECONDS": "2",
}
# The clients wait rather than compute, as they share the machine with what they ask.
LATENCY = {"FIRST_TOKEN_SECONDS": "0.3", "TOKEN_INTERVAL_SECONDS": "0.01"}
STREAM_BROKE = "stream broke"


def main(minutes: float, seed: int) -> int:
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with (
            redis_server(folder) as server,
            running_model("cheap_model", folder, **LATENCY) as cheap,
            running_model("expensive_model", folder, **LATENCY) as dear,
        ):
            urls = {"CheapModel": cheap.url, "ExpensiveModel": dear.url}
            return chaos(minutes * 60, seed, folder, urls, server)


def chaos(seconds: float, seed: int, folder: Path, urls: dict[str, str], server: RedisServer) -> int:
    """Let it happen, and say what came of it."""
    kills = 0
    over = threading.Event()
    with own_gateway(folder, urls, server, **SETTINGS) as gateway:

        def kill() -> None:
            nonlocal kills
            while not over.wait(KILL_EVERY_SECONDS):
                gateway.service.kill_worker(kills)
                kills += 1

        with meanwhile(kill):
            try:
                result = run_traffic(
                    gateway.gateway_url,
                    seconds=seconds,
                    clients=CLIENTS,
                    headers=Headers(seed),
                    retry=again,
                    request_seconds=DEADLINE_SECONDS + 10,
                )
            finally:
                over.set()
        failures = report(result, kills)
        if not eventually(lambda: bills_agree(gateway), AGREE_WITHIN_SECONDS):
            failures.append("the gateway's bill is not the mocks'")
        print("\n" + table_of(books_of(gateway)))
        print(
            "calls that only the mock counts have failed behind the client's back; it was served by another"
        )
        failures += differences_of_metrics(gateway)
        failures += complaints(gateway.service)
    print("\n" + ("; ".join(failures) if failures else "Everything holds."))
    return 1 if failures else 0


class Headers:
    """What a request asks of the mocks, another failure each time, and how long it may take."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, number: int) -> Mapping[str, str]:
        with self._lock:
            fault = self._random.choice(FAULTS)
        return {
            "X-Mock-Fault": f"{fault},probability={SHARE_OF_FAULTS}",
            "X-Request-Timeout": str(DEADLINE_SECONDS),
        }


def again(outcome: Outcome) -> float | None:
    """As the official clients have it, and their users."""
    broke_off = outcome.status == 200
    if outcome.whole or outcome.attempt >= RETRIES + broke_off:
        return None
    if broke_off or outcome.status is None:
        return 0.5
    if outcome.retry_is_useless or outcome.status not in {408, 409, 429} | set(range(500, 600)):
        return None
    return min(outcome.retry_after or 0.5, 8.0)


def report(result: LoadResult, kills: int) -> list[str]:
    """Print what became of the requests; what should not have."""
    requests = logical_requests(result)
    ends = Counter(what_became(attempts) for attempts in requests)
    succeeded = sum(attempts[-1].whole for attempts in requests)
    share = succeeded / len(requests)
    slowest = max(result.outcomes, key=lambda each: each.seconds)
    print(f"\n{result}\n{kills} workers killed\n")
    print("| what became of a request | requests | share |\n|---|---|---|")
    for end, count in ends.most_common():
        print(f"| {end} | {count:,} | {count / len(requests):.3%} |")
    print(f"| **succeeded in the end** | **{succeeded:,} of {len(requests):,}** | **{share:.3%}** |")
    print(f"| the slowest answer | {slowest.seconds:.1f} s | |")
    failures = []
    if share < SUCCEED:
        failures.append(f"only {share:.3%} of the requests succeeded")
    if slowest.seconds > DEADLINE_SECONDS + 1:
        failures.append(f"a request took {slowest.seconds:.1f} s: {slowest}")
    return failures


def logical_requests(result: LoadResult) -> list[list[Outcome]]:
    """The attempts of each request, in order. Those that the end of the load kept from asking again are none
    of their fault."""
    requests: defaultdict[tuple[str, int], list[Outcome]] = defaultdict(list)
    for outcome in result.outcomes:
        requests[outcome.path, outcome.number].append(outcome)
    return [attempts for attempts in requests.values() if attempts[-1].whole or again(attempts[-1]) is None]


def what_became(attempts: list[Outcome]) -> str:
    """In words, a line of the report."""
    if len(attempts) == 1 and attempts[0].whole:
        return "answered at once"
    reasons = sorted({reason_of(each) for each in attempts if not each.whole})
    end = "answered when asked again" if attempts[-1].whole else "failed"
    return f"{end}: {', '.join(reasons)}"


def reason_of(outcome: Outcome) -> str:
    if outcome.status is None:
        return "connection broke"
    if outcome.status == 200:
        return STREAM_BROKE if outcome.streamed else "answer broke"
    return f"{outcome.status} {outcome.code}"


def bills_agree(gateway: GatewayUnderTest) -> bool:
    """Whether tokens and money are equal, and calls but for those that failed before an answer began, which
    are no answered requests."""
    counters = gateway.counters()
    for model, books in books_of(gateway).items():
        hidden = books.billed.calls - books.counted.calls
        if not 0 <= hidden <= int(counters.get(f"model:{model}:errors", "0")):
            return False
        if not replace(books, billed=replace(books.billed, calls=books.counted.calls)).agree:
            return False
    return True


def differences_of_metrics(gateway: GatewayUnderTest) -> list[str]:
    """Where /metrics says something else than Redis."""
    told = gateway.metrics()
    counted = {model: gateway.counted(model) for model in gateway.model_urls}
    failures = []
    if told["modelUsageCount"] != {model: bill.calls for model, bill in counted.items()}:
        failures.append("/metrics counts other requests than Redis")
    cost = sum((bill.cost_usd for bill in counted.values()), Decimal(0))
    if abs(Decimal(str(told["totalCostUsd"])) - cost) > TOLERANCE_USD:
        failures.append("/metrics tells another cost than Redis")
    return failures


def complaints(service: Service) -> list[str]:
    """What the gateway itself finds wrong."""
    unexpected = [line for line in service.log.splitlines() if "Traceback" in line or "unexpected" in line]
    for line in unexpected[:5]:
        print(line[:2000])
    return [f"{len(unexpected)} unexpected errors in the log"] if unexpected else []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.chaos")
    parser.add_argument("minutes", nargs="?", type=float, default=MINUTES)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    sys.exit(main(arguments.minutes, arguments.seed))
