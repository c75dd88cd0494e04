"""OpenAI's legacy completions."""

import time
import uuid
from collections.abc import Iterator

from model_server.completion import Answer, Choice, complete
from model_server.delivery import DONE, Chunk, Stream, Whole, to_json
from model_server.dialects.prompts import parse_prompts
from model_server.errors import InvalidRequest
from model_server.fields import optional_integer, optional_text
from model_server.jsonbody import load_object
from model_server.profile import ModelProfile
from model_server.reply import fingerprint, openai_usage
from model_server.request import ModelRequest, Prompt
from model_server.schema import MAX_CHOICES, check_sampling, parse_stops, parse_stream
from model_server.tokens import count_text, split_text

# OpenAI's own: a legacy completion that states no limit ends there.
DEFAULT_MAX_TOKENS = 16


class Text:
    """`POST /v1/completions`. `echo`, `suffix`, `best_of` and `logprobs` change nothing."""

    def __init__(self, profile: ModelProfile) -> None:
        self._profile = profile

    def answer(self, body: bytes, *, states_usage: bool) -> Whole | Stream:
        """A `text_completion` with `n` choices for each prompt, or its chunks."""
        request = _parse(body)
        answer = complete(self._profile, request)
        if request.stream:
            return Stream(_chunks(answer, request.include_usage and states_usage), DONE, answer.usage)
        return Whole(_whole(answer, states_usage), answer.usage)


def _parse(body: bytes) -> ModelRequest:
    data = load_object(body)
    prompts = parse_prompts(data.get("prompt"), "prompt")
    optional_text(data, "model")
    check_sampling(data)
    choices = optional_integer(data, "n", 1, MAX_CHOICES) or 1
    if choices * len(prompts) > MAX_CHOICES:
        raise InvalidRequest(f"'n' times the prompts must be at most {MAX_CHOICES}.", "n")
    max_tokens = optional_integer(data, "max_tokens", 0)
    stream, include_usage = parse_stream(data)
    return ModelRequest(
        questions=tuple(prompt.text for prompt in prompts),
        prompt=Prompt(sum(prompt.tokens for prompt in prompts)),
        choices=choices,
        max_tokens=DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
        stops=parse_stops(data.get("stop")),
        stream=stream,
        include_usage=include_usage,
    )


def _whole(answer: Answer, states_usage: bool) -> bytes:
    choices = [
        _choice(index, choice.text, choice.finish_reason) for index, choice in enumerate(answer.choices)
    ]
    tail = {"usage": openai_usage(answer.usage)} if states_usage else {}
    return to_json({**_head(answer), "choices": choices, **tail}).encode()


def _chunks(answer: Answer, include_usage: bool) -> list[Chunk]:
    head = _head(answer)
    tail: dict[str, object] = {"usage": None} if include_usage else {}
    chunks = [
        Chunk(to_json({**head, "choices": [piece], **tail}), tokens)
        for index, choice in enumerate(answer.choices)
        for piece, tokens in _pieces(index, choice)
    ]
    if include_usage:
        chunks.append(Chunk(to_json({**head, "choices": [], "usage": openai_usage(answer.usage)}), 0))
    return chunks


def _pieces(index: int, choice: Choice) -> Iterator[tuple[dict[str, object], int]]:
    for piece in split_text(choice.text):
        yield _choice(index, piece, None), count_text(piece)
    yield _choice(index, "", choice.finish_reason), 0


def _head(answer: Answer) -> dict[str, object]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": answer.model,
        "system_fingerprint": fingerprint(answer.model),
    }


def _choice(index: int, text: str, finish_reason: str | None) -> dict[str, object]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}
