"""The `input` of OpenAI's Responses, counted as the same conversation is in a chat completion.

There the calls that follow an assistant's message are a part of it.
"""

from dataclasses import replace

from model_server.errors import InvalidRequest
from model_server.fields import Json, Object, as_list, as_object, required_text
from model_server.request import Message
from model_server.tokens import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, count_json, count_text

ROLES = ("user", "assistant", "system", "developer")

Part = tuple[str, int]  # a text and its tokens


def parse_input(value: Json) -> tuple[Message, ...]:
    """The messages of an input; raise `InvalidRequest` for what is none."""
    if isinstance(value, str):
        return (_message("user", (value, count_text(value))),)
    if not isinstance(value, list) or not value:
        raise InvalidRequest("'input' must be a string or a non-empty array of items.", "input")
    messages: list[Message] = []
    for index, item in enumerate(value):
        _add_item(messages, as_object(item, f"input[{index}]"), f"input[{index}]")
    return tuple(messages)


def _add_item(messages: list[Message], item: Object, path: str) -> None:
    match "message" if item.get("type") is None else item["type"]:
        case "message":
            messages.append(_parse_message(item, path))
        case "function_call":
            _add_call(messages, _call_tokens(item, path))
        case "function_call_output":
            required_text(item, "call_id", f"{path}.")
            messages.append(_message("tool", _parse_content(item.get("output"), f"{path}.output")))
        case "reasoning":
            pass  # earlier thoughts are not read again
        case _:
            raise InvalidRequest(
                f"'{path}.type' must be 'message', 'function_call', 'function_call_output' or 'reasoning'.",
                f"{path}.type",
            )


def _parse_message(item: Object, path: str) -> Message:
    role = required_text(item, "role", f"{path}.")
    if role not in ROLES:
        raise InvalidRequest(f"'{path}.role' must be one of {', '.join(ROLES)}.", f"{path}.role")
    return _message(role, _parse_content(item.get("content"), f"{path}.content"))


def _message(role: str, content: Part) -> Message:
    text, tokens = content
    return Message(role, text, TOKENS_PER_MESSAGE + tokens)


def _call_tokens(item: Object, path: str) -> int:
    required_text(item, "call_id", f"{path}.")
    name = required_text(item, "name", f"{path}.")
    return count_text(name) + count_text(required_text(item, "arguments", f"{path}."))


def _add_call(messages: list[Message], tokens: int) -> None:
    if messages and messages[-1].role == "assistant":
        messages[-1] = replace(messages[-1], tokens=messages[-1].tokens + tokens)
    else:
        messages.append(_message("assistant", ("", tokens)))


def _parse_content(content: Json, path: str) -> Part:
    if isinstance(content, str):
        return content, count_text(content)
    if not isinstance(content, list):
        raise InvalidRequest(f"'{path}' must be a string or an array of parts.", path)
    parts = [_parse_part(part, f"{path}[{i}]") for i, part in enumerate(as_list(content, path))]
    return "\n".join(text for text, _ in parts if text), sum(tokens for _, tokens in parts)


def _parse_part(value: Json, path: str) -> Part:
    part = as_object(value, path)
    match required_text(part, "type", f"{path}."):
        case "input_text" | "output_text":
            text = required_text(part, "text", f"{path}.")
            return text, count_text(text)
        case "refusal":
            text = required_text(part, "refusal", f"{path}.")
            return text, count_text(text)
        case "input_image":
            required_text(part, "image_url" if part.get("file_id") is None else "file_id", f"{path}.")
            return "", TOKENS_PER_IMAGE
        case _:
            return "", count_json(part)
