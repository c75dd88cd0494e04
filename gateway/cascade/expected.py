"""What a request asks of the form of its answer, whichever API it is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.apis import Api
from gateway.schema.base import objects_of

MUST_CALL = ("required", "any", "function", "tool", "custom")


@dataclass(frozen=True)
class Expected:
    """`schema` is the JSON schema that the text has to fit, `{}` where it has to be a JSON object of any
    kind, and None where it may be anything. `tools` has the schema of each tool's arguments, None for one
    that has none; it is None where not all tools are known. `must_call` names the tool that has to be called,
    or is empty where any may be."""

    schema: Mapping[str, Any] | None = None
    tools: Mapping[str, Mapping[str, Any] | None] | None = field(default_factory=dict)
    must_call: str | None = None
    stops: tuple[str, ...] = ()


def expected_of(api: Api, values: Mapping[str, Any]) -> Expected:
    """Of a request with these values; what is ill-typed in it asks for nothing."""
    match api:
        case Api.CHAT_COMPLETIONS:
            form = _object(values.get("response_format"))
            schema = _object(form.get("json_schema")).get("schema")
            legacy = [{"type": "function", "function": each} for each in objects_of(values.get("functions"))]
            tools = [
                (tool.get("type"), _object(tool.get("function") or tool.get("custom")), "parameters")
                for tool in objects_of(values.get("tools")) + legacy
            ]
            return Expected(
                _schema(form.get("type"), schema),
                _tools(tools),
                _must_call(values.get("tool_choice")),
                _stops(values.get("stop")),
            )
        case Api.RESPONSES:
            form = _object(_object(values.get("text")).get("format"))
            tools = [(tool.get("type"), tool, "parameters") for tool in objects_of(values.get("tools"))]
            return Expected(
                _schema(form.get("type"), form.get("schema")),
                _tools(tools),
                _must_call(values.get("tool_choice")),
            )
        case Api.MESSAGES:
            form = _object(values.get("output_format") or _object(values.get("output_config")).get("format"))
            # The provider's own tools have a type that carries a date.
            tools = [(tool.get("type") or "custom", tool, "input_schema") for tool in _tools_of(values)]
            return Expected(
                _schema(form.get("type"), form.get("schema")),
                _tools(tools),
                _must_call(values.get("tool_choice")),
                _stops(values.get("stop_sequences")),
            )
        case Api.COMPLETIONS:
            # With `echo` the prompt is part of the text, and may have the stop text in it.
            return Expected(stops=() if values.get("echo") else _stops(values.get("stop")))
        case Api.EMBEDDINGS:
            return Expected()


def _tools_of(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return objects_of(values.get("tools"))


def _schema(kind: object, schema: object) -> Mapping[str, Any] | None:
    if kind == "json_schema":
        return schema if isinstance(schema, dict) else {}
    return {} if kind == "json_object" else None


def _tools(
    tools: list[tuple[object, dict[str, Any], str]],
) -> Mapping[str, Mapping[str, Any] | None] | None:
    found: dict[str, Mapping[str, Any] | None] = {}
    for kind, tool, schema_name in tools:
        name = tool.get("name")
        if kind not in ("function", "custom") or not isinstance(name, str):
            return None
        schema = tool.get(schema_name)
        found[name] = schema if isinstance(schema, dict) else None
    return found


def _must_call(choice: object) -> str | None:
    if choice in ("required", "any"):
        return ""
    if not isinstance(choice, dict) or choice.get("type") not in MUST_CALL:
        return None
    named = _object(choice.get("function") or choice.get("custom")).get("name") or choice.get("name")
    return named if isinstance(named, str) else ""


def _stops(stop: object) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    return tuple(each for each in stops if isinstance(each, str) and each)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
