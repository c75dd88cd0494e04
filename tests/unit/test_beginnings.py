"""A stream is held back until its answer begins, with whatever content that is, and not for long where it is
silent."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import gevent
import pytest

from gateway import relay
from gateway.apis import Api
from gateway.errors import UpstreamError
from gateway.schema.base import ModelRequest
from gateway.schema.messages import parse_messages_request
from gateway.schema.prompts import parse_completion_request
from gateway.schema.responses import parse_responses_request
from tests.support.fakes import CHEAP, PROMPT, RelaySetting, Step

NATIVE = replace(CHEAP, apis=frozenset(Api))
MESSAGES = [{"role": "user", "content": PROMPT}]
HELD_FOR, SILENCE = 0.03, 0.25


def event(chunk: object) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def choice(delta: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None, **fields}]}


def legacy(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": None}]}


def block(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **fields}}


def block_delta(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": 0, "item": {"type": kind, **fields}}


def asked_by(api: Api) -> ModelRequest | None:
    match api:
        case Api.COMPLETIONS:
            return parse_completion_request(json.dumps({"prompt": PROMPT, "stream": True}).encode())
        case Api.MESSAGES:
            body = {"messages": MESSAGES, "max_tokens": 9, "stream": True}
            return parse_messages_request(json.dumps(body).encode())
        case Api.RESPONSES:
            return parse_responses_request(json.dumps({"input": PROMPT, "stream": True}).encode())
        case _:
            return None


def reads_until_it_begins(api: Api, *chunks: dict[str, Any]) -> int:
    """How much of a stream is read before anything of it is passed on."""
    setting = RelaySetting([event(chunk) for chunk in chunks], model=NATIVE)
    if (asked := asked_by(api)) is not None:
        setting.set_up(asked)
    setting.start()
    return setting.journal.count("read")


TEXT: dict[Api, dict[str, Any]] = {
    Api.CHAT_COMPLETIONS: choice({"content": "Paris"}),
    Api.COMPLETIONS: legacy("Paris"),
    Api.MESSAGES: block_delta("text_delta", text="Paris"),
    Api.RESPONSES: {"type": "response.output_text.delta", "delta": "Paris"},
}


@pytest.mark.parametrize(
    ("api", "content"),
    [
        *TEXT.items(),
        (Api.CHAT_COMPLETIONS, choice({"audio": {"id": "audio_1"}})),
        (Api.CHAT_COMPLETIONS, choice({"audio": {"data": "AAAA"}, "content": None})),
        (Api.CHAT_COMPLETIONS, choice({"content": [{"type": "text", "text": "Paris"}]})),
        (Api.CHAT_COMPLETIONS, choice({"content": [{"type": "thinking", "thinking": []}]})),
        (Api.CHAT_COMPLETIONS, choice({"tool_calls": [{"index": 0, "id": "call_1", "type": "function"}]})),
        (Api.CHAT_COMPLETIONS, choice({"images": [{"type": "image_url"}]})),
        (Api.CHAT_COMPLETIONS, choice({"reasoning_details": [{"type": "reasoning.encrypted"}]})),
        (Api.MESSAGES, block("tool_use", id="toolu_1", name="", input={})),
        (Api.MESSAGES, block("server_tool_use", id="srvtoolu_1", name="", input={})),
        (Api.MESSAGES, block("redacted_thinking", data="AAAA")),
        (Api.MESSAGES, block_delta("signature_delta", signature="AAAA")),
        (Api.MESSAGES, block_delta("input_json_delta", partial_json="")),
        (Api.RESPONSES, item("image_generation_call", status="in_progress")),
        (Api.RESPONSES, item("web_search_call", status="in_progress")),
        (Api.RESPONSES, item("function_call", name="", arguments="")),
        (Api.RESPONSES, {"type": "response.audio.delta", "delta": "AAAA"}),
        (Api.RESPONSES, {"type": "response.audio.delta", "delta": {"data": "AAAA"}}),
    ],
)
def test_an_answer_begins_with_any_content(api: Api, content: dict[str, Any]) -> None:
    assert reads_until_it_begins(api, content, TEXT[api]) == 1


@pytest.mark.parametrize(
    ("api", "shell"),
    [
        (Api.CHAT_COMPLETIONS, {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}),
        (Api.CHAT_COMPLETIONS, choice({"role": "assistant"})),
        (Api.CHAT_COMPLETIONS, choice({"role": "assistant", "content": "", "refusal": None})),
        (Api.CHAT_COMPLETIONS, choice({"role": "assistant", "content": [], "tool_calls": []})),
        (Api.CHAT_COMPLETIONS, choice({}, logprobs=None, native_finish_reason=None)),
        (Api.COMPLETIONS, legacy("")),
        (Api.MESSAGES, {"type": "message_start", "message": {"id": "msg_1", "content": []}}),
        (Api.MESSAGES, {"type": "ping"}),
        (Api.MESSAGES, block("text", text="")),
        (Api.MESSAGES, block("thinking", thinking="")),
        (Api.RESPONSES, {"type": "response.created", "response": {"id": "resp_1", "output": []}}),
        (Api.RESPONSES, item("message", role="assistant", content=[])),
        (Api.RESPONSES, item("reasoning", summary=[])),
        (Api.RESPONSES, {"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}}),
    ],
)
def test_what_only_announces_an_answer_does_not_begin_it(api: Api, shell: dict[str, Any]) -> None:
    assert reads_until_it_begins(api, shell, shell, TEXT[api], TEXT[api]) == 3


ROLE = event(choice({"role": "assistant", "content": ""}))
HELLO = event(choice({"content": "Hello"}))
STOP = event(choice({}, finish_reason="stop"))
DONE = b"data: [DONE]\n\n"
REST = HELLO + STOP + DONE


@pytest.fixture
def held_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "HOLD_SECONDS", HELD_FOR)


def started(*steps: Step) -> tuple[RelaySetting, float]:
    """A stream that is passed on from now on, and the seconds until then."""
    setting, began = RelaySetting(steps), time.monotonic()
    return setting.start(), time.monotonic() - began


@pytest.mark.usefixtures("held_for_a_moment")
@pytest.mark.parametrize("shells", [(ROLE,), (ROLE, b": ping\n\n", ROLE)], ids=["one", "several"])
def test_silence_behind_what_announces_it_is_held_for_a_moment_and_no_event_is_lost(
    shells: tuple[bytes, ...],
) -> None:
    setting, seconds = started(*shells, SILENCE, HELLO, STOP, DONE)

    assert seconds >= HELD_FOR
    assert setting.journal.count("read") == len(shells)
    assert next(setting.relay) == shells[0]
    assert b"".join(setting.relay) == b"".join(shells[1:]) + REST
    assert not setting.bill.failed


@pytest.mark.usefixtures("held_for_a_moment")
def test_announcements_one_after_the_other_are_not_held_for_longer() -> None:
    slow: list[Step] = [ROLE, HELD_FOR / 2]
    setting, seconds = started(*slow * 10, HELLO, STOP, DONE)
    assert seconds >= HELD_FOR
    assert setting.journal.count("read") < 10
    assert b"".join(setting.relay) == ROLE * 10 + REST


@pytest.mark.usefixtures("held_for_a_moment")
def test_a_provider_that_has_said_nothing_yet_is_waited_for() -> None:
    setting, seconds = started(SILENCE / 2, HELLO, STOP, DONE)
    assert seconds >= SILENCE / 2
    assert b"".join(setting.relay) == REST


@pytest.mark.usefixtures("held_for_a_moment")
def test_one_that_breaks_off_in_the_silence_is_told_and_billed_as_in_the_middle() -> None:
    setting, _ = started(ROLE, SILENCE / 2, UpstreamError("It broke off."))
    assert next(setting.relay) == ROLE
    assert b'"upstream_error"' in b"".join(setting.relay)
    assert (setting.bill.answered, setting.bill.failed) == (True, True)
    assert setting.stream.closed


@pytest.mark.usefixtures("held_for_a_moment")
def test_a_client_that_leaves_in_the_silence_ends_the_read() -> None:
    setting, _ = started(ROLE, HELD_FOR * 2, HELLO, STOP, DONE)
    next(setting.relay)
    setting.relay.close()
    assert setting.bill.usage.output_tokens == 0
    assert setting.stream.closed
    gevent.sleep(HELD_FOR * 3)
    assert setting.journal.count("read") == 1
