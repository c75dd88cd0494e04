"""Stub until the branch `difficulty` brings its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from evaluation.data import Outcome, read_lines
from gateway.routing.difficulty import DifficultyModel
from gateway.routing.fitting import Example, fit
from gateway.routing.signals import signals_of, words_of
from gateway.routing.topics import Topics, count_topics


@dataclass(frozen=True)
class Trained:
    topics: Topics
    model: DifficultyModel

    def score(self, prompt: str) -> float:
        return self.model.score(signals_of([prompt], self.topics)).value


@cache
def subjects() -> dict[str, str]:
    found = {}
    for file in ("mmlu", "mmlu-pro"):
        for line in read_lines(file):
            found[line["id"]] = line["meta"].split("|")[0]
    return found


def train(outcomes: Sequence[Outcome]) -> Trained:
    known = subjects()
    texts = {each.id: (words_of(each.prompt), known.get(each.id, each.benchmark)) for each in outcomes}
    topics = count_topics(texts.values())
    signals = {}
    for each in outcomes:
        if each.prompt not in signals:
            signals[each.prompt] = signals_of([each.prompt], topics)
    examples = [
        Example(signals[each.prompt], each.gain, 1.0, f"{each.benchmark} {each.pair}") for each in outcomes
    ]
    return Trained(topics, fit(examples))
