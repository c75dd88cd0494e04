"""From a request of Anthropic's Messages API to one for a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import InvalidRequest
from gateway.translation.fields import Fields
from gateway.translation.messages_content import chat_messages, system_messages
from gateway.translation.strict_schema import is_strict
from gateway.translation.target import ChatTarget

# Budgets of thinking tokens up to which an effort serves; `high` for any above.
LOW_BUDGET = 4096
MEDIUM_BUDGET = 16384
EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
SCHEMA_NAME = "answer"


def chat_from_messages(values: Mapping[str, Any], target: ChatTarget) -> dict[str, Any]:
    """The body of a chat completion, but for its model, that asks for the same.

    :raises InvalidRequest: for what is ill-typed or cannot be translated, with the field in `param`
    """
    request = Fields(values)
    chat: dict[str, Any] = {"messages": _messages(request)}
    chat[target.max_tokens_name] = _max_tokens(request)
    chat |= _sampling(request)
    chat |= _tools(request)
    chat |= _output(request, target)
    if request.take("stream", bool):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    if request.one_of("service_tier", ("auto", "standard_only")) == "standard_only":
        chat["service_tier"] = "default"
    if (speed := request.one_of("speed", ("standard", "fast"))) == "fast":
        raise request.untranslatable("speed", speed)
    _check_edits(request)
    request.take("model", str)
    request.take("metadata", dict)
    request.drop("cache_control")
    request.close()
    return chat


def _messages(request: Fields) -> list[dict[str, Any]]:
    messages = request.children("messages")
    if not messages:
        raise InvalidRequest("'messages' must hold at least one message.", param="messages")
    found = system_messages(request.content("system"))
    for message in messages:
        found += chat_messages(message)
    return found


def _max_tokens(request: Fields) -> int:
    limit = request.need("max_tokens", int)
    if limit < 1:
        raise request.ill_typed("max_tokens", "a positive integer")
    return limit


def _sampling(request: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("temperature", "top_p"):
        if (number := request.number(name)) is not None:
            found[name] = number
    stops: list[Any] = request.take("stop_sequences", list) or []
    for index, stop in enumerate(stops):
        if not isinstance(stop, str):
            raise request.ill_typed(f"stop_sequences[{index}]", "a string")
    if stops:
        found["stop"] = stops
    return found


def _tools(request: Fields) -> dict[str, Any]:
    """Chat completions refuse a choice between tools where none is offered."""
    tools = [_tool(tool) for tool in request.children("tools") or []]
    choice = request.child("tool_choice")
    chosen = {} if choice is None else _tool_choice(choice)
    if tools:
        return {"tools": tools, **chosen}
    if chosen.get("tool_choice") not in (None, "auto", "none"):
        raise InvalidRequest("'tool_choice' demands a tool, and 'tools' offers none.", param="tool_choice")
    return {}


def _tool(tool: Fields) -> dict[str, Any]:
    if (kind := tool.take("type", str) or "custom") != "custom":
        raise tool.untranslatable("type", kind)
    function: dict[str, Any] = {"name": tool.need("name", str)}
    if (description := tool.take("description", str)) is not None:
        function["description"] = description
    schema = tool.need("input_schema", dict)
    if schema.get("type") != "object":
        # Arguments of any other type could not be the input of a `tool_use`.
        raise tool.ill_typed("input_schema.type", "'object'")
    function["parameters"] = schema
    if (strict := tool.take("strict", bool)) is not None:
        function["strict"] = strict
    if tool.take("defer_loading", bool):
        raise tool.untranslatable("defer_loading")
    if tool.take("allowed_callers", list) not in (None, ["direct"]):
        raise tool.untranslatable("allowed_callers")
    tool.take("eager_input_streaming", bool)  # arguments are streamed as they come anyway
    tool.drop("cache_control")
    tool.close()
    return {"type": "function", "function": function}


def _tool_choice(choice: Fields) -> dict[str, Any]:
    found: dict[str, Any]
    match choice.need("type", str):
        case "auto":
            found = {"tool_choice": "auto"}
        case "any":
            found = {"tool_choice": "required"}
        case "none":
            found = {"tool_choice": "none"}
        case "tool":
            name = choice.need("name", str)
            found = {"tool_choice": {"type": "function", "function": {"name": name}}}
        case kind:
            raise choice.untranslatable("type", kind)
    if (single := choice.take("disable_parallel_tool_use", bool)) is not None:
        found["parallel_tool_calls"] = not single
    choice.close()
    return found


def _output(request: Fields, target: ChatTarget) -> dict[str, Any]:
    """The format of the answer, and the thought that goes before it. To think is a leave and not a demand,
    so it is left out for a model that does not."""
    found: dict[str, Any] = {}
    effort = None
    format = request.child("output_format")
    config = request.child("output_config")
    if config is not None:
        if (wanted := config.one_of("effort", tuple(EFFORTS))) is not None:
            effort = EFFORTS[wanted]
        if (configured := config.child("format")) is not None:
            if format is not None:
                raise InvalidRequest(
                    "'output_format' and 'output_config.format' say the same; give one.",
                    param="output_format",
                )
            format = configured
        config.close()
    if format is not None:
        found["response_format"] = _response_format(format)
    effort = _effort_of_thinking(request.child("thinking"), effort)
    if effort is not None and target.reasoning:
        found["reasoning_effort"] = effort
    return found


def _response_format(format: Fields) -> dict[str, Any]:
    if (kind := format.need("type", str)) != "json_schema":
        raise format.untranslatable("type", kind)
    schema = format.need("schema", dict)
    format.close()
    return {
        "type": "json_schema",
        "json_schema": {"name": SCHEMA_NAME, "schema": schema, "strict": is_strict(schema)},
    }


def _effort_of_thinking(thinking: Fields | None, effort: str | None) -> str | None:
    """The effort by the budget that `thinking` gives, else `effort`; none where it forbids to think."""
    if thinking is None:
        return effort
    kind = thinking.need("type", str)
    match kind:
        case "enabled":
            budget = thinking.need("budget_tokens", int)
            effort = "low" if budget <= LOW_BUDGET else "medium" if budget <= MEDIUM_BUDGET else "high"
        case "disabled":
            effort = None
        case "adaptive" | "between_tools":
            pass
        case _:
            raise thinking.untranslatable("type", kind)
    thinking.take("display", str)  # how to show what chat completions do not show
    thinking.close()
    return effort


def _check_edits(request: Fields) -> None:
    """Thinking is not sent on, so that it may be cleared; nothing else can be."""
    management = request.child("context_management")
    if management is None:
        return
    for edit in management.children("edits") or []:
        if not (kind := edit.need("type", str)).startswith("clear_thinking_"):
            raise edit.untranslatable("type", kind)
    management.close()
