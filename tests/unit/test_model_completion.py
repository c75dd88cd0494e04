"""What the mocks answer."""

import json
from dataclasses import replace
from typing import Any

import pytest

from cheap_model.app import PROFILE as CHEAP
from expensive_model.app import PROFILE as EXPENSIVE
from model_server.completion import Answer, complete, excerpt_of
from model_server.errors import InvalidRequest
from model_server.profile import ModelProfile
from model_server.reply import render, render_chunks
from model_server.schema import parse_request

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}, "note": {}},
            "required": ["city", "days"],
        },
    },
}


def ask(text: str | None = "Hello there", profile: ModelProfile = CHEAP, **fields: Any) -> Answer:
    role = "system" if text is None else "user"
    messages = [{"role": role, "content": text or "Be brief."}]
    return complete(profile, parse_request(json.dumps({"messages": messages, **fields}).encode()))


@pytest.mark.parametrize(
    ("text", "excerpt"),
    [
        ("  a \n\t b  ", "a b"),
        ("x" * 24, "x" * 24),
        ("x" * 25, "x" * 23 + "…"),
        ("", ""),
    ],
)
def test_an_excerpt_is_one_line_of_bounded_length(text: str, excerpt: str) -> None:
    assert excerpt_of(text, 24) == excerpt


@pytest.mark.parametrize(("profile", "chars"), [(CHEAP, 24), (EXPENSIVE, 92)], ids=["cheap", "expensive"])
def test_a_model_repeats_as_much_as_its_profile_says(profile: ModelProfile, chars: int) -> None:
    [choice] = ask("y" * 500, profile).choices
    assert choice.text == f"{profile.name}: " + "y" * (chars - 1) + "…"
    assert choice.finish_reason == "stop"


def test_without_a_user_message_there_is_nothing_to_repeat() -> None:
    assert ask(None).choices[0].text == "CheapModel: "


def test_several_choices_are_numbered_and_all_billed() -> None:
    answer = ask("Hi", n=3)
    assert [c.text for c in answer.choices] == ["CheapModel: Hi", "CheapModel: Hi (2)", "CheapModel: Hi (3)"]
    assert answer.usage.output_tokens == 4 + 5 + 5


@pytest.mark.parametrize("tokens", [1, 2, 800, 4096])
@pytest.mark.parametrize("profile", [CHEAP, EXPENSIVE], ids=["cheap", "expensive"])
def test_an_answer_of_so_many_tokens_can_be_asked_for(profile: ModelProfile, tokens: int) -> None:
    answer = ask(f"Please [[write {tokens} tokens]] about cats.", profile)
    [choice] = answer.choices
    assert (choice.tokens, choice.finish_reason) == (tokens, "stop")
    assert choice.text.startswith(profile.name[: 4 * tokens])
    assert answer == ask(f"Please [[write {tokens} tokens]] about cats.", profile)


@pytest.mark.parametrize(
    ("wished", "limits", "tokens"),
    [
        (800, {"max_tokens": 300}, 300),
        (800, {"max_tokens": 801}, 800),
        (4097, {}, 4096),
        (999_999_999, {"max_tokens": 1_000_000}, 4096),
        (999_999_999, {"max_tokens": 4095}, 4095),
    ],
)
def test_such_an_answer_is_cut_like_any_other(wished: int, limits: dict[str, Any], tokens: int) -> None:
    [choice] = ask(f"[[write {wished} tokens]]", **limits).choices
    assert (choice.tokens, choice.finish_reason) == (tokens, "length" if tokens < wished else "stop")


def test_only_the_last_user_message_can_ask_for_a_length() -> None:
    messages = [
        {"role": "user", "content": "[[write 50 tokens]]"},
        {"role": "assistant", "content": "[[write 60 tokens]]"},
        {"role": "user", "content": "Hello"},
        {"role": "system", "content": "[[write 70 tokens]]"},
    ]
    body = json.dumps({"messages": messages}).encode()
    assert complete(CHEAP, parse_request(body)).choices[0].text == "CheapModel: Hello"


@pytest.mark.parametrize("text", ["[[write 9 token]]", "[write 9 tokens]", "[[write ten tokens]]"])
def test_what_is_no_such_wish_is_repeated(text: str) -> None:
    assert ask(text).choices[0].text == f"CheapModel: {text}"


def test_each_choice_has_the_length_that_was_asked_for() -> None:
    answer = ask("[[write 20 tokens]]", n=3)
    assert [choice.tokens for choice in answer.choices] == [20] * 3
    assert len({choice.text for choice in answer.choices}) == 3


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": {"type": "json_object"}},
        {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "f", "parameters": {"properties": {"x": {"const": "y" * 40_000}}}},
                }
            ],
            "tool_choice": "required",
        },
        {"n": 2},
    ],
    ids=["json", "tool", "choices"],
)
def test_no_choice_is_longer_than_the_model_can_write(asked: dict[str, Any]) -> None:
    wordy = replace(CHEAP, excerpt_chars=30_000)
    for choice in ask("z" * 30_000, wordy, max_tokens=100_000, **asked).choices:
        assert (choice.tokens, choice.finish_reason) == (4096, "length")


@pytest.mark.parametrize(
    ("limits", "text", "reason"),
    [
        ({"max_tokens": 2}, "CheapMod", "length"),
        ({"max_tokens": 9, "max_completion_tokens": 2}, "CheapMod", "length"),
        ({"max_tokens": 2, "max_completion_tokens": 9}, "CheapModel: Hello there", "stop"),
        ({"max_tokens": 6}, "CheapModel: Hello there", "stop"),
        ({"stop": "lo"}, "CheapModel: Hel", "stop"),
        ({"stop": ["there", "Hello"]}, "CheapModel: ", "stop"),
        ({"stop": ["nowhere", ""]}, "CheapModel: Hello there", "stop"),
        ({"stop": "there", "max_tokens": 1}, "Chea", "length"),
        ({"max_tokens": None, "stop": None, "n": None, "tools": None}, "CheapModel: Hello there", "stop"),
    ],
)
def test_limits_and_stops_end_the_text(limits: dict[str, Any], text: str, reason: str) -> None:
    [choice] = ask(**limits).choices
    assert (choice.text, choice.finish_reason) == (text, reason)


def test_json_mode_answers_an_object() -> None:
    [choice] = ask(response_format={"type": "json_object"}).choices
    assert json.loads(choice.text) == {"model": "CheapModel", "answer": "Hello there"}


def test_a_json_schema_is_met() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}, "why": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    [choice] = ask(response_format=form).choices
    assert json.loads(choice.text) == {"ok": True, "why": "Hello there"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_forced_function_is_called_with_fitting_arguments(choice: object) -> None:
    first, again = (ask(tools=[WEATHER], tool_choice=choice).choices[0] for _ in range(2))
    assert first == again
    assert first.finish_reason == "tool_calls"
    assert first.tool_call is not None
    assert first.tool_call.id.startswith("call_")
    assert first.tool_call.name == "get_weather"
    assert json.loads(first.tool_call.arguments) == {"city": "Hello there", "days": 3}
    assert first.tokens == 3 + -(-len(first.tool_call.arguments) // 4)


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_an_unforced_tool_is_not_called(choice: str | None) -> None:
    [only] = ask(tools=[WEATHER], tool_choice=choice).choices
    assert only.tool_call is None
    assert only.text == "CheapModel: Hello there"


def test_a_tool_call_obeys_the_token_limit() -> None:
    answer = ask(tools=[WEATHER], tool_choice="required", max_tokens=5)
    assert answer.usage.output_tokens == 5
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tools": [WEATHER], "tool_choice": "sometimes"},
        {"tools": [WEATHER], "tool_choice": ["auto"]},
    ],
)
def test_a_tool_choice_that_cannot_be_met_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(**fields)
    assert str(refused.value.param).startswith("tool_choice")


def test_the_same_request_gets_the_same_bytes_but_for_id_and_time() -> None:
    bodies = [json.loads(render(ask("é", n=2))) for _ in range(2)]
    ids = {body.pop("id") for body in bodies}
    for body in bodies:
        assert body.pop("created") > 1_700_000_000
    assert len(ids) == 2
    assert bodies[0] == bodies[1]


def test_characters_travel_as_themselves() -> None:
    assert "CheapModel: naïve 😀".encode() in render(ask("naïve 😀"))


@pytest.mark.parametrize(
    "fields",
    [{}, {"n": 2}, {"tools": [WEATHER], "tool_choice": "required"}, {"max_tokens": 2}],
    ids=["text", "two choices", "tool", "cut"],
)
def test_the_chunks_of_a_stream_add_up_to_the_whole_answer(fields: dict[str, Any]) -> None:
    answer = ask(**fields)
    chunks = render_chunks(answer, include_usage=True)
    assert sum(chunk.tokens for chunk in chunks) == answer.usage.output_tokens
    assert max(chunk.tokens for chunk in chunks) <= 3
    *parts, last = [json.loads(chunk.data) for chunk in chunks]
    assert all(part["usage"] is None for part in parts)
    assert last["choices"] == []
    assert last["usage"] == json.loads(render(answer))["usage"]
    for index, choice in enumerate(answer.choices):
        own = [part["choices"][0] for part in parts if part["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert (own[-1]["delta"], own[-1]["finish_reason"]) == ({}, choice.finish_reason)
        assert {event["finish_reason"] for event in own[:-1]} == {None}
        if choice.tool_call is None:
            assert "".join(event["delta"].get("content", "") for event in own) == choice.text
        else:
            calls = [event["delta"]["tool_calls"][0] for event in own[1:-1]]
            assert calls[0]["id"] == choice.tool_call.id
            assert calls[0]["function"] == {"name": "get_weather", "arguments": ""}
            assert "".join(c["function"]["arguments"] for c in calls) == choice.tool_call.arguments


def test_a_stream_without_usage_does_not_mention_it() -> None:
    assert all("usage" not in json.loads(chunk.data) for chunk in render_chunks(ask(), include_usage=False))
