"""ChatRequest -> Answer: what the model says, and how many tokens that took."""

import hashlib
import json
import re
from dataclasses import dataclass

from model_server.example import example_of
from model_server.profile import ModelProfile
from model_server.schema import ChatRequest, Function
from model_server.tokens import count_text, cut_text

ELLIPSIS = "…"
WHITESPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class ToolCall:
    """A call of one of the request's functions; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Choice:
    """One answer: a text or a tool call, and why it ended."""

    text: str
    tool_call: ToolCall | None
    finish_reason: str

    @property
    def tokens(self) -> int:
        """The output tokens of this choice."""
        if self.tool_call is None:
            return count_text(self.text)
        return count_text(self.tool_call.name) + count_text(self.tool_call.arguments)


@dataclass(frozen=True)
class Usage:
    """Tokens to be billed; the cached ones are among the input tokens."""

    input_tokens: int
    cached_input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Answer:
    """All choices of one completion and their usage."""

    model: str
    choices: tuple[Choice, ...]
    usage: Usage


def complete(profile: ModelProfile, request: ChatRequest) -> Answer:
    """Answer a request; the same request always gets the same answer."""
    excerpt = excerpt_of(request.last_user_text, profile.excerpt_chars)
    choices = tuple(_choose(profile, request, excerpt, index) for index in range(request.choices))
    output_tokens = sum(choice.tokens for choice in choices)
    return Answer(profile.name, choices, Usage(request.prompt_tokens, request.cached_tokens, output_tokens))


def excerpt_of(text: str, limit: int) -> str:
    """The beginning of a text on one line, at most `limit` characters, an ellipsis marking a cut."""
    line = WHITESPACE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1] + ELLIPSIS


def _choose(profile: ModelProfile, request: ChatRequest, excerpt: str, index: int) -> Choice:
    if request.forced_function is not None:
        return _call(request.forced_function, excerpt, index, request.max_tokens)
    return _end(_text(profile, request, excerpt, index), request)


def _text(profile: ModelProfile, request: ChatRequest, excerpt: str, index: int) -> str:
    match request.response_format.kind:
        case "json_object":
            return _dump({"model": profile.name, "answer": excerpt})
        case "json_schema":
            return _dump(_fill(request.response_format.schema, excerpt))
        case _:
            suffix = f" ({index + 1})" if index else ""
            return f"{profile.name}: {excerpt}{suffix}"


def _end(text: str, request: ChatRequest) -> Choice:
    stops = [at for at in (text.find(stop) for stop in request.stops) if at >= 0]
    if stops:
        text = text[: min(stops)]
    if request.max_tokens is not None and count_text(text) > request.max_tokens:
        return Choice(cut_text(text, request.max_tokens), None, "length")
    return Choice(text, None, "stop")


def _call(function: Function, excerpt: str, index: int, max_tokens: int | None) -> Choice:
    arguments = _dump(_fill(function.parameters, excerpt))
    digest = hashlib.sha256(f"{index}\n{function.name}\n{arguments}".encode()).hexdigest()
    reason = "tool_calls"
    if max_tokens is not None:
        room = max(0, max_tokens - count_text(function.name))
        if count_text(arguments) > room:
            arguments, reason = cut_text(arguments, room), "length"
    return Choice("", ToolCall(f"call_{digest[:24]}", function.name, arguments), reason)


def _fill(schema: object, excerpt: str) -> object:
    # A schema that demands nothing is met by the empty object, which is what functions take.
    return example_of(schema, excerpt) if schema else {}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
