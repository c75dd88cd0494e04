"""The conversation of a chat completion."""

from model_server.errors import InvalidRequest
from model_server.fields import Json, Object, as_list, as_object, optional_text, required_text
from model_server.request import Message
from model_server.tokens import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, count_json, count_text

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
# What may stand in for an assistant's text.
ASSISTANT_ALTERNATIVES = ("tool_calls", "function_call", "refusal", "audio")


def parse_messages(value: Json) -> tuple[Message, ...]:
    """The messages of a request; raise `InvalidRequest` for what is not a conversation."""
    items = as_list(value, "messages")
    return tuple(_parse_message(item, f"messages[{i}]") for i, item in enumerate(items))


def _parse_message(value: Json, path: str) -> Message:
    message = as_object(value, path)
    role = required_text(message, "role", f"{path}.")
    if role not in ROLES:
        raise InvalidRequest(f"'{path}.role' must be one of {', '.join(sorted(ROLES))}.", f"{path}.role")
    if role == "tool":
        required_text(message, "tool_call_id", f"{path}.")
    text, content_tokens = _parse_content(message, role, f"{path}.content")
    name = optional_text(message, "name", f"{path}.") or ""
    calls = _tool_call_tokens(message.get("tool_calls"), f"{path}.tool_calls")
    return Message(role, text, TOKENS_PER_MESSAGE + content_tokens + count_text(name) + calls)


def _parse_content(message: Object, role: str, path: str) -> tuple[str, int]:
    content = message.get("content")
    if isinstance(content, str):
        return content, count_text(content)
    if content is None:
        if role == "assistant" and any(message.get(name) is not None for name in ASSISTANT_ALTERNATIVES):
            return "", 0
        raise InvalidRequest(f"'{path}' must be a string or an array of parts.", path)
    if not isinstance(content, list) or not content:
        raise InvalidRequest(f"'{path}' must be a string or a non-empty array of parts.", path)
    parts = [_parse_part(part, f"{path}[{i}]") for i, part in enumerate(content)]
    return "\n".join(text for text, _ in parts if text), sum(tokens for _, tokens in parts)


def _parse_part(value: Json, path: str) -> tuple[str, int]:
    part = as_object(value, path)
    kind = required_text(part, "type", f"{path}.")
    if kind == "text":
        text = required_text(part, "text", f"{path}.")
        return text, count_text(text)
    if kind == "image_url":
        image = as_object(part.get("image_url"), f"{path}.image_url")
        required_text(image, "url", f"{path}.image_url.")
        return "", TOKENS_PER_IMAGE
    return "", count_json(part)


def _tool_call_tokens(value: Json, path: str) -> int:
    if value is None:
        return 0
    return sum(_one_call_tokens(call, f"{path}[{i}]") for i, call in enumerate(as_list(value, path)))


def _one_call_tokens(value: Json, path: str) -> int:
    call = as_object(value, path)
    if call.get("type", "function") != "function":
        return count_json(call)
    function = as_object(call.get("function"), f"{path}.function")
    name = required_text(function, "name", f"{path}.function.")
    arguments = required_text(function, "arguments", f"{path}.function.")
    return count_text(name) + count_text(arguments)
