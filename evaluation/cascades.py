"""What it gives to ask cheap models first, check the answer, and ask the expensive one where the check fails.

The recorded answers of real models are put together as the rules say, and every call that a rule makes is
paid, the rejected answers too. A cascade's quality on these questions is so known exactly; the intervals are
those of the draw of the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.data import DataError, read_lines, stem_of
from evaluation.prices import price_of

# What ZeroEval's template adds to each question, in characters.
TEMPLATE_CHARACTERS = {"gsm8k-ze": 319, "math-l5": 319, "mmlu-pro": 0}


@dataclass(frozen=True)
class Answer:
    """`final` is the normalised final answer, None where none was found; `is_in_form` says whether the answer
    came in the form that was asked for; `cost` is in USD."""

    final: str | None
    is_right: bool
    is_in_form: bool
    cost: float


@dataclass(frozen=True)
class Question:
    """A question and what each model answered."""

    prompt: str
    stem: str
    answers: dict[str, Answer]


@dataclass(frozen=True)
class Triple:
    """Up to three cheap models in the order in which they are asked, and the expensive one."""

    name: str
    benchmark: str
    cheap: tuple[str, str, str]
    expensive: str


@dataclass(frozen=True)
class Served:
    """What came of one question: whether the answer that was given is right, the USD of all calls, their
    number, and whether the expensive model was asked."""

    is_right: bool
    cost: float
    calls: int
    is_escalated: bool


# How one question is served.
Rule = Callable[[Question, Triple], Served]

GPT_4O = "gpt-4o-2024-08-06"
OLD_GPT_4O = "gpt-4o-2024-05-13"
MINI = "gpt-4o-mini-2024-07-18"
FLASH = "gemini-1.5-flash"
FLASH_002 = "gemini-1.5-flash-002"
PRO_002 = "gemini-1.5-pro-002"
DEEPSEEK = "deepseek-v2.5-0908"
HAIKU = "claude-3-haiku-20240307"
SONNET = "claude-3-5-sonnet-20240620"
GPT_3_5 = "gpt-3.5-turbo-0125"
LLAMA_8B = "llama-3.1-8b-instruct"
LLAMA_70B = "llama-3.1-70b-instruct"
PHI_3 = "phi-3-mini-4k-instruct"
MATHSTRAL = "mathstral-7b"
TRIPLES = [
    triple
    for benchmark in ("gsm8k-ze", "math-l5")
    for triple in (
        Triple("T1", benchmark, (FLASH, MINI, DEEPSEEK), GPT_4O),
        Triple("T2", benchmark, (MINI, DEEPSEEK, FLASH), SONNET),
        Triple("T3", benchmark, (HAIKU, f"meta-{LLAMA_8B}", GPT_3_5), OLD_GPT_4O),
    )
] + [
    Triple("P1", "mmlu-pro", (FLASH_002, LLAMA_8B, PHI_3), PRO_002),
    Triple("P2", "mmlu-pro", (LLAMA_8B, PHI_3, MATHSTRAL), LLAMA_70B),
    Triple("P3", "mmlu-pro", (MATHSTRAL, LLAMA_8B, PHI_3), PRO_002),
]


MODELS = frozenset(model for triple in TRIPLES for model in (*triple.cheap, triple.expensive))


def load_questions(benchmark: str, folder: Path | None = None) -> list[Question]:
    """All questions with recorded answers, in the file's order.

    :raises DataError: where a file is missing or spoilt
    """
    prompts = {line["id"]: line["prompt"] for line in read_lines(benchmark, folder)}
    extra = TEMPLATE_CHARACTERS[benchmark]
    questions = []
    for line in read_lines(f"cascade-{benchmark}", folder):
        try:
            answers = {
                model: _answer_of(model, line["prompt_chars"] + extra, answer)
                for model, answer in line["answers"].items()
                if model in MODELS
            }
            questions.append(Question(prompts[line["id"]], stem_of(prompts[line["id"]]), answers))
        except (KeyError, TypeError) as exc:
            raise DataError(f"an answer of cascade-{benchmark} has no usable {exc}") from exc
    return questions


def _answer_of(model: str, prompt_characters: int, answer: dict[str, Any]) -> Answer:
    return Answer(
        final=answer["a"],
        is_right=answer["ok"] == 1,
        is_in_form=answer["fmt"] == 1,
        cost=price_of(model).of(prompt_characters, answer["out_chars"]),
    )


def expensive_only(question: Question, triple: Triple) -> Served:
    return _escalated(question, triple, [])


def only(number: int) -> Rule:
    """Always that one of the cheap models, unchecked."""

    def rule(question: Question, triple: Triple) -> Served:
        return _taken(question, [triple.cheap[number]])

    return rule


def found(question: Question, triple: Triple) -> Served:
    """The first cheap model's answer, unless no answer can be found in it."""
    first = triple.cheap[0]
    if question.answers[first].final is None:
        return _escalated(question, triple, [first])
    return _taken(question, [first])


def in_form(question: Question, triple: Triple) -> Served:
    """The first cheap model's answer, unless it is cut, empty, or not in the form that was asked for."""
    first = triple.cheap[0]
    answer = question.answers[first]
    if answer.final is None or not answer.is_in_form:
        return _escalated(question, triple, [first])
    return _taken(question, [first])


def two_agree(question: Question, triple: Triple) -> Served:
    """The first cheap model's answer, if the second one's is the same."""
    first, second, _ = triple.cheap
    if _agree(question, first, second):
        return _taken(question, [first, second])
    return _escalated(question, triple, [first, second])


def two_of_three_agree(question: Question, triple: Triple) -> Served:
    """As before, but where the first two differ the third is asked, and the one that it agrees with taken."""
    first, second, third = triple.cheap
    if _agree(question, first, second):
        return _taken(question, [first, second])
    if _agree(question, first, third):
        return _taken(question, [first, second, third])
    if _agree(question, second, third):
        return _taken(question, [second, first, third])
    return _escalated(question, triple, [first, second, third])


def hard_first(rule: Rule, score: Callable[[Question], float], threshold: float) -> Rule:
    """What scores above the threshold goes to the expensive model at once, the rest by the rule."""

    def filtered(question: Question, triple: Triple) -> Served:
        is_hard = score(question) > threshold
        return (expensive_only if is_hard else rule)(question, triple)

    return filtered


def run(rule: Rule, questions: Sequence[Question], triple: Triple) -> list[Served]:
    """What came of each question."""
    return [rule(question, triple) for question in questions]


def answered(questions: Sequence[Question], triple: Triple) -> list[Question]:
    """The questions that all of the triple's models answered."""
    models = (*triple.cheap, triple.expensive)
    return [question for question in questions if all(model in question.answers for model in models)]


def _agree(question: Question, one: str, other: str) -> bool:
    final = question.answers[one].final
    return final is not None and final == question.answers[other].final


def _taken(question: Question, asked: Sequence[str]) -> Served:
    """The first one's answer is given; all are paid."""
    cost = sum(question.answers[model].cost for model in asked)
    return Served(question.answers[asked[0]].is_right, cost, len(asked), is_escalated=False)


def _escalated(question: Question, triple: Triple, asked: Sequence[str]) -> Served:
    """The expensive model's answer is given, after those were asked; all are paid."""
    served = _taken(question, [triple.expensive, *asked])
    return replace(served, is_escalated=True)
