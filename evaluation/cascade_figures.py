"""The figures of the cascades beside those of asking single models, at random or by a policy's score."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from evaluation.cascades import (
    Question,
    Rule,
    Served,
    Triple,
    expensive_only,
    found,
    hard_first,
    in_form,
    only,
    run,
    two_agree,
    two_of_three_agree,
)
from evaluation.metrics import Interval, interval, resamples

STEPS = 20
FILTERED = 0.2
# Of the expensive model's cost; less is not worth a second provider and a longer wait.
WORTHWHILE = 0.05
RULES: dict[str, Rule] = {
    "an answer is found": found,
    "in the form asked for": in_form,
    "two agree": two_agree,
    "two of three agree": two_of_three_agree,
}
Scoring = Callable[[Question], float]


@dataclass(frozen=True)
class Outcome:
    """What a rule gives. Quality and cost are parts of those of always asking the expensive model; `mix_cost`
    is what the cheapest random mix of the triple's single models costs that is as good."""

    name: str
    quality: Interval
    cost: Interval
    calls: float
    escalated: float
    mix_cost: float

    @property
    def verdict(self) -> str:
        """Whether it saves at least `WORTHWHILE` beside a mix that is as good."""
        saved = self.mix_cost - self.cost.value
        if saved >= WORTHWHILE:
            return "yes"
        return "hardly" if saved > 0 else "no"


def single_models(questions: Sequence[Question], triple: Triple) -> dict[str, tuple[float, float]]:
    """(cost, quality) of always asking one model, each as a part of the expensive one's, by model."""
    whole = totals(run(expensive_only, questions, triple))
    cheap = {
        model: parts(totals(run(only(number), questions, triple)), whole)
        for number, model in enumerate(triple.cheap)
    }
    return cheap | {triple.expensive: (1.0, 1.0)}


def outcomes_of(
    rules: Mapping[str, Rule], questions: Sequence[Question], triple: Triple, times: int
) -> list[Outcome]:
    """The figures of each rule, all with the same bootstrap samples."""
    whole = run(expensive_only, questions, triple)
    served = {name: run(rule, questions, triple) for name, rule in rules.items()}
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in rules}
    for weights in resamples([question.stem for question in questions], times):
        most = totals(whole, weights)
        for name in rules:
            samples[name].append(parts(totals(served[name], weights), most))
    models = list(single_models(questions, triple).values())
    found = []
    for name, each in served.items():
        cost, quality = parts(totals(each), totals(whole))
        found.append(
            Outcome(
                name=name,
                quality=interval(quality, [sample[1] for sample in samples[name]]),
                cost=interval(cost, [sample[0] for sample in samples[name]]),
                calls=sum(one.calls for one in each) / len(each),
                escalated=sum(one.is_escalated for one in each) / len(each),
                mix_cost=cheapest_mix(models, quality),
            )
        )
    return found


def filtered_rules(scores: Mapping[str, Scoring], questions: Sequence[Question]) -> dict[str, Rule]:
    """Both rules of agreement, with the fifth of the questions that scores highest sent on at once."""
    return {
        f"{rule_name}, hardest {FILTERED:.0%} by {score_name} at once": hard_first(
            RULES[rule_name], score, threshold_of(score, questions, FILTERED)
        )
        for score_name, score in scores.items()
        for rule_name in ("two agree", "two of three agree")
    }


def threshold_of(score: Scoring, questions: Sequence[Question], share: float) -> float:
    """Above it lies about that share of the questions."""
    ordered = sorted(map(score, questions), reverse=True)
    above = round(share * len(ordered))
    return ordered[above] if above < len(ordered) else ordered[-1] - 1


def curve(
    rule: Rule, score: Scoring, questions: Sequence[Question], triple: Triple
) -> list[tuple[float, float]]:
    """(cost, quality) as the share that is sent to the expensive model at once goes from none to all."""
    whole, served = run(expensive_only, questions, triple), run(rule, questions, triple)
    hardest_first = sorted(range(len(questions)), key=lambda row: -score(questions[row]))
    most = totals(whole)
    found = []
    for step in range(STEPS + 1):
        at_once = frozenset(hardest_first[: round(step / STEPS * len(questions))])
        mixed = [whole[row] if row in at_once else served[row] for row in range(len(questions))]
        found.append(parts(totals(mixed), most))
    return found


def totals(served: Sequence[Served], weights: Sequence[int] | None = None) -> tuple[float, float]:
    """(USD, right answers); with weights, as if every question were there so many times."""
    costs = (each.cost for each in served)
    right = (each.is_right for each in served)
    if weights is None:
        return sum(costs), sum(right)
    return sum(map(mul, costs, weights)), sum(map(mul, right, weights))


def parts(of: tuple[float, float], whole: tuple[float, float]) -> tuple[float, float]:
    """(cost, quality), each as a part of the other's."""
    return of[0] / whole[0], of[1] / whole[1]


def cheapest_mix(models: Sequence[tuple[float, float]], quality: float) -> float:
    """The cost of the cheapest random mix of models, given as (cost, quality), that is at least as good;
    infinite where no mix is."""
    costs = [cost for cost, good in models if good >= quality]
    for (cost, good), (other_cost, other_good) in itertools.permutations(models, 2):
        if good < quality <= other_good:
            part = (quality - good) / (other_good - good)
            costs.append(cost + part * (other_cost - cost))
    return min(costs, default=float("inf"))
