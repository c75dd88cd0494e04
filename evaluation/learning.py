"""`python -m evaluation.learning`: tenants whose whole traffic is one benchmark. What does a model that
learns from their feedback gain, does `flask router promote` let it, and do the intervals of replay hold the
truth?

Of each request only the score of the model that was asked is revealed. The model that a tenant begins with is
trained on the public data without the prompts it is judged on: once as it comes with the gateway, with other
prompts of the tenant's benchmark among what it learned, and once without all benchmarks of that kind, as for
traffic that nobody has published."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import fmean, median

from evaluation.data import ROOT, TRAINABLE, DataError, Outcome, by_pair, load
from evaluation.difficulty import FAMILIES
from evaluation.metrics import Ranking
from evaluation.train_difficulty import Trained, train
from gateway.routing import learning
from gateway.routing.decision import Decision
from gateway.routing.estimates import Estimate
from gateway.routing.replay import Replayed, at_share, by_difficulty, by_length, by_trained, gain, replay
from gateway.routing.signals import signals_of
from tests.benchmarks.page import replaced, table

SEEDS = 20
REQUESTS = 1000
EXPLORED = 0.02
SHARE = 0.5
JUDGED_FOLD = 0
TENANTS = (("mmlu-clean", 0), ("gsm8k-ze", 0), ("gsm8k-ze", 1), ("gsm8k-ze", 2))


@dataclass
class Tally:
    """What came of a tenant's seeds."""

    bundled: list[float] = field(default_factory=list)
    length: list[float] = field(default_factory=list)
    trained: list[float] = field(default_factory=list)
    promoted: int = 0
    promoted_wrongly: int = 0
    covered: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)


def main() -> None:
    try:
        benchmarks = {name: load(name) for name in TRAINABLE}
    except DataError as error:
        sys.exit(str(error))
    everything = [outcome for outcomes in benchmarks.values() for outcome in outcomes]
    as_bundled = train([outcome for outcome in everything if outcome.fold != JUDGED_FOLD])
    rows = []
    for benchmark, place in TENANTS:
        family = next(family for family in FAMILIES if benchmark in family)
        unlike = train([outcome for outcome in everything if outcome.benchmark not in family])
        pair, outcomes = list(by_pair(benchmarks[benchmark]).items())[place]
        for called, begins_with, known in (("as bundled", as_bundled, True), ("unlike", unlike, False)):
            tally = Tally()
            for seed in range(SEEDS):
                run(outcomes, begins_with, seed, tally, is_known=known)
            rows.append([f"{benchmark}, {pair.cheap}", called, *_cells(tally)])
            print(rows[-1], flush=True)
    text = table(
        [
            "traffic",
            "begins with",
            "APGR of it",
            "of length",
            "trained, median of seeds (least to most)",
            "better than it",
            "promoted",
            "of these worse",
            "interval holds the truth",
            "its width",
        ],
        rows,
    )
    page = ROOT / "docs" / "learning.md"
    if "--write" in sys.argv:
        page.write_text(replaced(page.read_text(), "learning", text))
    else:
        print(text)


def run(outcomes: Sequence[Outcome], start: Trained, seed: int, tally: Tally, *, is_known: bool) -> None:
    """One tenant: some of the outcomes are its traffic, and the rest are what it is judged on."""
    drawing = random.Random(seed)
    mixed = list(outcomes)
    drawing.shuffle(mixed)
    if is_known:
        traffic = [each for each in mixed if each.fold != JUDGED_FOLD][:REQUESTS]
        rest = [each for each in mixed if each.fold == JUDGED_FOLD]
    else:
        count = min(REQUESTS, 2 * len(mixed) // 3)
        traffic, rest = mixed[:count], mixed[count:]
    decisions = routed(traffic, start, drawing)
    live = by_difficulty(start.model, 0.0)
    trained = learning.train(decisions, start.model, SHARE)
    gains = [each.gain for each in rest]
    signals = [signals_of([each.prompt], start.topics) for each in rest]
    before = Ranking([start.model.score(each).value for each in signals], gains).apgr()
    after = Ranking([trained.whole.model.score(each).value for each in signals], gains).apgr()
    tally.bundled.append(before)
    tally.trained.append(after)
    tally.length.append(Ranking([float(len(each.prompt)) for each in rest], gains).apgr())
    better = gain(
        decisions, at_share(decisions, by_trained(trained), SHARE), at_share(decisions, live, SHARE)
    )
    if better.value is not None and better.low is not None and better.low > 0:
        tally.promoted += 1
        tally.promoted_wrongly += after < before
    ends = sorted(len(each.prompt) for each in traffic)
    for policy in (
        by_length(ends[len(ends) // 2]),
        at_share(decisions, live, 0.3),
        at_share(decisions, by_trained(trained), SHARE),
    ):
        note_interval(replay(decisions, policy).quality, policy, decisions, traffic, tally)


def routed(traffic: Sequence[Outcome], start: Trained, drawing: random.Random) -> list[Decision]:
    """What the model that a tenant begins with made of its traffic, and the scores of what was asked."""
    signals = [signals_of([each.prompt], start.topics) for each in traffic]
    scores = [start.model.score(each).value for each in signals]
    threshold = sorted(scores)[int((1 - SHARE) * len(scores))]
    began = time.time() - len(traffic)
    decisions = []
    for i, (each, known, score) in enumerate(zip(traffic, signals, scores, strict=True)):
        explored = drawing.random() < EXPLORED
        is_dear = (score > threshold) != explored
        decisions.append(
            Decision(
                request_id=str(i),
                key_id=None,
                time=began + i,
                policy="difficulty",
                characters=len(each.prompt),
                score=score,
                threshold=threshold,
                model="dear" if is_dear else "cheap",
                other="cheap" if is_dear else "dear",
                is_dear=is_dear,
                propensity=EXPLORED if explored else 1 - EXPLORED,
                signals=known,
                cost=Decimal(0),
                feedback=each.expensive_score if is_dear else each.cheap_score,
            )
        )
    return decisions


def note_interval(
    estimate: Estimate,
    policy: Replayed,
    decisions: Sequence[Decision],
    traffic: Sequence[Outcome],
    tally: Tally,
) -> None:
    """Whether the interval holds what the policy would really have been worth on this traffic."""
    wishes = [policy(decision) for decision in decisions]
    truth = fmean(
        each.expensive_score if wish is not None and wish.dear else each.cheap_score
        for each, wish in zip(traffic, wishes, strict=True)
        if wish is not None
    )
    if estimate.low is not None and estimate.high is not None:
        tally.covered.append(estimate.low <= truth <= estimate.high)
        tally.widths.append(estimate.high - estimate.low)


def _cells(tally: Tally) -> list[str]:
    better = sum(after > before for after, before in zip(tally.trained, tally.bundled, strict=True))
    return [
        f"{median(tally.bundled):.3f}",
        f"{median(tally.length):.3f}",
        f"{median(tally.trained):.3f} ({min(tally.trained):.3f} to {max(tally.trained):.3f})",
        f"{better} of {len(tally.trained)}",
        f"{tally.promoted} of {len(tally.trained)}",
        str(tally.promoted_wrongly),
        f"{sum(tally.covered)} of {len(tally.covered)}",
        f"{fmean(tally.widths):.3f}",
    ]


if __name__ == "__main__":
    main()
