"""The conversation of Anthropic's Messages, counted as the same conversation is in a chat completion.

There the system prompt is a message, and so is each tool's result.
"""

from collections.abc import Iterable, Iterator

from model_server.errors import InvalidRequest
from model_server.fields import Json, Object, as_list, as_object, required_object, required_text
from model_server.request import Message
from model_server.tokens import TOKENS_PER_IMAGE, TOKENS_PER_MESSAGE, count_json, count_text

ROLES = ("user", "assistant", "system")
# What a source must hold, by its type.
IMAGE_SOURCES = {"base64": "data", "url": "url", "file": "file_id"}

Block = tuple[Object, str]  # with its path
Part = tuple[str, int]  # a text and its tokens


def parse_conversation(data: Object) -> tuple[Message, ...]:
    """The system prompt and the messages of a request; raise `InvalidRequest` for what is none."""
    messages: list[Message] = []
    if data.get("system") is not None:
        text, tokens = _parse_texts(data["system"], "system")
        messages.append(Message("system", text, TOKENS_PER_MESSAGE + tokens))
    for index, item in enumerate(as_list(data.get("messages"), "messages")):
        messages.extend(_parse_message(item, f"messages[{index}]"))
    return tuple(messages)


def _parse_message(value: Json, path: str) -> Iterator[Message]:
    message = as_object(value, path)
    role = required_text(message, "role", f"{path}.")
    if role not in ROLES:
        raise InvalidRequest(f"'{path}.role' must be one of {', '.join(ROLES)}.", f"{path}.role")
    content = message.get("content")
    if isinstance(content, str):
        yield Message(role, content, TOKENS_PER_MESSAGE + count_text(content))
        return
    blocks = _blocks(content, f"{path}.content")
    others = [(block, at) for block, at in blocks if block.get("type") != "tool_result"]
    for block, at in blocks:
        if block.get("type") == "tool_result":
            required_text(block, "tool_use_id", f"{at}.")
            text, tokens = _parse_content(block.get("content"), f"{at}.content")
            yield Message("tool", text, TOKENS_PER_MESSAGE + tokens)
    if others:
        text, tokens = _join(_parse_block(block, at) for block, at in others)
        yield Message(role, text, TOKENS_PER_MESSAGE + tokens)


def _parse_block(block: Object, path: str) -> Part:
    match required_text(block, "type", f"{path}."):
        case "text":
            text = required_text(block, "text", f"{path}.")
            return text, count_text(text)
        case "image":
            _check_image(required_object(block, "source", f"{path}."), f"{path}.source")
            return "", TOKENS_PER_IMAGE
        case "document":
            return "", _document_tokens(block, path)
        case "tool_use":
            required_text(block, "id", f"{path}.")
            name = required_text(block, "name", f"{path}.")
            return "", count_text(name) + count_json(required_object(block, "input", f"{path}."))
        case "thinking" | "redacted_thinking":
            return "", 0  # earlier thoughts are not read again
        case _:
            return "", count_json(block)


def _check_image(source: Object, path: str) -> None:
    kind = required_text(source, "type", f"{path}.")
    if kind not in IMAGE_SOURCES:
        known = ", ".join(IMAGE_SOURCES)
        raise InvalidRequest(f"'{path}.type' must be one of {known}.", f"{path}.type")
    required_text(source, IMAGE_SOURCES[kind], f"{path}.")


def _document_tokens(block: Object, path: str) -> int:
    """The tokens of a document: those of its text where it has one, else of its source as it stands."""
    source = required_object(block, "source", f"{path}.")
    path = f"{path}.source"
    match required_text(source, "type", f"{path}."):
        case "text":
            return count_text(required_text(source, "data", f"{path}."))
        case "content":
            return _parse_content(source.get("content"), f"{path}.content")[1]
        case _:
            return count_json(source)


def _parse_content(content: Json, path: str) -> Part:
    """What stands in a tool's result or a document: nothing, a string or blocks."""
    if content is None or content == []:
        return "", 0
    if isinstance(content, str):
        return content, count_text(content)
    return _join(_parse_block(block, at) for block, at in _blocks(content, path))


def _parse_texts(value: Json, path: str) -> Part:
    for block, at in () if isinstance(value, str) or value == [] else _blocks(value, path):
        if block.get("type") != "text":
            raise InvalidRequest(f"'{at}.type' must be 'text'.", f"{at}.type")
    return _parse_content(value, path)


def _blocks(value: Json, path: str) -> list[Block]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"'{path}' must be a string or a non-empty array of blocks.", path)
    return [(as_object(block, f"{path}[{i}]"), f"{path}[{i}]") for i, block in enumerate(value)]


def _join(parts: Iterable[Part]) -> Part:
    read = list(parts)
    return "\n".join(text for text, _ in read if text), sum(tokens for _, tokens in read)
