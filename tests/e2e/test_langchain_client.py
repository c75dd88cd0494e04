"""langchain-openai, changed in nothing but its base URL: chat by both of OpenAI's APIs, and embeddings."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.tools import BaseTool, tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.clients.accounting import answers, counted_exactly
from tests.clients.samples import IMAGE_URL, City
from tests.support.stack import LONG, SHORT, Stack

ANSWER = "CheapModel: What is the capital of …"
APIS = pytest.mark.parametrize("api", ["chat completions", "responses"])


@tool
def get_weather(city: str, unit: str, days: int) -> str:
    """The weather of a city."""
    return f"17 {unit} in {city}, for {days} days"


@tool
def get_time(zone: str) -> str:
    """The time in a zone."""
    return f"noon in {zone}"


TOOLS: dict[str, BaseTool] = {"get_weather": get_weather, "get_time": get_time}


@pytest.fixture(autouse=True)
def counted(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    with counted_exactly(stack, request):
        yield


@pytest.fixture(scope="module", autouse=True)
def closed_at_the_end(stack: Stack) -> Iterator[None]:
    yield
    # All models of one base URL share one pool, which is never closed else.
    chat_model(stack, "chat completions").root_client.close()


@pytest.fixture
def api() -> str:
    return "chat completions"


@pytest.fixture
def chat(stack: Stack, api: str) -> ChatOpenAI:
    return chat_model(stack, api)


def chat_model(stack: Stack, api: str, model: str = "auto") -> ChatOpenAI:
    return ChatOpenAI(
        model=model,
        base_url=f"{stack.gateway_url}/v1",
        api_key="unused",  # type: ignore[arg-type]  # the plugin that knows pydantic's coercion is not used
        use_responses_api=api == "responses",
        stream_usage=True,
    )


@APIS
def test_an_answer(chat: ChatOpenAI) -> None:
    message = chat.invoke([SystemMessage("Be brief."), HumanMessage(SHORT)])
    assert message.text == ANSWER
    assert message.response_metadata["model_name"] == "CheapModel"
    assert_adds_up(message)


@APIS
@answers(2)
def test_the_expensive_model_by_length_and_by_name(stack: Stack, chat: ChatOpenAI, api: str) -> None:
    assert chat.invoke(LONG).response_metadata["model_name"] == "ExpensiveModel"
    named = chat_model(stack, api, model="ExpensiveModel")
    assert named.invoke(SHORT).response_metadata["model_name"] == "ExpensiveModel"


@APIS
def test_a_stream_with_usage(chat: ChatOpenAI) -> None:
    chunks = list(chat.stream(SHORT))
    whole = added_up(chunks)
    assert len(chunks) > 2
    assert whole.text == ANSWER
    assert_adds_up(whole)
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["input_tokens"] == 14


def test_a_stream_without_usage(chat: ChatOpenAI) -> None:
    whole = added_up(list(chat.stream(SHORT, stream_usage=False)))
    assert whole.text == ANSWER
    assert whole.usage_metadata is None


@APIS
def test_parallel_tool_calls(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools([get_weather, get_time], tool_choice="any", parallel_tool_calls=True)
    message = bound.invoke(SHORT)
    assert isinstance(message, AIMessage)
    assert_calls_both(message.tool_calls)
    assert message.invalid_tool_calls == []
    assert_adds_up(message)


@APIS
def test_parallel_tool_calls_whose_arguments_are_streamed(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools([get_weather, get_time], tool_choice="any", parallel_tool_calls=True)
    chunks = [chunk for chunk in bound.stream(SHORT) if isinstance(chunk, AIMessageChunk)]
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks if piece["args"]]
    assert len(pieces) > 2
    whole = added_up(chunks)
    assert_calls_both(whole.tool_calls)
    assert_adds_up(whole)


@APIS
@answers(2)
def test_a_loop_of_tools_until_the_model_answers_in_words(chat: ChatOpenAI) -> None:
    conversation: list[BaseMessage] = [HumanMessage(SHORT)]
    bound = chat.bind_tools([get_weather, get_time], tool_choice="any", parallel_tool_calls=True)
    message = bound.invoke(conversation)
    while isinstance(message, AIMessage) and message.tool_calls:
        conversation.append(message)
        for call in message.tool_calls:
            result = TOOLS[call["name"]].invoke(call)
            assert isinstance(result, ToolMessage)
            assert result.status == "success"
            conversation.append(result)
        message = chat.bind_tools([get_weather, get_time]).invoke(conversation)
    assert len(conversation) == 4
    assert message.text


@APIS
def test_structured_output_by_a_schema(chat: ChatOpenAI) -> None:
    answer: Any = chat.with_structured_output(City, include_raw=True).invoke(SHORT)
    assert answer["parsing_error"] is None
    assert isinstance(answer["parsed"], City)
    assert_adds_up(answer["raw"])


def test_structured_output_by_a_tool(chat: ChatOpenAI) -> None:
    answer = chat.with_structured_output(City, method="function_calling").invoke(SHORT)
    assert isinstance(answer, City)


@APIS
def test_an_image(chat: ChatOpenAI) -> None:
    message = chat.invoke(
        [
            HumanMessage(
                [
                    {"type": "text", "text": SHORT},
                    {"type": "image_url", "image_url": {"url": IMAGE_URL}},
                ]
            )
        ]
    )
    assert message.text == ANSWER
    assert message.usage_metadata is not None
    assert message.usage_metadata["input_tokens"] == 14 + 85


@answers(4)
def test_the_asynchronous_calls(stack: Stack) -> None:
    models = [chat_model(stack, api) for api in ("chat completions", "responses")]

    async def session() -> list[AIMessage]:
        messages: list[AIMessage] = []
        for model in models:
            messages.append(await model.ainvoke(SHORT))
            messages.append(added_up([chunk async for chunk in model.astream(SHORT)]))
        await models[0].root_async_client.close()
        return messages

    for message in asyncio.run(session()):
        assert message.text == ANSWER
        assert_adds_up(message)


@answers(2)
def test_embeddings_of_documents_and_of_a_query(stack: Stack) -> None:
    # Else it would fetch a tokenizer, to cut long texts by tokens.
    embeddings = OpenAIEmbeddings(
        model="auto",
        base_url=f"{stack.gateway_url}/v1",
        api_key="unused",  # type: ignore[arg-type]
        check_embedding_ctx_length=False,
    )
    documents = embeddings.embed_documents([SHORT, LONG])
    query = embeddings.embed_query(LONG)
    assert query == pytest.approx(documents[1], abs=1e-6)
    assert query != pytest.approx(documents[0], abs=1e-2)
    assert math.hypot(*query) == pytest.approx(1, abs=1e-5)


@APIS
@answers(0)
def test_errors_are_the_clients_own(stack: Stack, chat: ChatOpenAI, api: str) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        chat_model(stack, api, model="gpt-9").invoke(SHORT)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        chat.invoke([])
    assert refused.value.param == ("messages" if api == "chat completions" else "input")


def added_up(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    first, *others = chunks
    return first + others if others else first


def assert_calls_both(calls: list[ToolCall]) -> None:
    assert [call["name"] for call in calls] == ["get_weather", "get_time"]
    assert len({call["id"] for call in calls}) == 2
    assert set(calls[0]["args"]) == {"city", "unit", "days"}
    assert set(calls[1]["args"]) == {"zone"}


def assert_adds_up(message: BaseMessage) -> None:
    assert isinstance(message, AIMessage)
    usage = message.usage_metadata
    assert usage is not None
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
