"""ModelRequest -> Answer: what the model says, and how many tokens that took."""

import hashlib
import json
import re
from dataclasses import dataclass

from model_server.example import example_of
from model_server.profile import ModelProfile
from model_server.request import Function, ModelRequest
from model_server.tokens import count_text, cut_text

ELLIPSIS = "…"
WHITESPACE = re.compile(r"\s+")


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
    """Answer a request; the same request always gets the same answer."""
    choices = tuple(
        _choose(profile, request, excerpt, index)
        for excerpt in (excerpt_of(question, profile.excerpt_chars) for question in request.questions)
        for index in range(request.choices)
    )
    output_tokens = sum(choice.tokens for choice in choices)
    return Answer(profile.name, choices, Usage(request.prompt_tokens, request.cached_tokens, output_tokens))


def excerpt_of(text: str, limit: int) -> str:
    """The beginning of a text on one line, at most `limit` characters, an ellipsis marking a cut."""
    line = WHITESPACE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1] + ELLIPSIS


def _choose(profile: ModelProfile, request: ModelRequest, excerpt: str, index: int) -> Choice:
    if request.forced_functions:
        return _call(request, excerpt, index)
    return _end(_text(profile, request, excerpt, index), request)


def _text(profile: ModelProfile, request: ModelRequest, excerpt: str, index: int) -> str:
    match request.response_format.kind:
        case "json_object":
            return _dump({"model": profile.name, "answer": excerpt})
        case "json_schema":
            return _dump(_fill(request.response_format.schema, excerpt))
        case _:
            suffix = f" ({index + 1})" if index else ""
            return f"{profile.name}: {excerpt}{suffix}"


def _end(text: str, request: ModelRequest) -> Choice:
    found = [(at, stop) for stop in request.stops if (at := text.find(stop)) >= 0]
    # Of two that begin at the same place the first that was asked for ends the text.
    at, stop = min(found, key=lambda each: each[0], default=(len(text), None))
    text = text[:at]
    if request.max_tokens is not None and count_text(text) > request.max_tokens:
        return Choice(cut_text(text, request.max_tokens), (), "length")
    return Choice(text, (), "stop", stop)


def _call(request: ModelRequest, excerpt: str, index: int) -> Choice:
    calls: list[ToolCall] = []
    for position, function in enumerate(request.forced_functions):
        left = None if request.max_tokens is None else request.max_tokens - sum(call.tokens for call in calls)
        if calls and left is not None and left < count_text(function.name):
            return Choice("", tuple(calls), "length")
        call, cut = _call_one(function, excerpt, f"{index}.{position}" if position else f"{index}", left)
        calls.append(call)
        if cut:
            return Choice("", tuple(calls), "length")
    return Choice("", tuple(calls), "tool_calls")


def _call_one(function: Function, excerpt: str, place: str, limit: int | None) -> tuple[ToolCall, bool]:
    """The call, and whether its arguments had to be cut to fit into `limit` tokens."""
    arguments = _dump(_fill(function.parameters, excerpt))
    digest = hashlib.sha256(f"{place}\n{function.name}\n{arguments}".encode()).hexdigest()[:24]
    cut = False
    if limit is not None:
        room = max(0, limit - count_text(function.name))
        if count_text(arguments) > room:
            arguments, cut = cut_text(arguments, room), True
    return ToolCall(digest, function.name, arguments), cut


def _fill(schema: object, excerpt: str) -> object:
    # A schema that demands nothing is met by the empty object, which is what functions take.
    return example_of(schema, excerpt) if schema else {}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
