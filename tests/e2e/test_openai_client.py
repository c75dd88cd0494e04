"""The official client, changed in nothing but its base URL."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.support.stack import LONG, SHORT, Stack

USER: list[ChatCompletionMessageParam] = [{"role": "user", "content": SHORT}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 1},
            },
            "required": ["city", "unit", "days"],
        },
    },
}


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.gateway_url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=USER)
    assert answer.model == "CheapModel"
    assert answer.choices[0].message.content == "CheapModel: What is the capital of …"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (14, 9)


def test_chat_with_the_expensive_model_by_length_and_by_name(client: openai.OpenAI) -> None:
    long: list[ChatCompletionMessageParam] = [{"role": "user", "content": LONG}]
    assert client.chat.completions.create(model="auto", messages=long).model == "ExpensiveModel"
    assert client.chat.completions.create(model="ExpensiveModel", messages=USER).model == "ExpensiveModel"


def test_streaming_with_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="auto", messages=USER, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "CheapModel: What is the capital of …"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (14, 9)
    assert usage.model_extra == {"cost": 0.000005}


def test_streaming_without_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="auto", messages=USER, stream=True) as stream:
        chunks = list(stream)
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_a_forced_tool_call(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="auto",
        messages=USER,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert isinstance(arguments["city"], str)
    assert arguments["unit"] == "celsius"
    assert arguments["days"] == 1


def test_a_streamed_tool_call(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="auto", messages=USER, tools=[WEATHER], tool_choice="required"
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls or []
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["unit"] == "celsius"


def test_json_mode(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="auto", messages=USER, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


def test_a_limit_on_tokens(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=USER, max_completion_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "CheapModel", "ExpensiveModel"]
    assert client.models.retrieve("CheapModel").id == "CheapModel"


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-9", messages=USER)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model="auto", messages=[])
    assert empty.value.param == "messages"
