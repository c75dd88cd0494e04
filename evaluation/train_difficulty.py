"""Makes the weights of the `difficulty` policy that come with the gateway:
`python -m evaluation.train_difficulty`.

The topics are counted first, by the subjects that the benchmarks state; the model is then fitted by the
gateway's own fitting to what the dearer model of each pair gained. AlpacaEval has no part in it: its licence
forbids that, and judges' taste is no difficulty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from evaluation.data import FILES, TRAINABLE, Outcome, load, read_lines
from gateway.routing import difficulty, topics
from gateway.routing.difficulty import DifficultyModel
from gateway.routing.fitting import Example, fit
from gateway.routing.signals import signals_of, words_of
from gateway.routing.topics import Topics, count_topics

# Benchmarks differ twentyfold in size. With equal weights of all prompts two of them would be the whole of
# what is learned; with equal weights of all benchmarks the noise of the small ones.
POWER_OF_SIZE = -0.5
# Of the benchmarks that state no subjects.
TOPIC_OF_BENCHMARK = {
    "gsm8k-fixed": "word problems",
    "gsm8k-ze": "word problems",
    "math-l5": "mathematics",
}
# Subjects of the same kind are one topic; school, college and professional ones are anyway.
TOPIC_OF_SUBJECT = {
    "abstract_algebra": "algebra",
    "business": "finance",
    "clinical_knowledge": "clinical",
    "conceptual_physics": "physics",
    "electrical_engineering": "electrical",
    "elementary_mathematics": "arithmetic",
    "health": "medicine",
    "high_school_european_history": "history",
    "high_school_us_history": "history",
    "high_school_world_history": "history",
    "math": "mathematics",
    "other": "miscellaneous",
}
LEVELS = ("high_school_", "college_", "professional_")
# How MMLU-Pro marks a question that it took from MMLU.
FROM_MMLU = "ori_mmlu-"


@dataclass(frozen=True)
class Trained:
    """What the gateway needs to score a prompt."""

    topics: Topics
    model: DifficultyModel

    def score(self, prompt: str) -> float:
        """The probability that only the dearer model would do; 1 where the model abstains."""
        return self.model.score(signals_of([prompt], self.topics)).value


def train(outcomes: Sequence[Outcome]) -> Trained:
    """Both from nothing but these outcomes, and the subjects of their prompts."""
    prompts = {(each.benchmark, each.id): each for each in outcomes}
    found = count_topics(
        (words_of(each.prompt), TOPIC_OF_BENCHMARK.get(each.benchmark) or subjects(each.benchmark)[each.id])
        for each in prompts.values()
    )
    signals = {place: signals_of([each.prompt], found) for place, each in prompts.items()}
    sizes = Counter(benchmark for benchmark, _ in prompts)
    pairs = Counter((each.benchmark, each.id) for each in outcomes)
    examples = []
    for each in outcomes:
        place = (each.benchmark, each.id)
        weight = sizes[each.benchmark] ** POWER_OF_SIZE / pairs[place]
        group = f"{each.benchmark} {each.pair.cheap}"
        examples.append(Example(signals[place], each.gain, weight, group))
    return Trained(found, fit(examples))


@cache
def subjects(benchmark: str) -> dict[str, str]:
    """The topic of each prompt of a benchmark that states subjects, by the prompt's id."""
    return {line["id"]: topic_of(line["meta"]) for line in read_lines(FILES[benchmark])}


def topic_of(subject: str) -> str:
    """The topic that a subject belongs to, in words; MMLU-Pro states its own category and the source."""
    category, _, source = subject.partition("|")
    name = source.removeprefix(FROM_MMLU) if source.startswith(FROM_MMLU) else category
    name = TOPIC_OF_SUBJECT.get(name, name)
    for level in LEVELS:
        name = name.removeprefix(level)
    return name.replace("_", " ")


def main() -> None:
    """Write both files that come with the gateway."""
    outcomes = [outcome for benchmark in TRAINABLE for outcome in load(benchmark)]
    trained = train(outcomes)
    topics.BUNDLED.write_text(trained.topics.to_json(), encoding="utf-8")
    difficulty.BUNDLED.write_text(trained.model.to_json(), encoding="utf-8")
    size = sum(path.stat().st_size for path in (topics.BUNDLED, difficulty.BUNDLED))
    print(
        f"{len(outcomes)} outcomes, {len(trained.topics.words)} words, {len(trained.model.signals)} signals"
    )
    print(f"{size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
