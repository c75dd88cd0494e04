"""From the messages of Anthropic's Messages API to those of chat completions, block by block."""

from __future__ import annotations

import json
from typing import Any

from gateway.errors import InvalidRequest
from gateway.translation.fields import Fields

PDF = "application/pdf"
DEFAULT_FILENAME = "document.pdf"

ChatMessage = dict[str, Any]
Part = dict[str, Any]


def system_messages(content: str | list[Fields] | None) -> list[ChatMessage]:
    """The system message for a system prompt; none for none."""
    if content is None or content == []:
        return []
    return [{"role": "system", "content": _text_content(content)}]


def chat_messages(message: Fields) -> list[ChatMessage]:
    """The messages that one message becomes: several where it holds the results of tools.

    :raises InvalidRequest: for what chat completions have no place for
    """
    role = message.need("role", str)
    content = message.content("content")
    if content is None:
        raise InvalidRequest(f"'{message.path('content')}' is missing.", param=message.path("content"))
    message.close()
    match role:
        case "user":
            return _of_user(content)
        case "assistant":
            return [_of_assistant(content)]
        case "system":
            return system_messages(content)
        case _:
            raise message.untranslatable("role", role)


def _of_user(content: str | list[Fields]) -> list[ChatMessage]:
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[ChatMessage] = []
    parts: list[Part] = []
    for block in content:
        kind = block.need("type", str)
        if kind == "tool_result":
            result, shown = _of_tool(block)
            results.append(result)
            parts += shown
        else:
            parts += _parts(block, kind)
    if results and not parts:
        return results
    return [*results, {"role": "user", "content": _chat_content(parts)}]


def _of_tool(block: Fields) -> tuple[ChatMessage, list[Part]]:
    """The message of a tool, which holds text only, and the parts that must stand beside it."""
    identity = block.need("tool_use_id", str)
    content = block.content("content") or ""
    block.take("is_error", bool)
    block.drop("cache_control")
    block.close()
    if isinstance(content, str):
        return {"role": "tool", "tool_call_id": identity, "content": content}, []
    parts = [part for inner in content for part in _parts(inner, inner.need("type", str))]
    texts = [part for part in parts if part["type"] == "text"]
    shown = [part for part in parts if part["type"] != "text"]
    return {"role": "tool", "tool_call_id": identity, "content": _chat_content(texts)}, shown


def _of_assistant(content: str | list[Fields]) -> ChatMessage:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    parts: list[Part] = []
    calls: list[dict[str, Any]] = []
    for block in content:
        match block.need("type", str):
            case "text":
                parts.append(_text(block))
            case "tool_use":
                calls.append(_call(block))
            case "thinking" | "redacted_thinking":
                pass  # signed for the model that thought it; no other can read it
            case kind:
                raise block.untranslatable("type", kind)
    if not calls:
        return {"role": "assistant", "content": _chat_content(parts)}
    return {"role": "assistant", "content": _chat_content(parts) if parts else None, "tool_calls": calls}


def _call(block: Fields) -> dict[str, Any]:
    identity, name = block.need("id", str), block.need("name", str)
    arguments = block.need("input", dict)
    caller = block.child("caller")
    if caller is not None and caller.need("type", str) != "direct":
        raise block.untranslatable("caller")
    block.drop("cache_control")
    block.close()
    text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": text}}


def _parts(block: Fields, kind: str) -> list[Part]:
    match kind:
        case "text":
            return [_text(block)]
        case "image":
            return [_image(block)]
        case "document":
            return _document(block)
        case _:
            raise block.untranslatable("type", kind)


def _text(block: Fields) -> Part:
    text = block.need("text", str)
    block.drop("cache_control", "citations")
    block.close()
    return {"type": "text", "text": text}


def _image(block: Fields) -> Part:
    source = _source(block)
    match source.need("type", str):
        case "base64":
            media_type, data = source.need("media_type", str), source.need("data", str)
            if not media_type.startswith("image/"):
                raise source.untranslatable("media_type", media_type)
            url = f"data:{media_type};base64,{data}"
        case "url":
            url = source.need("url", str)
        case kind:
            raise source.untranslatable("type", kind)
    source.close()
    changes = block.child("transformations")
    if changes is not None:
        # Every provider scales down what is too large; that one refuses instead cannot be had.
        if changes.take("oversized_image", str) not in (None, "downsize"):
            raise changes.untranslatable("oversized_image")
        changes.close()
    block.drop("cache_control")
    block.close()
    return {"type": "image_url", "image_url": {"url": url}}


def _document(block: Fields) -> list[Part]:
    """What a file has no place for, its context and the title of a text, stands before it as text."""
    source = _source(block)
    title, context = block.take("title", str), block.take("context", str)
    citations = block.child("citations")
    if citations is not None:
        if citations.take("enabled", bool):
            raise block.untranslatable("citations")
        citations.close()
    block.drop("cache_control")
    block.close()
    match source.need("type", str):
        case "base64":
            if (media_type := source.need("media_type", str)) != PDF:
                raise source.untranslatable("media_type", media_type)
            data = f"data:{PDF};base64,{source.need('data', str)}"
            document = {"type": "file", "file": {"filename": title or DEFAULT_FILENAME, "file_data": data}}
            before = [context]
        case "text":
            if (media_type := source.take("media_type", str) or "text/plain") != "text/plain":
                raise source.untranslatable("media_type", media_type)
            document = {"type": "text", "text": source.need("data", str)}
            before = [title, context]
        case kind:
            raise source.untranslatable("type", kind)
    source.close()
    return [*({"type": "text", "text": text} for text in before if text), document]


def _source(block: Fields) -> Fields:
    source = block.child("source")
    if source is None:
        raise InvalidRequest(f"'{block.path('source')}' is missing.", param=block.path("source"))
    return source


def _text_content(content: str | list[Fields]) -> str | list[Part]:
    if isinstance(content, str):
        return content
    parts: list[Part] = []
    for block in content:
        if (kind := block.need("type", str)) != "text":
            raise block.untranslatable("type", kind)
        parts.append(_text(block))
    return _chat_content(parts)


def _chat_content(parts: list[Part]) -> str | list[Part]:
    """Parts as a message's content: a single text as a string, which every provider takes."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts
