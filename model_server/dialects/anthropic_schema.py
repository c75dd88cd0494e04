"""JSON body of Anthropic's Messages -> ModelRequest, or InvalidRequest."""

from model_server.dialects.anthropic_content import parse_conversation
from model_server.errors import InvalidRequest
from model_server.fields import (
    Json,
    Object,
    as_list,
    as_object,
    check_number,
    optional_flag,
    optional_text,
    required_integer,
    required_object,
    required_text,
)
from model_server.jsonbody import load_object
from model_server.request import (
    Function,
    ModelRequest,
    Prompt,
    ResponseFormat,
    function_named,
    last_user_text,
    measure_prompt,
)
from model_server.tokens import count_json


def parse_request(body: bytes) -> ModelRequest:
    """Check a request's body; raise `InvalidRequest`, naming the field, for what is wrong with it."""
    data = load_object(body)
    messages = parse_conversation(data)
    functions = _parse_tools(data.get("tools"))
    optional_text(data, "model")
    check_number(data, "temperature", 0, 1)
    check_number(data, "top_p", 0, 1)
    return ModelRequest(
        questions=(last_user_text(messages),),
        prompt=measure_prompt(messages, _tools_tokens(data)),
        max_tokens=required_integer(data, "max_tokens", 1),
        stops=_parse_stops(data.get("stop_sequences")),
        response_format=_parse_format(data),
        forced_functions=_parse_tool_choice(data.get("tool_choice"), functions),
        stream=optional_flag(data, "stream"),
    )


def parse_prompt(body: bytes) -> Prompt:
    """The size of the prompt alone, whose body needs no `max_tokens`; raises as `parse_request` does."""
    data = load_object(body)
    messages = parse_conversation(data)
    optional_text(data, "model")
    _parse_tool_choice(data.get("tool_choice"), _parse_tools(data.get("tools")))
    return measure_prompt(messages, _tools_tokens(data))


def _tools_tokens(data: Object) -> int:
    return count_json(data["tools"]) if data.get("tools") else 0


def _parse_stops(value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(stop, str) for stop in value):
        raise InvalidRequest("'stop_sequences' must be an array of strings.", "stop_sequences")
    return tuple(stop for stop in value if stop)


def _parse_format(data: Object) -> ResponseFormat:
    path, value = "output_format", data.get("output_format")  # its older place
    if data.get("output_config") is not None:
        config = as_object(data["output_config"], "output_config")
        if config.get("format") is not None:
            path, value = "output_config.format", config["format"]
    if value is None:
        return ResponseFormat()
    form = as_object(value, path)
    if form.get("type") != "json_schema":
        raise InvalidRequest(f"'{path}.type' must be 'json_schema'.", f"{path}.type")
    return ResponseFormat("json_schema", required_object(form, "schema", f"{path}."))


def _parse_tools(value: Json) -> tuple[Function, ...]:
    if value is None or value == []:
        return ()
    return tuple(_parse_tool(tool, f"tools[{i}]") for i, tool in enumerate(as_list(value, "tools")))


def _parse_tool(value: Json, path: str) -> Function:
    tool = as_object(value, path)
    if tool.get("type") not in (None, "custom"):
        # What runs at the provider is not played here.
        raise InvalidRequest(f"'{path}.type' must be 'custom'.", f"{path}.type")
    name = required_text(tool, "name", f"{path}.")
    if not name:
        raise InvalidRequest(f"'{path}.name' must not be empty.", f"{path}.name")
    schema = required_object(tool, "input_schema", f"{path}.")
    if schema.get("type") != "object":
        raise InvalidRequest(f"'{path}.input_schema.type' must be 'object'.", f"{path}.input_schema.type")
    return Function(name, schema)


def _parse_tool_choice(value: Json, functions: tuple[Function, ...]) -> tuple[Function, ...]:
    if value is None:
        return ()
    choice = as_object(value, "tool_choice")
    kind = required_text(choice, "type", "tool_choice.")
    optional_flag(choice, "disable_parallel_tool_use", "tool_choice.")
    if kind not in ("auto", "any", "tool", "none"):
        raise InvalidRequest(
            "'tool_choice.type' must be 'auto', 'any', 'tool' or 'none'.", "tool_choice.type"
        )
    if not functions and kind != "none":
        raise InvalidRequest("'tool_choice' is only allowed when 'tools' are given.", "tool_choice")
    if kind == "tool":
        name = required_text(choice, "name", "tool_choice.")
        return (function_named(functions, name, "tool_choice.name"),)
    if kind == "any":
        # Several calls are for those who ask for them, although Anthropic's default allows them.
        return functions if choice.get("disable_parallel_tool_use") is False else functions[:1]
    return ()
