"""What speaks against an answer that can be told from the answer alone. Each check gives its reason in words,
without anything of the prompt or of the answer, or None where it finds no fault."""

from __future__ import annotations

import math
import re

import orjson

from gateway.cascade.expected import Expected
from gateway.cascade.rules import CascadeRules
from gateway.cascade.said import Said, ToolCall
from gateway.cascade.schemas import fits

EMPTY = "empty"
# More of them are not looked at, lest the worker be busy with that alone.
MOST_CALLS = 16
MOST_STOPS = 16
# How models begin that will not answer, in English; of little use is what follows. Not "I'm sorry" alone, nor
# "I cannot", since proper answers begin so as well.
LONGEST_OPENING = 200
REFUSAL = re.compile(
    r"(?:(?:(?:i'm|i am) (?:very |really |so )?)?sorry[,.]? (?:but )?|i apologi[sz]e[,.]? (?:but )?"
    r"|unfortunately,? )?(?:as an ai(?: language model| assistant)?,? )?"
    r"(?:(?:i|we) (?:can'?t|can ?not|won't|will not|(?:am|are) (?:unable|not able) to"
    r"|(?:must|have to) decline to)|(?:i'm|we're) (?:unable|not able) to) (?:help\b(?! but)"
    r"|(?:assist|comply|answer|fulfil+|provide|support|discuss|engage|continue|participate|do that)\b)",
    re.IGNORECASE,
)


def fault_in_structure(said: Said, expected: Expected, *, is_cut_by_client: bool) -> str | None:
    """`is_cut_by_client` says that it is the client's limit at which an answer was cut, if it was: then any
    model's would be."""
    if said.refuses:
        return "refused"
    if said.is_cut:
        # What stands in it is not whole, so that nothing more can be asked of it.
        return None if is_cut_by_client else "cut"
    if said.is_empty:
        return EMPTY
    if said.calls:
        return _fault_in_calls(said.calls, expected)
    if expected.must_call is not None:
        return "no tool called"
    if any(stop in said.text.removesuffix(stop) for stop in expected.stops[:MOST_STOPS]):
        return "not ended at its stop text"
    if expected.schema is not None:
        return fault_in_json(said.text, expected)
    if REFUSAL.match(said.text.strip()[:LONGEST_OPENING].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")):
        return "refused"
    return None


def fault_in_json(text: str, expected: Expected) -> str | None:
    """Of a text that has to be the JSON that was asked for."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return "not valid JSON"
    if not expected.schema:
        return None if isinstance(value, dict) else "no JSON object"
    return "not valid against its JSON schema" if fits(expected.schema, value) is False else None


def fault_in_probability(said: Said, rules: CascadeRules) -> str | None:
    """Nothing is said against an answer without probabilities."""
    if not said.log_probabilities:
        return None
    # Some give what is next to impossible as a number far below any.
    logs = [min(value, 0.0) for value in said.log_probabilities]
    if math.exp(math.fsum(logs) / len(logs)) < rules.min_mean_probability:
        return "unsure on the whole"
    if math.exp(min(logs)) < rules.min_token_probability:
        return "unsure of a token"
    return None


def _fault_in_calls(calls: tuple[ToolCall, ...], expected: Expected) -> str | None:
    if expected.must_call and any(call.name != expected.must_call for call in calls):
        return "another tool called than was asked for"
    if expected.tools is None:
        return None
    for call in calls[:MOST_CALLS]:
        if call.name not in expected.tools:
            return "an unknown tool called"
        if call.arguments is None:
            continue
        try:
            # Some models write nothing where a tool takes nothing.
            arguments = orjson.loads(call.arguments or "{}")
        except ValueError:
            return "a tool's arguments are not valid JSON"
        schema = expected.tools[call.name]
        if not isinstance(arguments, dict) or (schema and fits(schema, arguments) is False):
            return "a tool's arguments do not fit its parameters"
    return None
