"""Anthropic's official client, changed in nothing but its base URL: the Messages API, with both models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import anthropic
import pytest
from anthropic.types import ContentBlock, MessageParam, ToolParam, ToolUseBlock, Usage

from tests.clients.accounting import answers, counted_exactly
from tests.clients.samples import PNG, TIME_SCHEMA, WEATHER_SCHEMA, City
from tests.support.stack import LONG, SHORT, Stack

USER: list[MessageParam] = [{"role": "user", "content": SHORT}]
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": WEATHER_SCHEMA,
}
TIME: ToolParam = {"name": "get_time", "input_schema": TIME_SCHEMA}
ANSWERS = {
    "CheapModel": "CheapModel: What is the capital of …",
    "ExpensiveModel": "ExpensiveModel: What is the capital of France?",
}


@pytest.fixture(autouse=True)
def counted(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    with counted_exactly(stack, request):
        yield


@pytest.fixture
def client(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.gateway_url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(params=["auto", "ExpensiveModel"])
def model(request: pytest.FixtureRequest) -> str:
    """The session once with the cheap model, which the length chooses, and once with the expensive one."""
    return str(request.param)


def answering(model: str) -> str:
    return "CheapModel" if model == "auto" else model


def test_a_message(client: anthropic.Anthropic, model: str) -> None:
    message = client.messages.create(model=model, max_tokens=100, messages=USER)
    assert message.role == "assistant"
    assert message.model == answering(model)
    assert text_of(message.content) == ANSWERS[answering(model)]
    assert message.stop_reason == "end_turn"
    assert_adds_up(message.usage, input_tokens=14)


def test_the_expensive_model_by_length(client: anthropic.Anthropic) -> None:
    message = client.messages.create(
        model="auto", max_tokens=100, messages=[{"role": "user", "content": LONG}]
    )
    assert message.model == "ExpensiveModel"


def test_a_system_prompt_costs_tokens_but_does_not_choose_the_model(
    client: anthropic.Anthropic, model: str
) -> None:
    message = client.messages.create(
        model=model,
        max_tokens=100,
        system=[{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}],
        messages=USER,
    )
    assert message.model == answering(model)
    assert text_of(message.content) == ANSWERS[answering(model)]
    assert message.usage.input_tokens > 40


def test_a_stream(client: anthropic.Anthropic, model: str) -> None:
    with client.messages.stream(model=model, max_tokens=100, messages=USER) as stream:
        pieces = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(message.content) == ANSWERS[answering(model)]
    assert message.model == answering(model)
    assert message.stop_reason == "end_turn"
    assert_adds_up(message.usage, input_tokens=14)


def test_a_stream_of_plain_events(client: anthropic.Anthropic, model: str) -> None:
    with client.messages.create(model=model, max_tokens=100, messages=USER, stream=True) as stream:
        types = [event.type for event in stream]
    assert types[:2] == ["message_start", "content_block_start"]
    assert types[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(types[2:-3]) == {"content_block_delta"}


@answers(2)
def test_a_limit_on_tokens_whole_and_streamed(client: anthropic.Anthropic, model: str) -> None:
    whole = client.messages.create(model=model, max_tokens=3, messages=USER)
    with client.messages.stream(model=model, max_tokens=3, messages=USER) as stream:
        streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert message.stop_reason == "max_tokens"
        assert message.usage.output_tokens == 3


@answers(2)
def test_parallel_tool_calls_and_a_second_turn_with_what_they_gave(
    client: anthropic.Anthropic, model: str
) -> None:
    first = client.messages.create(
        model=model,
        max_tokens=1000,
        messages=USER,
        tools=[WEATHER, TIME],
        tool_choice={"type": "any", "disable_parallel_tool_use": False},
    )
    assert first.stop_reason == "tool_use"
    calls = tool_uses(first.content)
    assert_calls_both(calls)
    second = client.messages.create(
        model=model,
        max_tokens=1000,
        messages=[
            *USER,
            {"role": "assistant", "content": first.content},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": calls[0].id, "content": "17 degrees"},
                    {
                        "type": "tool_result",
                        "tool_use_id": calls[1].id,
                        "content": [{"type": "text", "text": "no such zone"}],
                        "is_error": True,
                    },
                ],
            },
        ],
        tools=[WEATHER, TIME],
    )
    assert second.stop_reason == "end_turn"
    assert text_of(second.content)
    assert_adds_up(first.usage)
    assert second.usage.input_tokens > first.usage.input_tokens


def test_parallel_tool_calls_whose_arguments_are_streamed(client: anthropic.Anthropic, model: str) -> None:
    pieces: dict[int, list[str]] = {}
    with client.messages.stream(
        model=model,
        max_tokens=1000,
        messages=USER,
        tools=[WEATHER, TIME],
        tool_choice={"type": "any", "disable_parallel_tool_use": False},
    ) as stream:
        for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                pieces.setdefault(event.index, []).append(event.delta.partial_json)
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    assert_calls_both(tool_uses(message.content))
    assert len(pieces) == 2
    assert all(len(parts) > 1 for parts in pieces.values())
    assert_adds_up(message.usage)


def test_a_forced_tool_call(client: anthropic.Anthropic, model: str) -> None:
    message = client.messages.create(
        model=model,
        max_tokens=1000,
        messages=USER,
        tools=[WEATHER, TIME],
        tool_choice={"type": "tool", "name": "get_time"},
    )
    (call,) = tool_uses(message.content)
    assert call.name == "get_time"
    assert set(call.input) == {"zone"}
    assert message.stop_reason == "tool_use"


@answers(2)
def test_structured_output_by_a_schema_whole_and_streamed(client: anthropic.Anthropic, model: str) -> None:
    whole = client.messages.parse(model=model, max_tokens=1000, messages=USER, output_format=City)
    with client.messages.stream(model=model, max_tokens=1000, messages=USER, output_format=City) as stream:
        streamed = stream.get_final_message()
    assert isinstance(whole.parsed_output, City)
    assert streamed.parsed_output == whole.parsed_output
    assert_adds_up(whole.usage)
    assert_adds_up(streamed.usage)


def test_an_image(client: anthropic.Anthropic, model: str) -> None:
    message = client.messages.create(
        model=model,
        max_tokens=100,
        messages=[
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                    },
                    {"type": "text", "text": SHORT},
                ],
            }
        ],
    )
    assert text_of(message.content) == ANSWERS[answering(model)]
    assert_adds_up(message.usage, input_tokens=14 + 85)


@answers(0)
def test_counting_tokens_costs_nothing(client: anthropic.Anthropic, model: str) -> None:
    short = client.messages.count_tokens(model=model, messages=USER)
    long = client.messages.count_tokens(
        model=model, system=LONG, messages=USER, tools=[WEATHER], tool_choice={"type": "auto"}
    )
    assert short.input_tokens == 14
    assert long.input_tokens > short.input_tokens + len(LONG) / 4


@answers(2)
def test_the_asynchronous_client(stack: Stack, model: str) -> None:
    async def session() -> tuple[str, str]:
        async with anthropic.AsyncAnthropic(base_url=stack.gateway_url, api_key="unused") as client:
            whole = await client.messages.create(model=model, max_tokens=100, messages=USER)
            async with client.messages.stream(model=model, max_tokens=100, messages=USER) as stream:
                streamed = await stream.get_final_message()
            return text_of(whole.content), text_of(streamed.content)

    assert asyncio.run(session()) == (ANSWERS[answering(model)], ANSWERS[answering(model)])


@answers(0)
def test_an_unknown_model_is_an_error_in_anthropics_shape(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(model="claude-9", max_tokens=100, messages=USER)
    assert body_of(refused.value)["type"] == "error"
    assert body_of(refused.value)["error"]["type"] == "not_found_error"
    assert "model" in body_of(refused.value)["error"]["message"]


@answers(0)
def test_bad_input_is_an_error_in_anthropics_shape_that_names_the_field(client: anthropic.Anthropic) -> None:
    ill_typed: Any = [{"role": "user", "content": 5}]
    with pytest.raises(anthropic.BadRequestError) as empty:
        client.messages.create(model="auto", max_tokens=100, messages=[])
    assert body_of(empty.value)["error"]["type"] == "invalid_request_error"
    assert "messages" in body_of(empty.value)["error"]["message"]
    with pytest.raises(anthropic.BadRequestError) as whole:
        client.messages.create(model="auto", max_tokens=100, messages=ill_typed)
    with pytest.raises(anthropic.BadRequestError) as streamed:
        client.messages.create(model="auto", max_tokens=100, messages=ill_typed, stream=True)
    with pytest.raises(anthropic.BadRequestError) as counting:
        client.messages.count_tokens(model="auto", messages=ill_typed)
    for refused in (whole, streamed, counting):
        assert body_of(refused.value)["type"] == "error"
        assert "messages[0].content" in body_of(refused.value)["error"]["message"]


@answers(0)
def test_a_server_tool_is_refused_by_name(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(
            model="auto",
            max_tokens=100,
            messages=USER,
            tools=[WEATHER, {"type": "web_search_20250305", "name": "web_search"}],
        )
    assert "web_search_20250305" in body_of(refused.value)["error"]["message"]


def text_of(content: Sequence[ContentBlock]) -> str:
    return "".join(block.text for block in content if block.type == "text")


def tool_uses(content: Sequence[ContentBlock]) -> list[ToolUseBlock]:
    return [block for block in content if block.type == "tool_use"]


def assert_calls_both(calls: Sequence[ToolUseBlock]) -> None:
    assert [call.name for call in calls] == ["get_weather", "get_time"]
    assert len({call.id for call in calls}) == 2
    assert set(calls[0].input) == {"city", "unit", "days"}
    assert set(calls[1].input) == {"zone"}


def assert_adds_up(usage: Usage, input_tokens: int | None = None) -> None:
    """Anthropic's `usage` has no total; the three disjoint kinds of input make the whole prompt."""
    read, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    assert read is not None
    assert written is not None
    assert usage.output_tokens > 0
    if input_tokens is None:
        assert usage.input_tokens + read + written > 0
    else:
        assert usage.input_tokens + read + written == input_tokens


def body_of(error: anthropic.APIStatusError) -> Any:
    return error.body
