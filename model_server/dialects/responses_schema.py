"""JSON body of OpenAI's Responses -> ResponseRequest, or InvalidRequest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model_server.dialects.responses_input import parse_input
from model_server.dialects.responses_store import Conversation
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
    required_object,
    required_text,
)
from model_server.jsonbody import load_object
from model_server.request import (
    Function,
    Message,
    ModelRequest,
    ResponseFormat,
    function_named,
    last_user_text,
    measure_prompt,
)
from model_server.tokens import TOKENS_PER_MESSAGE, count_json, count_text

# What a response repeats of its request, with what holds where the request says nothing.
ECHOED: Mapping[str, Json] = {
    "instructions": None,
    "max_output_tokens": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
    "metadata": {},
}


@dataclass(frozen=True)
class ResponseRequest:
    """A request for a response, checked.

    `conversation` is the one that it continues or begins, its own input included; it is kept for later
    requests if `stored`. `echoed` are the fields that the response repeats.
    """

    request: ModelRequest
    conversation: Conversation
    stored: bool
    echoed: Mapping[str, Json]


def parse_request(body: bytes, recall: Callable[[str], Conversation]) -> ResponseRequest:
    """Check a request's body; `recall` knows the conversations that it may continue.

    Raises `InvalidRequest`, naming the field, for what is wrong with it.
    """
    data = load_object(body)
    messages = parse_input(data.get("input"))
    instructions = optional_text(data, "instructions")
    optional_text(data, "model")
    _check_echoed(data)
    functions = _parse_tools(data.get("tools"))
    previous = optional_text(data, "previous_response_id")
    earlier = Conversation() if previous is None else recall(previous)
    question = last_user_text(messages, earlier.last_user_text)
    conversation = Conversation(earlier.tokens + sum(m.tokens for m in messages), question)
    if instructions is not None:
        tokens = TOKENS_PER_MESSAGE + count_text(instructions)
        messages = (Message("system", instructions, tokens), *messages)
    tools_tokens = count_json(data["tools"]) if functions else 0
    request = ModelRequest(
        questions=(question,),
        prompt=measure_prompt(messages, tools_tokens, earlier.tokens),
        max_tokens=optional_integer(data, "max_output_tokens", 1),
        response_format=_parse_format(data.get("text")),
        forced_functions=_parse_tool_choice(data, functions),
        stream=optional_flag(data, "stream"),
    )
    return ResponseRequest(request, conversation, data.get("store") is not False, _echo(data))


def _check_echoed(data: Object) -> None:
    check_number(data, "temperature", 0, 2)
    check_number(data, "top_p", 0, 1)
    for name in ("store", "parallel_tool_calls"):
        optional_flag(data, name)
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        optional_text(data, name)
    if data.get("truncation") not in (None, "auto", "disabled"):
        raise InvalidRequest("'truncation' must be 'auto' or 'disabled'.", "truncation")
    if data.get("reasoning") is not None:
        reasoning = as_object(data["reasoning"], "reasoning")
        for name in ("effort", "summary"):
            optional_text(reasoning, name, "reasoning.")
    if data.get("metadata") is not None:
        metadata = as_object(data["metadata"], "metadata")
        for name in metadata:
            required_text(metadata, name, "metadata.")


def _echo(data: Object) -> dict[str, Json]:
    echoed: dict[str, Json] = {}
    for name, default in ECHOED.items():
        given = data.get(name)
        if given is None:
            given = default
        elif name in ("reasoning", "text"):
            given = {**default, **{key: value for key, value in given.items() if value is not None}}
        echoed[name] = given
    return echoed


def _parse_format(value: Json) -> ResponseFormat:
    if value is None:
        return ResponseFormat()
    text = as_object(value, "text")
    optional_text(text, "verbosity", "text.")
    if text.get("format") is None:
        return ResponseFormat()
    form = as_object(text["format"], "text.format")
    kind = required_text(form, "type", "text.format.")
    if kind in ("text", "json_object"):
        return ResponseFormat(kind)
    if kind != "json_schema":
        raise InvalidRequest(f"'{kind}' is not a text format.", "text.format.type")
    required_text(form, "name", "text.format.")
    return ResponseFormat(kind, required_object(form, "schema", "text.format."))


def _parse_tools(value: Json) -> tuple[Function, ...]:
    if value is None or value == []:
        return ()
    return tuple(_parse_tool(tool, f"tools[{i}]") for i, tool in enumerate(as_list(value, "tools")))


def _parse_tool(value: Json, path: str) -> Function:
    tool = as_object(value, path)
    if tool.get("type") != "function":
        # What runs at the provider is not played here.
        raise InvalidRequest(f"'{path}.type' must be 'function'.", f"{path}.type")
    name = required_text(tool, "name", f"{path}.")
    if not name:
        raise InvalidRequest(f"'{path}.name' must not be empty.", f"{path}.name")
    if tool.get("parameters") is None:
        return Function(name, {})
    return Function(name, required_object(tool, "parameters", f"{path}."))


def _parse_tool_choice(data: Object, functions: tuple[Function, ...]) -> tuple[Function, ...]:
    value = data.get("tool_choice")
    if value in (None, "auto", "none"):
        return ()
    if not functions:
        raise InvalidRequest("This 'tool_choice' is only allowed when 'tools' are given.", "tool_choice")
    if value == "required":
        # Several calls are for those who ask for them, although OpenAI's default allows them.
        return functions if data.get("parallel_tool_calls") is True else functions[:1]
    choice = as_object(value, "tool_choice")
    if choice.get("type") != "function":
        raise InvalidRequest("'tool_choice.type' must be 'function'.", "tool_choice.type")
    name = required_text(choice, "name", "tool_choice.")
    return (function_named(functions, name, "tool_choice.name"),)
