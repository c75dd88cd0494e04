"""What was generated of an answer that broke off is read from its beginning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers import GENERATED, characters_so_far, output_characters, stream_reader
from gateway.apis import Api
from gateway.billing import usage_stated
from gateway.sse import read_event
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


TEXT = st.none() | st.booleans() | st.text(max_size=5) | st.lists(st.text(max_size=2), max_size=2)
CALLS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"function": st.fixed_dictionaries({}, optional={"name": TEXT, "arguments": TEXT})}
    ),
    max_size=2,
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(sorted(GENERATED), TEXT)
    | {"role": st.just("assistant"), "reasoning_content": TEXT, "reasoning": TEXT, "tool_calls": CALLS}
    | {"type": st.sampled_from(["text", "text_delta", "tool_use", "thinking"]), "name": TEXT}
    | {"input": st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2), "index": st.just(0)}
    | {"annotations": st.just([{"text": "not generated"}]), "logprobs": st.just({"content": [1]})},
)


def generated_in(message: dict[str, Any]) -> int:
    """Characters generated in one message, said as plainly as can be."""
    texts: list[Any] = [message.get(name) for name in GENERATED]
    texts.append(message.get("reasoning_content") or message.get("reasoning"))
    for call in message.get("tool_calls", []):
        texts += call.get("function", {}).values()
    if message.get("type") == "tool_use":
        texts.append(message.get("name"))
        if message.get("input"):
            texts.append(json.dumps(message["input"], ensure_ascii=False, separators=(",", ":")))
    return sum(len(text) for text in texts if isinstance(text, str))


@given(MESSAGE, st.sampled_from(["delta", "message", None]))
def test_of_whatever_a_choice_holds_what_was_generated_is_counted(
    message: dict[str, Any], name: str | None
) -> None:
    choice = {name: message, "index": 0, "finish_reason": "stop"} if name else message
    reader = stream_reader(Api.CHAT_COMPLETIONS)
    reader.read(read_event(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"))
    assert reader.characters == generated_in(message)
    assert output_characters(Api.CHAT_COMPLETIONS, {"choices": [choice]}) == generated_in(message)
    assert output_characters(Api.MESSAGES, {"content": [message]}) == generated_in(message)


@pytest.mark.parametrize(
    ("answer", "prompt_tokens"),
    [
        ({"usage": {"prompt_tokens": 1}, "x_groq": {"usage": {"prompt_tokens": 2}}}, 1),
        ({"usage": None, "x_groq": {"usage": {"prompt_tokens": 2}}}, 2),
        ({"usage": [1], "x_groq": {"usage": {"prompt_tokens": 2}}}, 2),
        ({"x_groq": {}, "choices": [{"usage": {"prompt_tokens": 3}}]}, 3),
        ({"x_groq": None, "usage": {}, "choices": [{"usage": {"prompt_tokens": 3}}]}, 3),
        ({"choices": [{"usage": {}}]}, None),
        ({"choices": [{"usage": 1}], "x_groq": 1, "usage": 1}, None),
        ({"choices": [1]}, None),
        ({"choices": 1}, None),
        ({}, None),
    ],
)
def test_the_usage_is_found_wherever_a_provider_states_it(
    answer: dict[str, Any], prompt_tokens: int | None
) -> None:
    usage = usage_stated(Api.CHAT_COMPLETIONS, answer)
    assert (None if usage is None else usage.input_tokens) == prompt_tokens
