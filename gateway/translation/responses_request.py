"""A request for an OpenAI response as the request for a chat completion that asks the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import InvalidRequest
from gateway.translation.fields import Fields
from gateway.translation.responses_input import chat_messages
from gateway.translation.responses_tools import chat_tools
from gateway.translation.target import ChatTarget

# Chat completions has the same field under the same name.
CARRIED_TEXTS = ("user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier")
CARRIED_NUMBERS = ("temperature", "top_p")
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED_REASONING = "reasoning.encrypted_content"


def chat_from_responses(values: Mapping[str, Any], target: ChatTarget) -> dict[str, Any]:
    """The body of a chat completion, but for its model, that asks for the same.

    :raises InvalidRequest: for what is ill-typed or cannot be translated, with the field in `param`
    """
    request = Fields(values)
    _refuse_memory(values, request)
    chat: dict[str, Any] = {"messages": chat_messages(values, request)}
    chat |= chat_tools(values, request)
    chat |= _carried(request)
    limit = request.take("max_output_tokens", int)
    if limit is not None:
        if limit < 1:
            raise request.ill_typed("max_output_tokens", "a positive integer")
        chat[target.max_tokens_name] = limit
    chat |= _storage(request) | _logprobs(request) | _text(request) | _reasoning(request, target)
    if request.take("stream", bool):
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    _drop_defaults(request)
    request.take("model", str)
    request.drop("client_metadata")  # an agent's own, for OpenAI's statistics
    request.close()
    return chat


def _refuse_memory(values: Mapping[str, Any], request: Fields) -> None:
    if values.get("previous_response_id") is not None:
        raise InvalidRequest(
            "'previous_response_id' cannot be used with this model, whose provider keeps no responses."
            " Send the whole conversation as 'input'.",
            param="previous_response_id",
        )
    # These may stand in for the input, so they are named before a missing input is.
    for name in ("conversation", "prompt"):
        if values.get(name) is not None:
            raise request.untranslatable(name)


def _drop_defaults(request: Fields) -> None:
    """Drop what is asked for as every chat completion is anyway, and refuse the other values."""
    if request.take("background", bool):
        raise request.untranslatable("background")
    if request.take("truncation", str) not in (None, "disabled"):
        raise request.untranslatable("truncation")
    options = request.child("stream_options")
    if options is not None:
        if options.take("include_obfuscation", bool):
            raise options.untranslatable("include_obfuscation")
        options.close()


def _carried(request: Fields) -> dict[str, Any]:
    carried: dict[str, Any] = {name: request.take(name, str) for name in CARRIED_TEXTS}
    carried |= {name: request.number(name) for name in CARRIED_NUMBERS}
    return _without_nulls(carried)


def _storage(request: Fields) -> dict[str, Any]:
    metadata = request.take("metadata", dict)
    if not request.take("store", bool):
        return {}
    # A provider refuses metadata for what it does not keep.
    return {"store": True} if metadata is None else {"store": True, "metadata": metadata}


def _logprobs(request: Fields) -> dict[str, Any]:
    wanted = False
    for index, name in enumerate(request.take("include", list) or ()):
        if not isinstance(name, str):
            raise request.ill_typed(f"include[{index}]", "a string")
        if name == LOGPROBS:
            wanted = True
        elif name != ENCRYPTED_REASONING:
            raise request.untranslatable(f"include[{index}]", name)
    top = request.take("top_logprobs", int)
    if not wanted and not top:
        return {}
    return _without_nulls({"logprobs": True, "top_logprobs": top})


def _text(request: Fields) -> dict[str, Any]:
    text = request.child("text")
    if text is None:
        return {}
    chat = _without_nulls({"verbosity": text.take("verbosity", str)})
    form = text.child("format")
    if form is not None:
        chat |= _response_format(form)
    text.close()
    return chat


def _response_format(form: Fields) -> dict[str, Any]:
    kind = form.need("type", str)
    chat: dict[str, Any] = {}
    if kind == "json_schema":
        schema = {
            "name": form.need("name", str),
            "description": form.take("description", str),
            "schema": form.take("schema", dict),
            "strict": form.take("strict", bool),
        }
        chat = {"response_format": {"type": kind, "json_schema": _without_nulls(schema)}}
    elif kind == "json_object":
        chat = {"response_format": {"type": kind}}
    elif kind != "text":
        raise form.untranslatable("type", kind)
    form.close()
    return chat


def _reasoning(request: Fields, target: ChatTarget) -> dict[str, Any]:
    reasoning = request.child("reasoning")
    if reasoning is None:
        return {}
    effort = reasoning.take("effort", str)
    # A summary is a wish that may stay unmet.
    reasoning.drop("summary", "generate_summary")
    if reasoning.take("context", str) not in (None, "auto"):
        raise reasoning.untranslatable("context")
    if reasoning.take("mode", str) not in (None, "standard"):
        raise reasoning.untranslatable("mode")
    reasoning.close()
    return {"reasoning_effort": effort} if effort is not None and target.reasoning else {}


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
