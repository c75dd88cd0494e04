"""What was generated of an answer that broke off is read from its beginning."""

from __future__ import annotations

import json

import pytest

from gateway.answers import characters_so_far, output_characters
from gateway.apis import Api
from tests.support.echo_answers import WHOLE

CALL = {
    "choices": [
        {
            "message": {
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
                ],
            }
        }
    ]
}


@pytest.mark.parametrize(
    ("api", "path"),
    [
        (Api.CHAT_COMPLETIONS, "chat/completions"),
        (Api.COMPLETIONS, "completions"),
        (Api.MESSAGES, "messages"),
        (Api.RESPONSES, "responses"),
        (Api.EMBEDDINGS, "embeddings"),
    ],
)
def test_of_a_whole_answer_all_that_was_generated_is_counted(api: Api, path: str) -> None:
    assert characters_so_far(json.dumps(WHOLE[path]).encode()) == output_characters(api, WHOLE[path])


def test_a_call_counts_by_its_name_and_arguments() -> None:
    assert (
        characters_so_far(json.dumps(CALL).encode())
        == 11 + 17
        == output_characters(Api.CHAT_COMPLETIONS, CALL)
    )


@pytest.mark.parametrize(
    ("beginning", "characters"),
    [
        (b"", 0),
        (b'{"choices": [{"message": {"content": null', 0),
        (b'{"choices": [{"message": {"content"', 0),
        (b'{"choices": [{"message": {"content": "', 0),
        (b'{"choices":[{"message":{"content":"Paris', 5),
        (b'{"choices": [{"message": {"content" : "Paris", "role": "assistant', 5),
        (b'{"choices": [{"text": "a\\nb\\u00e9\\\\\\"', 6),
        (b'{"choices": [{"text": "ab\\', 2),
        ('{"choices": [{"text": "né'.encode()[:-1], 2),
        (b'{"choices": [{"text": "ab"}, {"text": "cd', 4),
        (b'{"content": [{"type": "text", "text": "Par', 3),
        (b'{"usage": {"prompt_tokens": 1}, "object": "list", "model": "content', 0),
        (b"<html>", 0),
    ],
)
def test_of_a_broken_answer_counts_what_had_come(beginning: bytes, characters: int) -> None:
    assert characters_so_far(beginning) == characters
