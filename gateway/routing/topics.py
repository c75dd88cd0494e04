"""What a text is about, by the words in it: which are known at all, and of which topics they speak.

The words and their topics are counted from public exam questions (`evaluation/train_difficulty.py`); a
topic's name says no more than the name of a school subject.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BUNDLED = Path(__file__).with_name("topics.json")
# Of each word, the topics that it speaks for most.
TOPICS_OF_A_WORD = 4
# A word says something of a topic where it is this much likelier (natural logarithm) than elsewhere.
LEAST_EVIDENCE = 0.7
# Counted in addition to each topic's own words, spread as in all texts: what is rare proves little.
PRIOR_WORDS = 20
FEWEST_TEXTS = 6
MOST_WORDS = 7500
# Evidence adds up less than proportionally, as words of one text are not independent.
DAMPING = 0.4
# Fewer words count as so many: one or two make no topic.
FEWEST_WORDS = 10
LEAST_SHARE = 0.02
TENTHS = 10


@dataclass(frozen=True)
class Topics:
    """`words` holds all that are known; of each, the topics that it speaks for (by their place in `names`)
    with the evidence, in tenths of a natural logarithm. Many speak for none."""

    names: tuple[str, ...]
    words: Mapping[str, tuple[tuple[int, int], ...]]

    def of(self, words: Collection[str]) -> dict[str, float]:
        """The share of each topic among what these distinct words are about, 0 to 1; small ones are left
        out."""
        evidence: dict[int, int] = {}
        known = self.words
        for word in words:
            for topic, tenths in known.get(word, ()):
                evidence[topic] = evidence.get(topic, 0) + tenths
        damping = TENTHS * max(FEWEST_WORDS, len(words)) ** DAMPING
        odds = {topic: math.exp(tenths / damping) for topic, tenths in evidence.items()}
        total = sum(odds.values()) + len(self.names) - len(odds)
        return {
            self.names[topic]: value / total for topic, value in odds.items() if value / total > LEAST_SHARE
        }

    def to_json(self) -> str:
        """One word a line, so that a change of the words is a readable change of the file."""
        lines = [
            f"{json.dumps(word)}: {json.dumps([n for pair in pairs for n in pair], separators=(',', ':'))}"
            for word, pairs in sorted(self.words.items())
        ]
        return f'{{"topics": {json.dumps(self.names)},\n"words": {{\n' + ",\n".join(lines) + "\n}}\n"

    @classmethod
    def from_json(cls, text: str) -> Topics:
        """:raises ValueError: where the text is not what `to_json` gives"""
        try:
            values = json.loads(text)
            return cls(
                tuple(values["topics"]),
                {
                    word: tuple(zip(flat[::2], flat[1::2], strict=True))
                    for word, flat in values["words"].items()
                },
            )
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise ValueError(f"these are no topics: {exc}") from exc


def count_topics(texts: Iterable[tuple[Collection[str], str]]) -> Topics:
    """The topics of texts, each given by its distinct words and the name of its topic."""
    in_topic: dict[str, Counter[str]] = {}
    for distinct, topic in texts:
        in_topic.setdefault(topic, Counter()).update(distinct)
    names = sorted(in_topic)
    everywhere: Counter[str] = Counter()
    for counts in in_topic.values():
        everywhere.update(counts)
    total = everywhere.total() + len(everywhere)
    sizes = [in_topic[name].total() for name in names]
    words: dict[str, tuple[tuple[int, int], ...]] = {}
    usual = sorted(everywhere, key=lambda word: (-everywhere[word], word))[:MOST_WORDS]
    for word in usual:
        if everywhere[word] < FEWEST_TEXTS:
            break
        share = (everywhere[word] + 1) / total
        evidence = [
            (math.log((in_topic[name][word] + PRIOR_WORDS * share) / (sizes[i] + PRIOR_WORDS) / share), i)
            for i, name in enumerate(names)
        ]
        best = sorted(evidence, key=lambda pair: (-pair[0], pair[1]))[:TOPICS_OF_A_WORD]
        words[word] = tuple((i, round(TENTHS * value)) for value, i in best if value >= LEAST_EVIDENCE)
    return Topics(tuple(names), words)


@cache
def bundled() -> Topics:
    """Those that come with the gateway; read when they are first asked for."""
    return Topics.from_json(BUNDLED.read_text(encoding="utf-8"))
