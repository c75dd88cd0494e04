"""ModelRequest -> Answer: what the model says, and how many tokens that took."""

import hashlib
import json
import re
from dataclasses import dataclass

from model_server.example import example_of
from model_server.profile import ModelProfile
from model_server.request import Function, ModelRequest
from model_server.tokens import CHARS_PER_TOKEN, count_text, cut_text

ELLIPSIS = "…"
WHITESPACE = re.compile(r"\s+")
# How a user's text asks for an answer of so many tokens.
WISH = re.compile(r"\[\[write ([0-9]{1,9}) tokens\]\]")
FILLER = "and so on, "


@dataclass(frozen=True)
class ToolCall:
    """A call of one of the request's functions; `arguments` is JSON text, unless it was cut."""

    digest: str
    name: str
    arguments: str

    @property
    def id(self) -> str:
        """The call's id as OpenAI writes it."""
        return f"call_{self.digest}"

    @property
    def tokens(self) -> int:
        """The output tokens of this call."""
        return count_text(self.name) + count_text(self.arguments)


@dataclass(frozen=True)
class Choice:
    """One answer: a text or tool calls, and why it ended; `stop` is the requested text that ended it."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    stop: str | None = None

    @property
    def tool_call(self) -> ToolCall | None:
        """The first tool call."""
        return self.tool_calls[0] if self.tool_calls else None

    @property
    def tokens(self) -> int:
        """The output tokens of this choice."""
        return count_text(self.text) + sum(call.tokens for call in self.tool_calls)


@dataclass(frozen=True)
class Usage:
    """Tokens to be billed; the cached ones are among the input tokens."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Answer:
    """All choices of one request and their usage."""

    model: str
    choices: tuple[Choice, ...]
    usage: Usage


def complete(profile: ModelProfile, request: ModelRequest) -> Answer:
    """Answer a request; the same request always gets the same answer.

    No choice has more tokens than the profile's `max_output_tokens`, whatever the request allows.
    """
    choices = tuple(
        _choose(profile, request, question, index)
        for question in request.questions
        for index in range(request.choices)
    )
    output_tokens = sum(choice.tokens for choice in choices)
    return Answer(profile.name, choices, Usage(request.prompt_tokens, request.cached_tokens, output_tokens))


def excerpt_of(text: str, limit: int) -> str:
    """The beginning of a text on one line, at most `limit` characters, an ellipsis marking a cut."""
    line = WHITESPACE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1] + ELLIPSIS


def _choose(profile: ModelProfile, request: ModelRequest, question: str, index: int) -> Choice:
    limit = profile.max_output_tokens
    if request.max_tokens is not None:
        limit = min(limit, request.max_tokens)
    if request.forced_functions:
        excerpt = excerpt_of(question, profile.excerpt_chars)
        return _call(request.forced_functions, excerpt, index, limit)
    return _end(_text(profile, request, question, index), request.stops, limit)


def _text(profile: ModelProfile, request: ModelRequest, question: str, index: int) -> str:
    excerpt = excerpt_of(question, profile.excerpt_chars)
    match request.response_format.kind:
        case "json_object":
            return _dump({"model": profile.name, "answer": excerpt})
        case "json_schema":
            return _dump(_fill(request.response_format.schema, excerpt))
        case _:
            number = f" ({index + 1})" if index else ""
            if wish := WISH.search(question):
                # One token too many is enough to be cut.
                tokens = min(int(wish[1]), profile.max_output_tokens + 1)
                return _long_text(f"{profile.name}{number}: ", tokens)
            return f"{profile.name}: {excerpt}{number}"


def _long_text(head: str, tokens: int) -> str:
    """A text of exactly so many tokens that begins with `head`."""
    return cut_text(head + FILLER * (tokens * CHARS_PER_TOKEN // len(FILLER) + 1), tokens)


def _end(text: str, stops: tuple[str, ...], limit: int) -> Choice:
    found = [(at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    # Of two that begin at the same place the first that was asked for ends the text.
    at, stop = min(found, key=lambda each: each[0], default=(len(text), None))
    text = text[:at]
    if count_text(text) > limit:
        return Choice(cut_text(text, limit), (), "length")
    return Choice(text, (), "stop", stop)


def _call(functions: tuple[Function, ...], excerpt: str, index: int, limit: int) -> Choice:
    calls: list[ToolCall] = []
    for position, function in enumerate(functions):
        left = limit - sum(call.tokens for call in calls)
        if left < count_text(function.name):
            return Choice("", tuple(calls), "length")
        call, cut = _call_one(function, excerpt, f"{index}.{position}" if position else f"{index}", left)
        calls.append(call)
        if cut:
            return Choice("", tuple(calls), "length")
    return Choice("", tuple(calls), "tool_calls")


def _call_one(function: Function, excerpt: str, place: str, limit: int) -> tuple[ToolCall, bool]:
    """The call, and whether its arguments had to be cut to fit into `limit` tokens."""
    arguments = _dump(_fill(function.parameters, excerpt))
    digest = hashlib.sha256(f"{place}\n{function.name}\n{arguments}".encode()).hexdigest()[:24]
    room = limit - count_text(function.name)
    cut = count_text(arguments) > room
    return ToolCall(digest, function.name, cut_text(arguments, room) if cut else arguments), cut


def _fill(schema: object, excerpt: str) -> object:
    # A schema that demands nothing is met by the empty object, which is what functions take.
    return example_of(schema, excerpt) if schema else {}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
