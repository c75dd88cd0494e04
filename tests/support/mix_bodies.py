"""Bodies of requests of mixed kind: the same conversations in whichever API."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

LONG_CHARACTERS = 4200
CACHED_CHARACTERS = 4000  # a little less than the 1,024 tokens from which on the mocks cache
IMAGE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
LIMIT = 5
CHOICES = 3
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}},
    "required": ["answer", "sure"],
    "additionalProperties": False,
}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "its name in English"}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTIONS = {"get_weather": "The weather of a city now.", "get_population": "How many people live in a city."}
FORCED = "get_population"


@dataclass(frozen=True)
class Asked:
    """What is asked, in no API's words. `turns` are the user's and the assistant's texts in turn, the user's
    last; `feature` is what else is wished for."""

    feature: str
    system: str | None
    turns: tuple[str, ...]

    @property
    def question(self) -> str:
        return self.turns[-1]

    @property
    def may_be_cached(self) -> bool:
        """Whether a mock may take all but the question from its cache."""
        earlier = [self.system or "", *self.turns[:-1]]
        return any(earlier) and sum(map(len, [*earlier, self.question])) >= CACHED_CHARACTERS


# How often each is wished for where an API has it.
FEATURES = {
    "text": 34,
    "conversation": 16,
    "long": 6,
    "tool": 10,
    "tools": 6,
    "schema": 8,
    "image": 8,
    "limit": 6,
    "choices": 6,
}


def ask(rng: random.Random, feature: str, prompts: list[str]) -> Asked:
    """A question of the given kind, made of real ones."""
    if feature == "long":
        system = ""
        while len(system) <= LONG_CHARACTERS:
            system += rng.choice(prompts) + "\n\n"
        return Asked(feature, system, (rng.choice(prompts),))
    if feature == "conversation":
        turns = tuple(rng.choice(prompts) for _ in range(rng.choice((3, 5))))
        return Asked(feature, rng.choice(("Answer briefly.", None)), turns)
    return Asked(feature, None, (rng.choice(prompts),))


def chat_body(asked: Asked) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": _messages(asked)}
    if asked.system is not None:
        body["messages"].insert(0, {"role": "system", "content": asked.system})
    if asked.feature in ("tool", "tools"):
        body["tools"] = [{"type": "function", "function": function} for function in _functions("parameters")]
    match asked.feature:
        case "tool":
            body["tool_choice"] = {"type": "function", "function": {"name": FORCED}}
        case "tools":
            body |= {"tool_choice": "required", "parallel_tool_calls": True}
        case "schema":
            described = {"name": "answer", "schema": SCHEMA, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        case "image":
            image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}
            body["messages"][-1]["content"] = [{"type": "text", "text": asked.question}, image]
        case "limit":
            body["max_completion_tokens"] = LIMIT
        case "choices":
            body["n"] = CHOICES
    return body


def responses_body(asked: Asked) -> dict[str, Any]:
    messages = _messages(asked)
    body: dict[str, Any] = {"input": messages if len(messages) > 1 else asked.question}
    if asked.system is not None:
        body["instructions"] = asked.system
    if asked.feature in ("tool", "tools"):
        body["tools"] = [{"type": "function", **function} for function in _functions("parameters")]
    match asked.feature:
        case "tool":
            body["tool_choice"] = {"type": "function", "name": FORCED}
        case "tools":
            body |= {"tool_choice": "required", "parallel_tool_calls": True}
        case "schema":
            form = {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}
            body["text"] = {"format": form}
        case "image":
            image = {"type": "input_image", "image_url": f"data:image/png;base64,{IMAGE}", "detail": "low"}
            text = {"type": "input_text", "text": asked.question}
            body["input"] = [{"role": "user", "content": [text, image]}]
        case "limit":
            body["max_output_tokens"] = LIMIT
    return body


def messages_body(asked: Asked) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": _messages(asked), "max_tokens": 1000}
    if asked.system is not None:
        body["system"] = asked.system
    if asked.feature in ("tool", "tools"):
        body["tools"] = _functions("input_schema")
    match asked.feature:
        case "tool":
            body["tool_choice"] = {"type": "tool", "name": FORCED}
        case "tools":
            body["tool_choice"] = {"type": "any", "disable_parallel_tool_use": False}
        case "schema":
            body["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
        case "image":
            source = {"type": "base64", "media_type": "image/png", "data": IMAGE}
            text = {"type": "text", "text": asked.question}
            body["messages"][-1]["content"] = [text, {"type": "image", "source": source}]
        case "limit":
            body["max_tokens"] = LIMIT
    return body


def completions_body(asked: Asked) -> dict[str, Any]:
    match asked.feature:
        case "limit":
            return {"prompt": asked.question, "max_tokens": LIMIT}
        case "choices":
            return {"prompt": asked.question, "n": CHOICES, "max_tokens": 100}
        case "conversation":
            return {"prompt": list(asked.turns), "max_tokens": 100}
    return {"prompt": asked.question, "max_tokens": 100}


def embeddings_body(asked: Asked) -> dict[str, Any]:
    return {"input": list(asked.turns) if len(asked.turns) > 1 else asked.question}


def _messages(asked: Asked) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": text} for index, text in enumerate(asked.turns)]


def _functions(schema_name: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "description": description, schema_name: CITY}
        for name, description in FUNCTIONS.items()
    ]
