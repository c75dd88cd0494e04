"""Whether two answers give the same final answer: a number, a letter, a short text, or a JSON value."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

import orjson

from gateway.cascade.said import Said

LONGEST = 4000  # characters of a text; longer ones are no final answers, and agree with none
LONGEST_FINAL = 200
# Whence the final answer follows, where a model says so; the last place counts.
MARKER = re.compile(r"(?:\b(?:answer|result)\s*(?:is\s*:?|:|=)|####)\s*", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\{([^{}]{1,100})\}")
LETTER = re.compile(r"\(?([A-J])\)?(?:[.):,].*)?", re.DOTALL)
NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:\.\d{1,10})?(?:[eE][-+]?\d{1,2})?%?")
ANSWER_FIELDS = ("answer", "final_answer", "result")


def final_answer(said: Said) -> str | None:
    """The answer in a form in which equal ones are equal texts; None where there is none to compare."""
    if said.is_cut or said.refuses or said.has_more:
        return None
    if said.calls:
        calls = [_canonical_call(call.name, call.arguments) for call in said.calls]
        return None if None in calls else " ".join(map(str, calls))
    text = unicodedata.normalize("NFKC", said.text[: LONGEST + 1]).strip()
    if not text or len(text) > LONGEST:
        return None
    if text[0] in "{[":
        return _canonical_json(text)
    if boxed := BOXED.findall(text):
        return _canonical(boxed[-1])
    marked = list(MARKER.finditer(text))
    if marked:
        text = text[marked[-1].end() :].split("\n", 1)[0]
    return _canonical(text)


def _canonical(text: str) -> str | None:
    text = text.strip().strip("*_`\"'$ ").strip()
    if (letter := LETTER.fullmatch(text)) is not None:
        return letter[1]
    numbers = list(dict.fromkeys(filter(None, (_number(each) for each in NUMBER.findall(text)))))
    if len(numbers) == 1 and len(text) <= LONGEST_FINAL:
        return numbers[0]
    words = " ".join(text.casefold().rstrip(".!").split())
    return words if 0 < len(words) <= LONGEST_FINAL else None


def _number(text: str) -> str | None:
    try:
        number = Decimal(text.replace(",", "").removesuffix("%"))
    except InvalidOperation:
        return None
    # So that 18, 18.0 and 1.8e1 are one.
    return "0" if not number else f"{number.normalize():f}"


def _canonical_json(text: str) -> str | None:
    try:
        value = orjson.loads(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        # Beside an answer, its reasoning need not agree.
        for name in ANSWER_FIELDS:
            if isinstance(value.get(name), str | int | float):
                return _canonical(str(value[name]))
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _canonical_call(name: str, arguments: str | None) -> str | None:
    canonical = "" if arguments is None else _canonical_json(arguments or "{}")
    return None if canonical is None else f"{name}({canonical})"
