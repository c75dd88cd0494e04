"""A chat completion as the OpenAI response that the client asked for."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from gateway.apis import Api
from gateway.billing import Usage
from gateway.error_shapes import error_event
from gateway.errors import GatewayError
from gateway.translation.responses_items import Event
from gateway.translation.responses_reading import Said, said_in_chunk, said_in_completion
from gateway.translation.responses_stream import Output
from gateway.translation.responses_tools import tools_in_namespaces

INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponsesTranslator:
    """Of one request, whose parameters `values` the response repeats."""

    def __init__(
        self,
        values: Mapping[str, Any],
        clock: Callable[[], float] = time.time,
    ) -> None:
        token = uuid.uuid4().hex
        self._clock = clock
        self._output = Output(token, tools_in_namespaces(values))
        self._finish_reason = ""
        self._model = values.get("model") or "auto"
        self._service_tier = values.get("service_tier")
        self._sequence_number = 0
        self._fields = {
            "id": f"resp_{token}",
            "object": "response",
            "created_at": int(clock()),
            **_repeated(values),
        }

    def whole(self, completion: dict[str, Any], usage: Usage, cost: Decimal) -> bytes:
        """
        :raises UpstreamError: for what cannot be read as a completion
        """
        self._take(completion, said_in_completion(completion))
        self._output.end(is_whole=self._is_whole)
        return _dump(self._final_response(usage, cost))

    def events(self, chunk: dict[str, Any]) -> bytes:
        """
        :raises UpstreamError: for what cannot be read as a chunk
        """
        events = self._take(chunk, said_in_chunk(chunk))
        return self._encode(self._opening() + events)

    def end(self, usage: Usage, cost: Decimal) -> bytes:
        events = self._opening() + self._output.end(is_whole=self._is_whole)
        response = self._final_response(usage, cost)
        return self._encode([*events, {"type": f"response.{response['status']}", "response": response}])

    def error(self, error: GatewayError) -> bytes:
        return error_event(Api.RESPONSES, error, self._sequence_number)

    @property
    def _is_whole(self) -> bool:
        return self._finish_reason not in INCOMPLETE_REASONS

    def _take(self, answer: dict[str, Any], said: Said) -> list[Event]:
        if isinstance(answer.get("model"), str) and answer["model"]:
            self._model = answer["model"]
        if isinstance(answer.get("service_tier"), str):
            self._service_tier = answer["service_tier"]
        self._finish_reason = said.finish_reason or self._finish_reason
        return self._output.take(said)

    def _opening(self) -> list[Event]:
        if self._sequence_number:
            return []
        response = self._response("in_progress")
        return [
            {"type": "response.created", "response": response},
            {"type": "response.in_progress", "response": response},
        ]

    def _final_response(self, usage: Usage, cost: Decimal) -> dict[str, Any]:
        response = self._response("completed" if self._is_whole else "incomplete")
        response["output"] = self._output.values()
        response["usage"] = _usage_object(usage, cost)
        if self._is_whole:
            response["completed_at"] = int(self._clock())
        else:
            response["incomplete_details"] = {"reason": INCOMPLETE_REASONS[self._finish_reason]}
        return response

    def _response(self, status: str) -> dict[str, Any]:
        return {
            **self._fields,
            "status": status,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": [],
            "service_tier": self._service_tier,
            "usage": None,
        }

    def _encode(self, events: Iterable[Event]) -> bytes:
        encoded = b""
        for event in events:
            numbered = {"type": event["type"], "sequence_number": self._sequence_number, **event}
            encoded += b"event: " + event["type"].encode() + b"\ndata: " + _dump(numbered) + b"\n\n"
            self._sequence_number += 1
        return encoded


def _repeated(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a response says again of its request, with what holds where that is silent."""

    def given(name: str, default: Any = None) -> Any:
        value = values.get(name)
        return default if value is None else value

    return {
        "background": False,
        "instructions": given("instructions"),
        "max_output_tokens": given("max_output_tokens"),
        "max_tool_calls": None,
        "metadata": given("metadata", {}),
        "parallel_tool_calls": given("parallel_tool_calls", True),
        "previous_response_id": None,
        "prompt_cache_key": given("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **given("reasoning", {})},
        "safety_identifier": given("safety_identifier"),
        # Nothing can be fetched by the id of this response, whatever the provider keeps.
        "store": False,
        "temperature": given("temperature"),
        "text": {"format": {"type": "text"}, **_without_nulls(given("text", {}))},
        "tool_choice": given("tool_choice", "auto"),
        "tools": [_repeated_tool(tool) for tool in given("tools", [])],
        "top_logprobs": given("top_logprobs", 0),
        "top_p": given("top_p"),
        "truncation": "disabled",
        "user": given("user"),
    }


def _repeated_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return dict(tool)
    # Clients expect both; chat completions is not strict unless asked to be.
    return {**tool, "parameters": tool.get("parameters"), "strict": tool.get("strict") is True}


def _usage_object(usage: Usage, cost: Decimal) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "cost": float(cost),
    }


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _dump(value: dict[str, Any]) -> bytes:
    # Half a surrogate pair has no UTF-8, but what Python writes for it is JSON's escape of it.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")
