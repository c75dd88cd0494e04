"""OpenAI's official client, changed in nothing but its base URL: the Responses API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import openai
import pytest
from openai.types.responses import (
    FunctionToolParam,
    ResponseFunctionToolCall,
    ResponseInputParam,
    ResponseUsage,
)

from tests.clients.accounting import answers, counted_exactly
from tests.clients.samples import IMAGE_URL, TIME_SCHEMA, WEATHER_SCHEMA, City
from tests.support.stack import LONG, SHORT, Stack

ANSWER = "CheapModel: What is the capital of …"
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": WEATHER_SCHEMA,
    "strict": True,
}
TIME: FunctionToolParam = {
    "type": "function",
    "name": "get_time",
    "parameters": TIME_SCHEMA,
    "strict": True,
}


@pytest.fixture(autouse=True)
def counted(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    with counted_exactly(stack, request):
        yield


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.gateway_url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_a_text(client: openai.OpenAI) -> None:
    response = client.responses.create(model="auto", input=SHORT)
    assert response.status == "completed"
    assert response.model == "CheapModel"
    assert response.output_text == ANSWER
    assert response.error is None
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (14, 9)
    assert_adds_up(response.usage)


@answers(2)
def test_the_expensive_model_by_length_and_by_name(client: openai.OpenAI) -> None:
    assert client.responses.create(model="auto", input=LONG).model == "ExpensiveModel"
    assert client.responses.create(model="ExpensiveModel", input=SHORT).model == "ExpensiveModel"


def test_instructions_cost_tokens_but_do_not_choose_the_model(client: openai.OpenAI) -> None:
    response = client.responses.create(model="auto", instructions=LONG, input=SHORT)
    assert response.model == "CheapModel"
    assert response.instructions == LONG
    assert response.usage is not None
    assert response.usage.input_tokens > 40


def test_a_conversation_of_items(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="auto",
        input=[
            {"role": "developer", "content": "Answer in one word."},
            {"role": "user", "content": SHORT},
            {"role": "assistant", "content": "Paris"},
            {"role": "user", "content": [{"type": "input_text", "text": "And of Italy?"}]},
        ],
    )
    assert response.output_text == "CheapModel: And of Italy?"


def test_a_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model="auto", input=SHORT) as stream:
        events = list(stream)
        response = stream.get_final_response()
    types = [event.type for event in events]
    assert types[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert types[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(types[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == response.output_text == ANSWER
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (14, 9)
    assert_adds_up(response.usage)


def test_a_stream_of_plain_events(client: openai.OpenAI) -> None:
    with client.responses.create(model="auto", input=LONG, stream=True) as stream:
        *_, last = stream
    assert last.type == "response.completed"
    assert last.response.model == "ExpensiveModel"
    assert last.response.output_text.startswith("ExpensiveModel: Explain the concept")
    assert_adds_up(last.response.usage)


@answers(2)
def test_a_limit_on_tokens_whole_and_streamed(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="auto", input=SHORT, max_output_tokens=16)
    assert whole.status == "completed"
    with client.responses.create(model="auto", input=LONG, max_output_tokens=16, stream=True) as stream:
        *_, last = stream
    assert last.type == "response.incomplete"
    assert last.response.status == "incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage is not None
    assert last.response.usage.output_tokens == 16


@answers(2)
def test_parallel_tool_calls_and_a_second_turn_with_what_they_gave(client: openai.OpenAI) -> None:
    conversation: ResponseInputParam = [{"role": "user", "content": SHORT}]
    first = client.responses.create(
        model="auto",
        input=conversation,
        tools=[WEATHER, TIME],
        tool_choice="required",
        parallel_tool_calls=True,
    )
    calls = [item for item in first.output if item.type == "function_call"]
    assert_calls_both(calls)
    conversation += [item.to_dict() for item in first.output]  # type: ignore[misc]
    conversation += [
        {"type": "function_call_output", "call_id": call.call_id, "output": "17"} for call in calls
    ]
    second = client.responses.create(model="auto", input=conversation, tools=[WEATHER, TIME])
    assert second.output_text
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    assert_adds_up(first.usage)
    assert_adds_up(second.usage)


def test_parallel_tool_calls_whose_arguments_are_streamed(client: openai.OpenAI) -> None:
    pieces: dict[int, list[str]] = {}
    with client.responses.stream(
        model="auto",
        input=SHORT,
        tools=[WEATHER, TIME],
        tool_choice="required",
        parallel_tool_calls=True,
    ) as stream:
        for event in stream:
            if event.type == "response.function_call_arguments.delta":
                pieces.setdefault(event.output_index, []).append(event.delta)
        response = stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    assert_calls_both(calls)
    for call, parts in zip(calls, pieces.values(), strict=True):
        assert len(parts) > 1
        assert "".join(parts) == call.arguments
    assert_adds_up(response.usage)


def test_structured_output_by_a_schema(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="auto", input=SHORT, text_format=City)
    assert isinstance(response.output_parsed, City)
    assert_adds_up(response.usage)


def test_streamed_structured_output_by_a_schema(client: openai.OpenAI) -> None:
    with client.responses.stream(model="auto", input=SHORT, text_format=City) as stream:
        response = stream.get_final_response()
    assert isinstance(response.output_parsed, City)


def test_an_image(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model="auto",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": SHORT},
                    {"type": "input_image", "image_url": IMAGE_URL, "detail": "low"},
                ],
            }
        ],
    )
    assert response.output_text == ANSWER
    assert response.usage is not None
    assert response.usage.input_tokens == 14 + 85


@answers(2)
def test_the_asynchronous_client(stack: Stack) -> None:
    async def session() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{stack.gateway_url}/v1", api_key="unused") as client:
            whole = await client.responses.create(model="auto", input=SHORT)
            async with client.responses.stream(model="auto", input=SHORT) as stream:
                streamed = await stream.get_final_response()
            return whole.output_text, streamed.output_text

    assert asyncio.run(session()) == (ANSWER, ANSWER)


@answers(0)
def test_what_needs_answers_that_the_provider_keeps_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="auto", input=SHORT, previous_response_id="resp_1")
    assert refused.value.param == "previous_response_id"
    assert "send the whole conversation" in refused.value.message


@answers(0)
def test_a_built_in_tool_is_refused_by_name(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="auto", input=SHORT, tools=[WEATHER, {"type": "web_search"}])
    assert refused.value.param == "tools[1].type"
    assert "web_search" in refused.value.message


@answers(0)
def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="gpt-9", input=SHORT)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as without_input:
        client.responses.create(model="auto")
    assert without_input.value.param == "input"
    ill_typed: Any = [{"role": "user", "content": 5}]
    with pytest.raises(openai.BadRequestError) as streamed:
        client.responses.create(model="auto", input=ill_typed, stream=True)
    assert streamed.value.param == "input[0].content"


def assert_calls_both(calls: Sequence[ResponseFunctionToolCall]) -> None:
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    assert len({call.call_id for call in calls}) == 2
    assert set(json.loads(calls[0].arguments)) == {"city", "unit", "days"}
    assert set(json.loads(calls[1].arguments)) == {"zone"}


def assert_adds_up(usage: ResponseUsage | None) -> None:
    assert usage is not None
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens_details.cached_tokens <= usage.input_tokens
    assert usage.output_tokens_details.reasoning_tokens <= usage.output_tokens
