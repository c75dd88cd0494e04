"""The input items of a Responses request as the messages of a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import InvalidRequest
from gateway.translation.fields import Fields
from gateway.translation.responses_tools import flat_name, refuse_asynchronous

# Many providers know no `developer`, and some refuse it beside `system`.
CHAT_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
OUTPUTS = ("function_call_output", "custom_tool_call_output")


def chat_messages(values: Mapping[str, Any], request: Fields) -> list[dict[str, Any]]:
    """The messages for `instructions` and `input`.

    :raises InvalidRequest: also for an item or a part that chat completions has nothing for
    """
    conversation = _Conversation()
    instructions = request.take("instructions", str)
    if instructions:
        conversation.add_message({"role": "system", "content": instructions})
    items = request.content("input")
    if isinstance(items, str):
        conversation.add_message({"role": "user", "content": items})
    elif items is None:
        raise InvalidRequest("'input' is missing.", param="input")
    else:
        answered = {
            item["call_id"]: index
            for index, item in enumerate(values["input"])
            if item.get("type") in OUTPUTS and isinstance(item.get("call_id"), str)
        }
        for index, item in enumerate(items):
            _add_item(conversation, item, index, answered)
    messages = conversation.finish()
    if not messages:
        raise InvalidRequest("'input' must hold at least one message.", param="input")
    return messages


class _Conversation:
    """Messages in the order that chat completions demands: what the assistant said and called in one turn
    is one message, and the outputs of its calls follow it before anything else does."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._turn: dict[str, Any] | None = None
        self._unanswered: set[str] = set()
        self._held: list[dict[str, Any]] = []

    def add_message(self, message: dict[str, Any]) -> None:
        if self._unanswered:
            self._held.append(message)
        else:
            self._turn = None
            self._messages.append(message)

    def add_assistant(self, content: str | list[dict[str, Any]]) -> None:
        if self._turn is not None and "tool_calls" in self._turn:
            before = self._turn["content"]
            self._turn["content"] = content if before is None else [*_as_parts(before), *_as_parts(content)]
        else:
            self._turn = {"role": "assistant", "content": content}
            self._messages.append(self._turn)

    def add_call(self, call: dict[str, Any], *, answered: bool) -> None:
        if self._turn is None:
            self._turn = {"role": "assistant", "content": None}
            self._messages.append(self._turn)
        self._turn.setdefault("tool_calls", []).append(call)
        if answered:
            self._unanswered.add(call["id"])

    def add_output(
        self, call_id: str, content: str | list[dict[str, Any]], others: list[dict[str, Any]]
    ) -> None:
        """`others` are the parts that no tool message can hold."""
        self._messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
        self._unanswered.discard(call_id)
        if others:
            self._held.append({"role": "user", "content": others})
        if not self._unanswered:
            self._end_turn()

    def finish(self) -> list[dict[str, Any]]:
        self._end_turn()
        return self._messages

    def _end_turn(self) -> None:
        self._turn = None
        self._messages += self._held
        self._held = []


def _as_parts(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _add_item(conversation: _Conversation, item: Fields, index: int, answered: Mapping[str, int]) -> None:
    kind, role = item.take("type", str), item.take("role", str)
    if kind == "message" or (kind is None and role is not None):
        _add_message(conversation, item, role)
    elif kind == "function_call" or kind == "custom_tool_call":
        call = _chat_call(item, kind)
        conversation.add_call(call, answered=answered.get(call["id"], -1) > index)
    elif kind in OUTPUTS:
        _add_output(conversation, item)
    elif kind != "reasoning":
        raise item.untranslatable("type", kind or "item_reference")


def _add_message(conversation: _Conversation, item: Fields, role: str | None) -> None:
    if role not in CHAT_ROLES:
        raise item.ill_typed("role", f"one of: {', '.join(CHAT_ROLES)}")
    content = _chat_content(item, "content", role)
    item.drop("id", "status", "phase")
    item.close()
    if role == "assistant":
        conversation.add_assistant(content)
    else:
        conversation.add_message({"role": CHAT_ROLES[role], "content": content})


def _add_output(conversation: _Conversation, item: Fields) -> None:
    call_id = item.need("call_id", str)
    content = _chat_content(item, "output", "user")
    _refuse_programs(item)
    item.drop("id", "status", "name", "namespace")
    item.close()
    parts = [] if isinstance(content, str) else content
    others = [part for part in parts if part["type"] != "text"]
    if others:
        content = _one_text_or_parts([part for part in parts if part["type"] == "text"])
    conversation.add_output(call_id, content, others)


def _chat_content(item: Fields, name: str, role: str) -> str | list[dict[str, Any]]:
    content = item.content(name)
    if content is None:
        raise InvalidRequest(f"'{item.path(name)}' is missing.", param=item.path(name))
    return (
        content
        if isinstance(content, str)
        else _one_text_or_parts([_chat_part(part, role) for part in content])
    )


def _one_text_or_parts(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """A lone text is said as a string, which every provider takes in every role."""
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        text: str = parts[0]["text"]
        return text
    return parts


def _chat_part(part: Fields, role: str) -> dict[str, Any]:
    kind = part.need("type", str)
    if kind == "input_text" or kind == "output_text":
        part.drop("annotations", "logprobs", "parsed")
        chat: dict[str, Any] = {"type": "text", "text": part.need("text", str)}
    elif kind == "refusal" and role == "assistant":
        chat = {"type": "refusal", "refusal": part.need("refusal", str)}
    elif kind in USER_PARTS and role == "user":
        chat = USER_PARTS[kind](part)
    else:
        raise part.untranslatable("type", kind)
    breakpoint = part.take("prompt_cache_breakpoint", dict)
    if breakpoint is not None:
        chat["prompt_cache_breakpoint"] = breakpoint
    part.close()
    return chat


def _image_part(part: Fields) -> dict[str, Any]:
    _refuse_file_id(part)
    image = {"url": part.need("image_url", str)}
    detail = part.take("detail", str)
    if detail is not None:
        image["detail"] = detail
    return {"type": "image_url", "image_url": image}


def _file_part(part: Fields) -> dict[str, Any]:
    _refuse_file_id(part)
    if part.take("file_url", str) is not None:
        raise part.untranslatable("file_url")
    if part.take("detail", str) not in (None, "auto"):
        raise part.untranslatable("detail")
    file = {"file_data": part.need("file_data", str)}
    filename = part.take("filename", str)
    if filename is not None:
        file["filename"] = filename
    return {"type": "file", "file": file}


def _refuse_file_id(part: Fields) -> None:
    # It names a file that one provider keeps.
    if part.take("file_id", str) is not None:
        raise part.untranslatable("file_id")


def _audio_part(part: Fields) -> dict[str, Any]:
    audio = Fields(part.need("input_audio", dict), part.path("input_audio"))
    chat = {"data": audio.need("data", str), "format": audio.need("format", str)}
    audio.close()
    return {"type": "input_audio", "input_audio": chat}


USER_PARTS = {"input_image": _image_part, "input_file": _file_part, "input_audio": _audio_part}


def _chat_call(item: Fields, kind: str) -> dict[str, Any]:
    call: dict[str, Any] = {"id": item.need("call_id", str)}
    name, namespace = item.need("name", str), item.take("namespace", str)
    name = flat_name(namespace, name) if namespace else name
    if kind == "function_call":
        call |= {"type": "function", "function": {"name": name, "arguments": item.need("arguments", str)}}
    else:
        call |= {"type": "custom", "custom": {"name": name, "input": item.need("input", str)}}
    _refuse_programs(item)
    refuse_asynchronous(item)
    item.drop("id", "status", "parsed_arguments")  # the last is what clients add to what they got
    item.close()
    return call


def _refuse_programs(item: Fields) -> None:
    """Refuse calls that a provider's program made, whose other half chat completions does not have."""
    if item.take("caller", dict) not in (None, {"type": "direct"}):
        raise item.untranslatable("caller")
