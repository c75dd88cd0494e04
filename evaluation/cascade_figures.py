"""The figures of the cascades beside those of asking single models, at random or by a policy's score."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
# How much a router's points may differ from the mix's cost before it is said to pay: rounding, no more.
EQUAL = 1e-9
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
    is what the cheapest random mix of the triple's single models costs that has the same quality."""

    name: str
    quality: Interval
    cost: Interval
    calls: float
    escalated: float
    mix_cost: float

    @property
    def pays(self) -> bool:
        """Whether a random mix of the same models would cost more."""
        return self.cost.value < self.mix_cost - EQUAL


def single_models(questions: Sequence[Question], triple: Triple) -> dict[str, tuple[float, float]]:
    """(cost, quality) of always asking one model, each as a part of the expensive one's, by model."""
    whole = run(expensive_only, questions, triple)
    models = {
        model: share_of(run(only(number), questions, triple), whole)
        for number, model in enumerate(triple.cheap)
    }
    return models | {triple.expensive: (1.0, 1.0)}


def outcome_of(name: str, rule: Rule, questions: Sequence[Question], triple: Triple, times: int) -> Outcome:
    """The rule's figures, with bootstrap intervals."""
    served, whole = run(rule, questions, triple), run(expensive_only, questions, triple)
    cost, quality = share_of(served, whole)
    samples = [
        share_of(served, whole, weights)
        for weights in resamples([question.stem for question in questions], times)
    ]
    return Outcome(
        name=name,
        quality=interval(quality, [sample[1] for sample in samples]),
        cost=interval(cost, [sample[0] for sample in samples]),
        calls=sum(each.calls for each in served) / len(served),
        escalated=sum(each.is_escalated for each in served) / len(served),
        mix_cost=cheapest_mix(list(single_models(questions, triple).values()), quality),
    )


def filtered_rules(scores: dict[str, Scoring], questions: Sequence[Question]) -> dict[str, Rule]:
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
    whole = run(expensive_only, questions, triple)
    return [
        share_of(
            run(hard_first(rule, score, threshold_of(score, questions, step / STEPS)), questions, triple),
            whole,
        )
        for step in range(STEPS + 1)
    ]


def share_of(
    served: Sequence[Served], whole: Sequence[Served], weights: Sequence[int] | None = None
) -> tuple[float, float]:
    """(cost, quality), each as a part of the other's."""
    weights = weights or [1] * len(served)
    cost = sum(weight * each.cost for weight, each in zip(weights, served, strict=True))
    right = sum(weight * each.is_right for weight, each in zip(weights, served, strict=True))
    dearest = sum(weight * each.cost for weight, each in zip(weights, whole, strict=True))
    best = sum(weight * each.is_right for weight, each in zip(weights, whole, strict=True))
    return cost / dearest, right / best


def cheapest_mix(models: Sequence[tuple[float, float]], quality: float) -> float:
    """The cost of the cheapest random mix of models, given as (cost, quality), that is at least as good;
    infinite where no mix is."""
    costs = [cost for cost, good in models if good >= quality]
    for (cost, good), (other_cost, other_good) in itertools.permutations(models, 2):
        if good < quality <= other_good:
            part = (quality - good) / (other_good - good)
            costs.append(cost + part * (other_cost - cost))
    return min(costs, default=float("inf"))
