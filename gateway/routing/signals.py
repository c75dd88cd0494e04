"""What is measured of a prompt: its length, its form, its numbers and formulas, what it is about.

A signal's name is `KIND/WHAT` (`numbers/density`, `topic/law`), for one form of prompt with the form behind
it (`length/all in options`): a long multiple-choice question and a long word problem are not hard for the
same reason. No name and no value tells what was written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from math import log1p

from gateway.routing import topics as bundled_topics
from gateway.routing.addresses import without_addresses
from gateway.routing.topics import Topics

WORD = re.compile(r"[^\W\d_]+")
# Faster, and the same for what is most common.
ASCII_WORD = re.compile(r"[a-z]+")
# Of a longer text only its beginning and its end are read, which is where the task is stated.
HEAD, TAIL = 1200, 400
# The newest turns that count, each half as much as the one after it.
TURNS = 4
FADING = 0.5
# A turn with fewer words that mean something leaves room for the turns before it.
SUBSTANCE = 6
# So much of a text, by its letters, must be words that are known; otherwise it is another language or none.
# Less will do where the small words are English, as in a question full of names.
LEAST_KNOWN = 0.5
LEAST_KNOWN_IN_ENGLISH = 0.2
ENGLISH = frozenset(
    WORD.findall("the of is are what which who how why to by that this with from for if find each")
)
# Words that carry a conversation on without saying what about.
EMPTY_WORDS = frozenset(
    WORD.findall("""
    a again ahead alright also an and any as at be but can continue carry could do does done else fine for
    from get give go going good got great has have hey hi how i if in is it just keep last let lets like
    listen me more my next no nope not now of ok okay on one or part please proceed really redo retry right
    same say show so sure tell than thank thanks that the them then there these they thing this those to too
    try up us very want was we well what when which with would yeah yep yes you your
    """)
)

NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
OPTION = re.compile(r"^[ \t]*\(?[A-J][.)][ \t]", re.MULTILINE)
NUMERIC_OPTION = re.compile(r"^[ \t]*\(?[A-J][.)][ \t]+[$\d.\-]", re.MULTILINE)
MONEY = re.compile(r"[$€£]\d")
# A LaTeX command, or what stands between two dollar signs that are no prices with words between them.
FORMULA = re.compile(r"\\[A-Za-z]{2,}|\$(?![^$\n]*[a-z]{2} [a-z]{2})[^$\n]{1,80}\$(?!\d)")
CAPITALISED = re.compile(r" [A-Z][a-z]")
# What begins or ends a line of code, in the languages that are asked about most.
CODE_BEGINS = (
    *("def ", "class ", "import ", "return ", "elif ", "public ", "private ", "const ", "var ", "function "),
    *("func ", "fn ", "#include", "print(", "for (", "if (", "while (", "SELECT ", "INSERT ", "CREATE TABLE"),
)
CODE_ENDS = (";", "{", "}", "):", ");", "];")
FENCE = "```"
NEGATIONS = frozenset(WORD.findall("not except never least false incorrect neither nor cannot"))
COMPARISONS = frozenset(
    WORD.findall("""
    each every per times twice thrice half third quarter percent total more less fewer than remaining left
    """)
)
OPERATORS = "+-*/^<>"


@dataclass(frozen=True)
class _Turn:
    """`substance` is 0 where nothing can be told from the turn, 1 where it stands for itself."""

    signals: Mapping[str, float]
    substance: float


def signals_of(texts: Sequence[str], topics: Topics | None = None) -> dict[str, float]:
    """The signals of a user's turns, the oldest first; one that is not named is 0. None at all where nothing
    can be told: an empty prompt, an unknown language or script, gibberish, a "go on" without anything before
    it.

    The newest turn counts most, and one that says little ("yes", "and in France?") takes after those before
    it.
    """
    known = bundled_topics.bundled() if topics is None else topics
    blended: dict[str, float] = {}
    total, weight = 0.0, 1.0
    for text in islice(reversed(texts), TURNS):
        turn = _measured(text, known)
        share = weight * turn.substance
        if share:
            for name, value in turn.signals.items():
                blended[name] = blended.get(name, 0.0) + share * value
            total += share
        weight *= FADING
        # What is older than a turn that stands for itself would hardly count.
        if turn.substance == 1.0 and total >= 1.0:
            break
    return {name: round(value / total, 4) for name, value in blended.items() if value}


def words_of(text: str) -> set[str]:
    """The distinct words of a text as far as it is read, in lower case."""
    return set(_words_of(_read_of(text).lower()))


def _words_of(lowered: str) -> list[str]:
    return (ASCII_WORD if lowered.isascii() else WORD).findall(lowered)


def _measured(text: str, topics: Topics) -> _Turn:
    text = text.strip()
    read = _read_of(text)
    lowered = read.lower()
    words = _words_of(lowered)
    distinct = set(words)
    kept = without_addresses(read, distinct).strip()
    length = len(text) - len(read) + len(kept)
    if len(kept) < len(read):
        words = _words_of(kept.lower())
        distinct = set(words)
    numbers = NUMBER.findall(kept)
    form = _form_of(kept)
    substance = _substance(distinct, len(numbers), form, topics)
    if not substance:
        return _Turn({}, 0.0)
    signals = _shape(kept, length, words, distinct, numbers, form)
    for topic, share in topics.of(distinct & topics.words.keys()).items():
        signals[f"topic/{topic}"] = share
    return _Turn(signals, substance)


def _read_of(text: str) -> str:
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def _form_of(text: str) -> str:
    if len(OPTION.findall(text)) >= 2:
        return "options"
    if FENCE in text:
        return "code"
    if FORMULA.search(text):
        return "formulas"
    lines = [line.strip() for line in text.split("\n")]
    code = sum(line.startswith(CODE_BEGINS) or line.endswith(CODE_ENDS) for line in lines)
    return "code" if code >= 2 else "prose"


def _substance(distinct: Set[str], numbers: int, form: str, topics: Topics) -> float:
    known = distinct & topics.words.keys()
    marked = form in ("formulas", "code")
    if not marked:
        # Scripts without spaces make one word of a clause, so it is letters that are counted.
        letters = sum(map(len, distinct))
        least = LEAST_KNOWN_IN_ENGLISH if len(distinct & ENGLISH) >= 2 else LEAST_KNOWN
        if letters and sum(map(len, known)) < least * letters:
            return 0.0
    telling = len(known - EMPTY_WORDS) + min(numbers, SUBSTANCE // 2) + (SUBSTANCE if marked else 0)
    return min(1.0, telling / SUBSTANCE)


def _shape(
    text: str, length: int, words: Sequence[str], distinct: Set[str], numbers: Sequence[str], form: str
) -> dict[str, float]:
    places = [match.start() for match in OPTION.finditer(text)] if form == "options" else []
    question = text[: places[0]] if places else text
    lengths = {
        "length/all": log1p(length) - 5.5,
        "length/question": log1p(len(question)) - 5,
        "length/sentences": log1p(question.count(". ") + question.count("? ")),
        "length/distinct words": log1p(len(distinct)) - 3.5,
    }
    if places:
        lengths["length/option"] = log1p((length - len(question)) / len(places))
    signals = {f"form/{form}": 1.0, **lengths}
    for name, value in lengths.items():
        signals[f"{name} in {form}"] = value
    if form == "formulas":
        signals["formulas/commands"] = log1p(text.count("\\"))
        signals["formulas/fractions"] = log1p(text.count("\\frac"))
    signals["formulas/equations"] = log1p(text.count("="))
    signals["formulas/operators"] = log1p(sum(map(text.count, OPERATORS)))
    if places:
        signals |= _of_options(text, question, len(places), words, distinct, numbers)
    return signals


def _of_options(
    text: str,
    question: str,
    options: int,
    words: Sequence[str],
    distinct: Set[str],
    numbers: Sequence[str],
) -> dict[str, float]:
    """What tells something of multiple-choice questions only. In other prompts it told nothing that held for
    prompts not seen before, and hid what their length tells."""
    count = max(1, len(words) + len(numbers))
    lengths = list(map(len, words))
    unfinished = "___" in text or not question.rstrip().endswith(("?", "."))
    return {
        "options/numeric": len(NUMERIC_OPTION.findall(text)) / options,
        "options/statements": 1.0
        if " II" in question or "\nII" in question or "Statement 1" in question
        else 0.0,
        "numbers/count": log1p(len(numbers)),
        "numbers/density": 5 * len(numbers) / count,
        "numbers/large": log1p(sum(len(number) >= 3 for number in numbers)),
        "numbers/decimal": log1p(sum("." in number for number in numbers)),
        "numbers/percent": log1p(text.count("%")),
        "numbers/money": log1p(len(MONEY.findall(text))),
        "wording/word length": sum(lengths) / max(1, len(words)) - 4.5,
        "wording/long words": 5 * len([length for length in lengths if length > 8]) / count,
        "wording/variety": len(distinct) / max(1, len(words)) - 0.7,
        "wording/names": log1p(max(0, len(CAPITALISED.findall(question)) - question.count(". "))),
        "wording/negations": float(len(NEGATIONS & distinct)),
        "wording/questions": log1p(question.count("?")),
        "wording/quotes": log1p(text.count('"')),
        "wording/comparisons": log1p(len([word for word in words if word in COMPARISONS])),
        "wording/unfinished": 1.0 if unfinished else 0.0,
    }


def kind_of(name: str) -> str:
    """What people call a signal."""
    kind, _, what = name.partition("/")
    return f"topic: {what}" if kind == "topic" else kind
