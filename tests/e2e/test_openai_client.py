"""OpenAI's official client, changed in nothing but its base URL: chat completions, embeddings and models."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator

import openai
import pytest
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.clients.accounting import answers, counted_exactly
from tests.clients.samples import IMAGE_URL, TIME_SCHEMA, WEATHER_SCHEMA, City
from tests.support.stack import LONG, SHORT, Stack

USER: list[ChatCompletionMessageParam] = [{"role": "user", "content": SHORT}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": WEATHER_SCHEMA,
        "strict": True,
    },
}
TIME: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "get_time", "parameters": TIME_SCHEMA, "strict": True},
}


@pytest.fixture(autouse=True)
def counted(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    with counted_exactly(stack, request):
        yield


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


@answers(2)
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


def test_parallel_tool_calls_whose_arguments_are_streamed(client: openai.OpenAI) -> None:
    pieces: dict[int, list[str]] = {}
    with client.chat.completions.stream(
        model="auto",
        messages=USER,
        tools=[WEATHER, TIME],
        tool_choice="required",
        parallel_tool_calls=True,
        stream_options={"include_usage": True},
    ) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                pieces.setdefault(event.index, []).append(event.arguments_delta)
        completion = stream.get_final_completion()
    assert completion.choices[0].finish_reason == "tool_calls"
    calls = completion.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert len({call.id for call in calls}) == 2
    for index, call in enumerate(calls):
        assert len(pieces[index]) > 1
        assert "".join(pieces[index]) == call.function.arguments
    assert set(json.loads(calls[0].function.arguments)) == {"city", "unit", "days"}
    assert set(json.loads(calls[1].function.arguments)) == {"zone"}
    assert_adds_up(completion.usage)


@answers(2)
def test_a_second_turn_with_what_the_tools_gave(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(
        model="auto", messages=USER, tools=[WEATHER, TIME], tool_choice="required", parallel_tool_calls=True
    )
    message = first.choices[0].message
    conversation: list[ChatCompletionMessageParam] = [*USER, message.to_dict()]  # type: ignore[list-item]
    for call in message.tool_calls or []:
        conversation.append({"role": "tool", "tool_call_id": call.id, "content": "17"})
    assert len(conversation) == 4
    second = client.chat.completions.create(model="auto", messages=conversation, tools=[WEATHER, TIME])
    assert second.choices[0].finish_reason == "stop"
    assert second.choices[0].message.content
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_structured_output_by_a_schema(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(model="auto", messages=USER, response_format=City)
    assert isinstance(completion.choices[0].message.parsed, City)
    assert_adds_up(completion.usage)


def test_streamed_structured_output_by_a_schema(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="auto", messages=USER, response_format=City) as stream:
        completion = stream.get_final_completion()
    assert isinstance(completion.choices[0].message.parsed, City)


@answers(2)
def test_an_image(client: openai.OpenAI) -> None:
    image: list[ChatCompletionMessageParam] = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": SHORT},
                {"type": "image_url", "image_url": {"url": IMAGE_URL, "detail": "low"}},
            ],
        }
    ]
    seen = client.chat.completions.create(model="auto", messages=image)
    unseen = client.chat.completions.create(model="auto", messages=USER)
    assert seen.model == "CheapModel"
    assert seen.usage is not None
    assert unseen.usage is not None
    assert seen.usage.prompt_tokens == unseen.usage.prompt_tokens + 85


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


@answers(0)
def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "CheapModel", "ExpensiveModel"]
    assert client.models.retrieve("CheapModel").id == "CheapModel"


@answers(2)
def test_embeddings_by_default_and_as_numbers(client: openai.OpenAI) -> None:
    texts = [SHORT, "And of Italy?"]
    packed = client.embeddings.create(model="auto", input=texts)
    plain = client.embeddings.create(model="auto", input=texts, encoding_format="float")
    assert [vector.index for vector in packed.data] == [0, 1]
    assert packed.data[0].embedding != packed.data[1].embedding
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.hypot(*one.embedding) == pytest.approx(1, abs=1e-5)
    assert packed.usage.total_tokens == packed.usage.prompt_tokens > 0


def test_embeddings_of_token_ids(client: openai.OpenAI) -> None:
    vectors = client.embeddings.create(model="auto", input=[[9906, 1917], [15339]])
    assert len(vectors.data) == 2
    assert vectors.usage.prompt_tokens == 3


@answers(2)
def test_a_legacy_completion_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="auto", prompt=SHORT, max_tokens=20)
    assert whole.choices[0].text
    assert_adds_up(whole.usage)
    with client.completions.create(model="auto", prompt=SHORT, max_tokens=20, stream=True) as stream:
        text = "".join(part.choices[0].text for part in stream)
    assert text == whole.choices[0].text


@answers(2)
def test_the_asynchronous_client(stack: Stack) -> None:
    async def session() -> tuple[str | None, str]:
        async with openai.AsyncOpenAI(base_url=f"{stack.gateway_url}/v1", api_key="unused") as client:
            whole = await client.chat.completions.create(model="auto", messages=USER)
            text = ""
            async with client.chat.completions.stream(model="auto", messages=USER) as stream:
                async for event in stream:
                    if event.type == "content.delta":
                        text += event.delta
            return whole.choices[0].message.content, text

    whole, streamed = asyncio.run(session())
    assert whole == streamed == "CheapModel: What is the capital of …"


@answers(0)
def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-9", messages=USER)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model="auto", messages=[])
    assert empty.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as streamed:
        client.chat.completions.create(model="auto", messages=[], stream=True)
    assert streamed.value.param == "messages"
    with pytest.raises(openai.NotFoundError) as embedding:
        client.embeddings.create(model="gpt-9", input=SHORT)
    assert embedding.value.code == "model_not_found"


def assert_adds_up(usage: CompletionUsage | None) -> None:
    assert usage is not None
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
