"""Takes out of an answer the probabilities that only the gateway has asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.apis import Api
from gateway.jsontext import NotJson, parse_object
from gateway.schema.base import objects_of
from gateway.upstream import Answer


def without_probabilities(api: Api, answer: Answer) -> Answer:
    """The answer as it would have been without them; all bytes around them stay where that can be."""
    if api is Api.RESPONSES:
        changes = {"output": [_item_without(item) for item in objects_of(answer.values.get("output"))]}
    else:
        choices = objects_of(answer.values.get("choices"))
        changes = {"choices": [{**choice, "logprobs": None} for choice in choices]}
    values = {**answer.values, **changes}
    try:
        body = parse_object(answer.body).with_values(changes)
    except NotJson:  # read by us, but not by every program
        body = json.dumps(values).encode()
    return replace(answer, body=body, values=values)


def _item_without(item: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(item.get("content"), list):
        return dict(item)
    parts = [
        {**part, "logprobs": []} if isinstance(part, dict) and "logprobs" in part else part
        for part in item["content"]
    ]
    return {**item, "content": parts}
