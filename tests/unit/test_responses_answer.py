"""What a client of OpenAI's Responses gets for a whole chat completion."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from gateway.billing import Usage
from gateway.errors import UpstreamError, UpstreamTimeout
from gateway.translation.responses_answer import ResponsesTranslator

USAGE = Usage(100, 40, 20, cache_write_tokens=10, reasoning_tokens=5)
COST = Decimal("0.00125")
NOW = 1_700_000_000.5


def translator(**values: Any) -> ResponsesTranslator:
    return ResponsesTranslator({"input": "Hello", **values}, clock=lambda: NOW)


def answered(message: object, finish_reason: object = "stop", **choice: Any) -> dict[str, Any]:
    completion = {
        "model": "gpt-test",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason, **choice}],
    }
    response: dict[str, Any] = json.loads(translator().whole(completion, USAGE, COST))
    Response.model_validate(response)
    return response


def output(message: object, finish_reason: object = "stop", **choice: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answered(message, finish_reason, **choice)["output"]
    return found


def call(call_id: object = "call_1", name: object = "f", arguments: object = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_text_is_a_message() -> None:
    response = answered({"role": "assistant", "content": "Héllo 😀"})
    (message,) = response["output"]
    assert message.pop("id").startswith("msg_")
    assert message == {
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Héllo 😀", "annotations": [], "logprobs": []}],
    }
    assert response["status"] == "completed"
    assert response["completed_at"] == response["created_at"] == int(NOW)
    assert response["model"] == "gpt-test"
    assert response["object"] == "response"
    assert response["id"].startswith("resp_")


def test_the_usage_is_the_gateways_with_its_cost() -> None:
    assert answered({"content": "Hello"})["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
        "cost": 0.00125,
    }


def test_calls_are_items_of_their_own_behind_the_text() -> None:
    items = output(
        {"content": "Let me see", "tool_calls": [call("a"), call("b", "g", '{"x":1}')]}, "tool_calls"
    )
    assert [item["type"] for item in items] == ["message", "function_call", "function_call"]
    assert items[2].pop("id").startswith("fc_")
    assert items[2] == {
        "type": "function_call",
        "status": "completed",
        "call_id": "b",
        "name": "g",
        "arguments": '{"x":1}',
    }


def test_a_call_of_a_custom_tool_is_one() -> None:
    made = {"id": "c", "type": "custom", "custom": {"name": "sh", "input": "ls\n"}}
    (item,) = output({"content": None, "tool_calls": [made]}, "tool_calls")
    assert item.pop("id").startswith("ctc_")
    assert item == {
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": "c",
        "name": "sh",
        "input": "ls\n",
    }


def test_a_refusal_is_a_part_of_the_message() -> None:
    (message,) = output({"content": None, "refusal": "No."})
    assert message["content"] == [{"type": "refusal", "refusal": "No."}]


def test_a_legacy_function_call_is_a_call() -> None:
    (item,) = output({"content": "", "function_call": {"name": "f", "arguments": "{}"}}, "function_call")
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "f", "{}")
    assert item["call_id"].startswith("call_")


@pytest.mark.parametrize("ids", [("a", "a"), ("", ""), (None, 7)])
def test_every_call_has_an_id_of_its_own(ids: tuple[object, object]) -> None:
    items = output({"tool_calls": [call(ids[0]), call(ids[1])]})
    assert len(items) == 2
    assert items[0]["call_id"] != items[1]["call_id"]


def test_arguments_given_as_an_object_become_its_text() -> None:
    (item,) = output({"tool_calls": [call(arguments={"é": [1]})]})
    assert item["arguments"] == '{"é":[1]}'


@pytest.mark.parametrize("arguments", ["", None, {}])
def test_a_call_without_arguments_gets_an_empty_object(arguments: object) -> None:
    (item,) = output({"tool_calls": [call(arguments=arguments)]}, "tool_calls")
    assert (item["status"], item["arguments"]) == ("completed", "{}")


def test_a_call_that_was_cut_before_its_arguments_keeps_none() -> None:
    (item,) = output({"tool_calls": [call(arguments="")]}, "length")
    assert (item["status"], item["arguments"]) == ("incomplete", "")


def test_of_a_list_of_parts_the_text_is_the_text() -> None:
    parts = [
        {"type": "thinking", "thinking": []},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"},
    ]
    (message,) = output({"content": parts})
    assert message["content"][0]["text"] == "ab"


def test_reasoning_is_dropped() -> None:
    (message,) = output({"reasoning_content": "Hm", "content": "Yes"})
    assert message["type"] == "message"


def test_who_says_nothing_has_no_items() -> None:
    assert output({"role": "assistant", "content": ""}) == []


@pytest.mark.parametrize(
    ("finish_reason", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_cut_short_is_incomplete_and_says_why(finish_reason: str, reason: str) -> None:
    message = {"content": "Hel", "tool_calls": [call("a", arguments="{}"), call("b", arguments='{"x')]}
    response = answered(message, finish_reason)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": reason}
    assert response["completed_at"] is None
    assert [item["status"] for item in response["output"]] == ["completed", "completed", "incomplete"]


def test_a_call_whose_arguments_broke_off_is_incomplete_wherever_it_stands() -> None:
    items = output({"tool_calls": [call("a", arguments='{"x'), call("b")]}, "length")
    assert [item["status"] for item in items] == ["incomplete", "incomplete"]


def test_log_probabilities_come_with_the_text() -> None:
    token = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5}
    special = {"token": "<end>", "bytes": None, "logprob": -1, "top_logprobs": [token, {"token": None}]}
    given = [{**token, "top_logprobs": []}, special, {"token": "x", "logprob": None}, None]
    given.append({"token": "y", "logprob": -math.inf})
    (message,) = output({"content": "Hi"}, logprobs={"content": given})
    assert message["content"][0]["logprobs"] == [
        {**token, "top_logprobs": []},
        {"token": "<end>", "bytes": [], "logprob": -1, "top_logprobs": [token]},
    ]


def test_only_the_first_choice_counts() -> None:
    choices = [{"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}]
    body = json.loads(translator().whole({"choices": choices}, USAGE, COST))
    assert body["output"][0]["content"][0]["text"] == "a"


def test_the_request_is_repeated() -> None:
    values = {
        "model": "CheapModel",
        "instructions": "Be brief.",
        "max_output_tokens": 5,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "tool_choice": {"type": "function", "name": "f"},
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}],
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "reasoning": {"effort": "low"},
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "user": "u",
        "store": True,
    }
    body = json.loads(translator(**values).whole({"choices": [{"message": {}}]}, USAGE, COST))
    Response.model_validate(body)
    assert {name: body[name] for name in values} == {
        **values,
        "reasoning": {"effort": "low", "summary": None},
        "store": False,
    }
    assert body["previous_response_id"] is None
    assert body["error"] is None


def test_a_silent_request_is_repeated_as_what_held() -> None:
    tools = [{"type": "function", "name": "f"}, {"type": "custom", "name": "c"}]
    body = json.loads(translator(tools=tools).whole({"choices": [{"message": {}}]}, USAGE, COST))
    Response.model_validate(body)
    assert body["model"] == "auto"
    assert body["tool_choice"] == "auto"
    assert body["parallel_tool_calls"] is True
    assert body["text"] == {"format": {"type": "text"}}
    assert body["truncation"] == "disabled"
    assert body["metadata"] == {}
    assert body["tools"] == [{**tools[0], "parameters": None, "strict": False}, tools[1]]


@pytest.mark.parametrize("model", [None, "", 1, {}])
def test_a_provider_that_names_no_model_leaves_the_requests(model: object) -> None:
    completion = {"choices": [{"message": {}}], "model": model}
    assert json.loads(translator(model="CheapModel").whole(completion, USAGE, COST))["model"] == "CheapModel"


def test_the_tier_is_the_one_that_served() -> None:
    completion = {"choices": [{"message": {}}], "service_tier": "default"}
    assert (
        json.loads(translator(service_tier="auto").whole(completion, USAGE, COST))["service_tier"]
        == "default"
    )


def test_half_a_surrogate_pair_stays_what_it_was() -> None:
    body = translator().whole({"choices": [{"message": {"content": "a\ud83db"}}]}, USAGE, COST)
    assert json.loads(body.decode())["output"][0]["content"][0]["text"] == "a\ud83db"


@pytest.mark.parametrize(
    "completion",
    [
        {},
        {"choices": None},
        {"choices": []},
        {"choices": {}},
        {"choices": ["a"]},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": "a"}]},
        {"choices": [{"index": 1, "message": {"content": "a"}}]},
        {"choices": [{"message": {"content": 1}}]},
        {"choices": [{"message": {"tool_calls": {}}}]},
        {"choices": [{"message": {"tool_calls": ["a"]}}]},
        {"choices": [{"message": {"tool_calls": [{"function": "a"}]}}]},
        {"choices": [{"message": {"tool_calls": [{"id": "a"}]}}]},
        {"choices": [{"message": {"tool_calls": [call(arguments=1)]}}]},
        {"choices": [{"message": {"content": "a"}, "finish_reason": "error"}]},
        {"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "error": {"code": 502}}]},
    ],
)
def test_what_is_no_completion_is_the_providers_fault(completion: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError):
        translator().whole(completion, USAGE, COST)


def test_an_error_is_flat_as_documented_and_nested_as_the_client_reads_it() -> None:
    event = translator().error(UpstreamTimeout("The provider took too long to answer."))
    name, data, *rest = event.decode().split("\n")
    assert name == "event: error"
    assert rest == ["", ""]
    assert json.loads(data.removeprefix("data: ")) == {
        "type": "error",
        "sequence_number": 0,
        "code": "upstream_timeout",
        "message": "The provider took too long to answer.",
        "param": None,
        "error": {
            "message": "The provider took too long to answer.",
            "type": "server_error",
            "param": None,
            "code": "upstream_timeout",
        },
    }


FIELDS = [
    "index",
    "message",
    "delta",
    "content",
    "refusal",
    "tool_calls",
    "function",
    "custom",
    "name",
    "arguments",
    "id",
    "type",
    "logprobs",
    "token",
    "logprob",
    "finish_reason",
    "text",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=15,
)


@given(JSON, JSON, JSON)
def test_whatever_a_provider_says_is_read_or_its_fault(choice: Any, message: Any, model: Any) -> None:
    if isinstance(choice, dict) and isinstance(message, dict):
        choice = {**choice, "message": message, "index": 0}
    try:
        body = translator().whole({"choices": [choice], "model": model}, USAGE, COST)
    except UpstreamError:
        return
    assert json.loads(body)["object"] == "response"


def test_a_call_of_a_namespace_s_tool_comes_back_by_its_own_name() -> None:
    tool = {"type": "function", "name": "forecast", "parameters": {}}
    weather = {"type": "namespace", "name": "weather", "description": "", "tools": [tool]}
    call = {"id": "c1", "type": "function", "function": {"name": "weather__forecast", "arguments": "{}"}}
    completion = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    response = Response.model_validate_json(translator(tools=[weather]).whole(completion, USAGE, COST))
    (item,) = response.output
    assert item.type == "function_call"
    assert (item.namespace, item.name, item.call_id) == ("weather", "forecast", "c1")
