"""JSON body -> ChatRequest, or InvalidRequest."""

import json
import math
from dataclasses import dataclass
from typing import NoReturn

from model_server.errors import InvalidRequest
from model_server.fields import (
    Json,
    Object,
    as_list,
    as_object,
    check_number,
    optional_flag,
    optional_integer,
    optional_text,
    required_text,
)
from model_server.messages import Message, parse_messages
from model_server.tokens import TOKENS_PER_REQUEST, count_json, warm_prefix

MAX_CHOICES = 128
MAX_STOPS = 4


@dataclass(frozen=True)
class Function:
    """A function that the model may call; `parameters` is its JSON schema."""

    name: str
    parameters: Json


@dataclass(frozen=True)
class ResponseFormat:
    """The kind of text asked for: `text`, `json_object` or `json_schema` (then with `schema`)."""

    kind: str = "text"
    schema: Json = None


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion request, checked; counts are in tokens, `max_tokens` is per choice."""

    messages: tuple[Message, ...]
    prompt_tokens: int
    cached_tokens: int
    choices: int
    max_tokens: int | None
    stops: tuple[str, ...]
    response_format: ResponseFormat
    forced_function: Function | None
    stream: bool
    include_usage: bool

    @property
    def last_user_text(self) -> str:
        """The text of the last user message; empty where there is none."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")


def parse_request(body: bytes) -> ChatRequest:
    """Check a request's body; raise `InvalidRequest`, naming the field, for what is wrong with it."""
    data = _load(body)
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    messages = parse_messages(data.get("messages"))
    optional_text(data, "model")
    _check_sampling(data)
    tools = data.get("tools")
    functions = _parse_tools(tools)
    tools_tokens = 0 if tools is None else count_json(tools)
    prompt_tokens = sum(m.tokens for m in messages) + TOKENS_PER_REQUEST + tools_tokens
    prefix_tokens = sum(m.tokens for m in messages[:-1]) + tools_tokens
    stream, include_usage = _parse_stream(data)
    return ChatRequest(
        messages=messages,
        prompt_tokens=prompt_tokens,
        cached_tokens=warm_prefix(prompt_tokens, prefix_tokens),
        choices=optional_integer(data, "n", 1, MAX_CHOICES) or 1,
        max_tokens=_parse_max_tokens(data),
        stops=_parse_stops(data.get("stop")),
        response_format=_parse_response_format(data.get("response_format")),
        forced_function=_parse_tool_choice(data.get("tool_choice"), functions),
        stream=stream,
        include_usage=include_usage,
    )


def _load(body: bytes) -> Json:
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in body:
            # Half a surrogate pair is legal in JSON's escapes but is no text: nothing could answer it.
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise InvalidRequest("The body is not valid Unicode text.") from error
    except ValueError as error:
        raise InvalidRequest("The body is not valid JSON.") from error
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("the number is too large")
    return number


def _check_sampling(data: Object) -> None:
    check_number(data, "temperature", 0, 2)
    check_number(data, "top_p", 0, 1)
    check_number(data, "presence_penalty", -2, 2)
    check_number(data, "frequency_penalty", -2, 2)


def _parse_max_tokens(data: Object) -> int | None:
    older = optional_integer(data, "max_tokens", 1)
    newer = optional_integer(data, "max_completion_tokens", 1)
    return older if newer is None else newer


def _parse_stops(value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) for s in stops):
        raise InvalidRequest(f"'stop' must be a string or an array of up to {MAX_STOPS} strings.", "stop")
    return tuple(stop for stop in stops if stop)


def _parse_stream(data: Object) -> tuple[bool, bool]:
    stream = optional_flag(data, "stream")
    options = data.get("stream_options")
    if options is None:
        return stream, False
    if not stream:
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true.", "stream_options")
    return stream, optional_flag(as_object(options, "stream_options"), "include_usage", "stream_options.")


def _parse_response_format(value: Json) -> ResponseFormat:
    if value is None:
        return ResponseFormat()
    kind = required_text(as_object(value, "response_format"), "type", "response_format.")
    if kind in ("text", "json_object"):
        return ResponseFormat(kind)
    if kind != "json_schema":
        raise InvalidRequest(f"'{kind}' is not a response format.", "response_format.type")
    path = "response_format.json_schema"
    described = as_object(value.get("json_schema"), path)
    required_text(described, "name", f"{path}.")
    schema = described.get("schema")
    return ResponseFormat(kind, {} if schema is None else as_object(schema, f"{path}.schema"))


def _parse_tools(value: Json) -> tuple[Function, ...]:
    if value is None:
        return ()
    return tuple(_parse_tool(tool, f"tools[{i}]") for i, tool in enumerate(as_list(value, "tools")))


def _parse_tool(value: Json, path: str) -> Function:
    tool = as_object(value, path)
    if tool.get("type") != "function":
        raise InvalidRequest(f"'{path}.type' must be 'function'.", f"{path}.type")
    function = as_object(tool.get("function"), f"{path}.function")
    name = required_text(function, "name", f"{path}.function.")
    if not name:
        raise InvalidRequest(f"'{path}.function.name' must not be empty.", f"{path}.function.name")
    parameters = function.get("parameters")
    if parameters is not None:
        as_object(parameters, f"{path}.function.parameters")
    return Function(name, parameters or {})


def _parse_tool_choice(value: Json, functions: tuple[Function, ...]) -> Function | None:
    if value is None:
        return None
    if not functions:
        raise InvalidRequest("'tool_choice' is only allowed when 'tools' are given.", "tool_choice")
    if value in ("auto", "none"):
        return None
    if value == "required":
        return functions[0]
    choice = as_object(value, "tool_choice")
    if choice.get("type") != "function":
        raise InvalidRequest("'tool_choice.type' must be 'function'.", "tool_choice.type")
    function = as_object(choice.get("function"), "tool_choice.function")
    name = required_text(function, "name", "tool_choice.function.")
    for candidate in functions:
        if candidate.name == name:
            return candidate
    raise InvalidRequest(f"'tools' has no function named '{name}'.", "tool_choice.function.name")
