"""The bare input of a legacy completion or of embeddings: texts or token ids, without messages."""

from dataclasses import dataclass

from model_server.errors import InvalidRequest
from model_server.fields import Json
from model_server.tokens import count_text

MAX_PROMPTS = 2048


@dataclass(frozen=True)
class BarePrompt:
    """A text and what it costs to read, in tokens. Of token ids the text are the numbers."""

    text: str
    tokens: int


def parse_prompts(value: Json, param: str) -> tuple[BarePrompt, ...]:
    """A text, a list of texts, a list of token ids, or a list of such lists; else raise `InvalidRequest`."""
    if isinstance(value, str):
        return (_of_text(value),)
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"'{param}' must be a string or a non-empty array.", param)
    if len(value) > MAX_PROMPTS and not _are_ids(value):
        raise InvalidRequest(f"'{param}' must hold at most {MAX_PROMPTS} items.", param)
    if all(isinstance(item, str) for item in value):
        return tuple(_of_text(text) for text in value)
    if _are_ids(value):
        return (_of_ids(value),)
    for index, item in enumerate(value):
        if not isinstance(item, list) or not item or not _are_ids(item):
            at = f"{param}[{index}]"
            raise InvalidRequest(
                f"'{param}' must hold strings, token ids or arrays of token ids alone: see '{at}'.", at
            )
    return tuple(_of_ids(ids) for ids in value)


def _of_text(text: str) -> BarePrompt:
    return BarePrompt(text, count_text(text))


def _of_ids(ids: list[int]) -> BarePrompt:
    return BarePrompt(" ".join(map(str, ids)), len(ids))


def _are_ids(items: list[Json]) -> bool:
    return all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in items)
