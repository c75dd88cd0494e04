"""The tools of a Responses request as chat completions has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.translation.fields import Fields

CHOICES = ("auto", "none", "required")


def chat_tools(values: Mapping[str, Any], request: Fields) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`, each where it has a meaning.

    :raises InvalidRequest: also for a tool that the provider itself would have to run
    """
    chat: dict[str, Any] = {}
    tools = [_chat_tool(tool) for tool in request.children("tools") or ()]
    choice = _chat_tool_choice(values, request)
    parallel = request.take("parallel_tool_calls", bool)
    if tools:
        chat["tools"] = tools
        if parallel is not None:
            chat["parallel_tool_calls"] = parallel
    # Without tools a provider refuses even those choices that mean nothing then.
    if choice is not None and (tools or choice not in ("auto", "none")):
        chat["tool_choice"] = choice
    return chat


def refuse_asynchronous(call_or_tool: Fields) -> None:
    if call_or_tool.take("async", bool):
        raise call_or_tool.untranslatable("async")


def _chat_tool(tool: Fields) -> dict[str, Any]:
    kind = _kind_of_tool(tool)
    chat: dict[str, Any] = {"name": tool.need("name", str)}
    _copy(tool, "description", str, chat)
    if kind == "function":
        _copy(tool, "parameters", dict, chat)
        _copy(tool, "strict", bool, chat)
    elif (form := tool.child("format")) is not None:
        chat["format"] = _custom_format(form)
    refuse_asynchronous(tool)
    if tool.take("defer_loading", bool):
        raise tool.untranslatable("defer_loading")
    if tool.take("allowed_callers", list) not in (None, ["direct"]):
        raise tool.untranslatable("allowed_callers")
    tool.close()
    return {"type": kind, kind: chat}


def _kind_of_tool(tool: Fields) -> str:
    kind = tool.need("type", str)
    if kind not in ("function", "custom"):
        raise tool.untranslatable("type", kind)
    return kind


def _copy(fields: Fields, name: str, kind: type[object], chat: dict[str, Any]) -> None:
    value = fields.take(name, kind)
    if value is not None:
        chat[name] = value


def _custom_format(form: Fields) -> dict[str, Any]:
    kind = form.need("type", str)
    if kind == "text":
        chat: dict[str, Any] = {"type": "text"}
    elif kind == "grammar":
        grammar = {"definition": form.need("definition", str), "syntax": form.need("syntax", str)}
        chat = {"type": "grammar", "grammar": grammar}
    else:
        raise form.untranslatable("type", kind)
    form.close()
    return chat


def _chat_tool_choice(values: Mapping[str, Any], request: Fields) -> str | dict[str, Any] | None:
    value = values.get("tool_choice")
    if isinstance(value, dict):
        choice = Fields(request.take("tool_choice", dict), "tool_choice")
        return _allowed_tools(choice) if value.get("type") == "allowed_tools" else _named_tool(choice)
    if value is not None and not isinstance(value, str):
        raise request.ill_typed("tool_choice", "a string or an object")
    return request.one_of("tool_choice", CHOICES)


def _allowed_tools(choice: Fields) -> dict[str, Any]:
    allowed = {
        "mode": choice.need("mode", str),
        "tools": [_named_tool(tool) for tool in choice.children("tools") or ()],
    }
    choice.drop("type")
    choice.close()
    return {"type": "allowed_tools", "allowed_tools": allowed}


def _named_tool(tool: Fields) -> dict[str, Any]:
    kind = _kind_of_tool(tool)
    chat = {"type": kind, kind: {"name": tool.need("name", str)}}
    tool.close()
    return chat
