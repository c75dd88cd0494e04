"""Legacy completions of the mocks."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types import Completion

from cheap_model.app import PROFILE as CHEAP
from expensive_model.app import PROFILE as EXPENSIVE
from model_server.app import create_app
from model_server.config import Settings
from model_server.profile import ModelProfile

URL = "/v1/completions"
FAST = Settings(first_token_seconds=0, token_interval_seconds=0)


def client_of(profile: ModelProfile = CHEAP) -> FlaskClient:
    return create_app(profile, FAST).test_client()


def ask(prompt: object, profile: ModelProfile = CHEAP, **fields: Any) -> Completion:
    response = client_of(profile).post(URL, json={"prompt": prompt, **fields})
    assert response.status_code == 200, response.data
    return Completion.model_validate(response.json)


def test_a_completion_has_openais_shape() -> None:
    body = client_of().post(URL, json={"prompt": "Hello", "model": "whatever"}).json
    assert body is not None
    assert body["id"].startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["model"] == "CheapModel"
    assert body["choices"] == [
        {"text": "CheapModel: Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (2, 5, 7)


def test_each_prompt_has_its_own_choices() -> None:
    answer = ask(["One", "Two"], n=2)
    assert [(choice.index, choice.text) for choice in answer.choices] == [
        (0, "CheapModel: One"),
        (1, "CheapModel: One (2)"),
        (2, "CheapModel: Two"),
        (3, "CheapModel: Two (2)"),
    ]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 2
    assert answer.usage.completion_tokens == 4 + 5 + 4 + 5


@pytest.mark.parametrize(
    ("prompt", "texts", "tokens"),
    [
        ([1, 22, 333], ["1 22 333"], 3),
        ([[1], [2, 3]], ["1", "2 3"], 3),
        ("", [""], 0),
    ],
)
def test_token_ids_and_nothing_are_prompts_too(prompt: object, texts: list[str], tokens: int) -> None:
    answer = ask(prompt)
    assert [choice.text for choice in answer.choices] == [f"CheapModel: {text}" for text in texts]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == tokens


@pytest.mark.parametrize(
    ("fields", "text", "reason"),
    [
        ({"max_tokens": 2}, "CheapMod", "length"),
        ({"max_tokens": 0}, "", "length"),
        ({"stop": "lo"}, "CheapModel: Hel", "stop"),
        ({"suffix": "!", "echo": True, "best_of": 1, "logprobs": None}, "CheapModel: Hello", "stop"),
    ],
)
def test_limits_and_stops_end_the_text(fields: dict[str, Any], text: str, reason: str) -> None:
    [choice] = ask("Hello", **fields).choices
    assert (choice.text, choice.finish_reason) == (text, reason)


def test_without_a_limit_it_is_openais_sixteen_tokens() -> None:
    [choice] = ask("x" * 200, EXPENSIVE).choices
    assert (len(choice.text), choice.finish_reason) == (64, "length")


@pytest.mark.parametrize("include_usage", [False, True])
def test_the_chunks_of_a_stream_add_up_to_the_whole_answer(include_usage: bool) -> None:
    body: dict[str, Any] = {"prompt": ["One", "Two"], "n": 2}
    whole = ask(body["prompt"], n=2)
    body |= {"stream": True, "stream_options": {"include_usage": include_usage}}
    events = client_of().post(URL, json=body).text.removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    if include_usage:
        last = chunks.pop()
        assert whole.usage is not None
        assert (last["choices"], last["usage"]) == ([], whole.usage.model_dump(exclude_unset=True))
        assert all(chunk["usage"] is None for chunk in chunks)
    else:
        assert not any("usage" in chunk for chunk in chunks)
    for choice in whole.choices:
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice.index]
        assert "".join(piece["text"] for piece in own) == choice.text
        assert [piece["finish_reason"] for piece in own] == [None] * (len(own) - 1) + ["stop"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {"text": "x"}}, "prompt"),
        ({"prompt": ["x", 1]}, "prompt[0]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": [[1], [True]]}, "prompt[1]"),
        ({"prompt": [[-1]]}, "prompt[0]"),
        ({"prompt": ["x"] * 2049}, "prompt"),
        ({"prompt": ["x"] * 65, "n": 2}, "n"),
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens"),
        ({"prompt": "x", "stop": 1}, "stop"),
        ({"prompt": "x", "temperature": 3}, "temperature"),
        ({"prompt": "x", "model": 1}, "model"),
        ({"prompt": "x", "stream_options": {}}, "stream_options"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, Any], param: str) -> None:
    response = client_of().post(URL, json=body)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"]["param"] == param
