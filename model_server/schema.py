"""JSON body of a chat completion -> ModelRequest, or InvalidRequest."""

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
from model_server.jsonbody import load_object
from model_server.messages import parse_messages
from model_server.request import (
    Function,
    ModelRequest,
    ResponseFormat,
    function_named,
    last_user_text,
    measure_prompt,
)
from model_server.tokens import count_json

MAX_CHOICES = 128
MAX_STOPS = 4

# A chat completion is all that the model can be asked.
ChatRequest = ModelRequest


def parse_request(body: bytes) -> ChatRequest:
    """Check a request's body; raise `InvalidRequest`, naming the field, for what is wrong with it."""
    data = load_object(body)
    messages = parse_messages(data.get("messages"))
    optional_text(data, "model")
    check_sampling(data)
    tools = data.get("tools")
    functions = _parse_tools(tools)
    stream, include_usage = parse_stream(data)
    return ChatRequest(
        questions=(last_user_text(messages),),
        prompt=measure_prompt(messages, 0 if tools is None else count_json(tools)),
        choices=optional_integer(data, "n", 1, MAX_CHOICES) or 1,
        max_tokens=_parse_max_tokens(data),
        stops=parse_stops(data.get("stop")),
        response_format=_parse_response_format(data.get("response_format")),
        forced_functions=_parse_tool_choice(data, functions),
        stream=stream,
        include_usage=include_usage,
    )


def check_sampling(data: Object) -> None:
    """Refuse sampling parameters that are no numbers or out of their range."""
    check_number(data, "temperature", 0, 2)
    check_number(data, "top_p", 0, 1)
    check_number(data, "presence_penalty", -2, 2)
    check_number(data, "frequency_penalty", -2, 2)


def _parse_max_tokens(data: Object) -> int | None:
    older = optional_integer(data, "max_tokens", 1)
    newer = optional_integer(data, "max_completion_tokens", 1)
    return older if newer is None else newer


def parse_stops(value: Json) -> tuple[str, ...]:
    """The texts in `stop` before which an answer ends."""
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) for s in stops):
        raise InvalidRequest(f"'stop' must be a string or an array of up to {MAX_STOPS} strings.", "stop")
    return tuple(stop for stop in stops if stop)


def parse_stream(data: Object) -> tuple[bool, bool]:
    """Whether to stream, and whether the stream is to state its usage."""
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


def _parse_tool_choice(data: Object, functions: tuple[Function, ...]) -> tuple[Function, ...]:
    """The functions that must be called."""
    value = data.get("tool_choice")
    parallel = optional_flag(data, "parallel_tool_calls")
    if value is None:
        return ()
    if not functions:
        raise InvalidRequest("'tool_choice' is only allowed when 'tools' are given.", "tool_choice")
    if value in ("auto", "none"):
        return ()
    if value == "required":
        return functions if parallel else functions[:1]
    choice = as_object(value, "tool_choice")
    if choice.get("type") != "function":
        raise InvalidRequest("'tool_choice.type' must be 'function'.", "tool_choice.type")
    function = as_object(choice.get("function"), "tool_choice.function")
    name = required_text(function, "name", "tool_choice.function.")
    return (function_named(functions, name, "tool_choice.function.name"),)
