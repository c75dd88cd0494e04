"""The tools of a Responses request as chat completions has them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.translation.fields import Fields

LONGEST_NAME = 64  # characters that providers take
MARK_CHARACTERS = 8
CHOICES = ("auto", "none", "required")


def chat_tools(values: Mapping[str, Any], request: Fields) -> dict[str, Any]:
    """`tools`, `tool_choice` and `parallel_tool_calls`, each where it has a meaning.

    :raises InvalidRequest: also for a tool that the provider itself would have to run
    """
    chat: dict[str, Any] = {}
    tools = [chat_tool for tool in request.children("tools") or () for chat_tool in _chat_tools_of(tool)]
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


def flat_name(namespace: str, name: str) -> str:
    """What a tool of a namespace is called where there are none."""
    flat = f"{namespace}__{name}"
    if len(flat) <= LONGEST_NAME:
        return flat
    mark = hashlib.sha256(flat.encode()).hexdigest()[:MARK_CHARACTERS]
    return f"{flat[: LONGEST_NAME - MARK_CHARACTERS - 1]}_{mark}"


def tools_in_namespaces(values: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The namespace and the name of each tool that has one, by its flat name. `values` have been translated
    before, and so are well-formed."""
    return {
        flat_name(space["name"], tool["name"]): (space["name"], tool["name"])
        for space in values.get("tools") or ()
        if space["type"] == "namespace"
        for tool in space.get("tools") or ()
    }


def refuse_asynchronous(call_or_tool: Fields) -> None:
    if call_or_tool.take("async", bool):
        raise call_or_tool.untranslatable("async")


def _chat_tools_of(tool: Fields) -> list[dict[str, Any]]:
    kind = tool.need("type", str)
    if kind != "namespace":
        return [_chat_tool(tool, kind)]
    namespace, description = tool.need("name", str), tool.take("description", str)
    inner = tool.children("tools") or []
    tool.close()
    return [_chat_tool(each, each.need("type", str), namespace, description) for each in inner]


def _chat_tool(tool: Fields, kind: str, namespace: str = "", about: str | None = None) -> dict[str, Any]:
    """`about` says of the namespace what its tools have no other place for."""
    _refuse_other_kinds(tool, kind)
    name = tool.need("name", str)
    chat: dict[str, Any] = {"name": flat_name(namespace, name) if namespace else name}
    _copy(tool, "description", str, chat)
    if about:
        chat["description"] = "\n\n".join(filter(None, (about, chat.get("description"))))
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


def _refuse_other_kinds(tool: Fields, kind: str) -> None:
    if kind not in ("function", "custom"):
        raise tool.untranslatable("type", kind)


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
    kind = tool.need("type", str)
    _refuse_other_kinds(tool, kind)
    chat = {"type": kind, kind: {"name": tool.need("name", str)}}
    tool.close()
    return chat
