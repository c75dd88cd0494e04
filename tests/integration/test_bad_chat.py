"""Messages of a chat that a client can get wrong: refused by the place of the fault, they cost nothing and
harm nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.drawn import any_json, any_text, drawing, sending
from tests.support.refusals import assert_field_refused, unharmed
from tests.support.wire import CHAT, ask, post

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway whose only worker has to survive all of it."""
    return start_gateway(WEB_CONCURRENCY="1")


def with_content(content: str) -> bytes:
    """A chat's body with a text in JSON as its content."""
    return b'{"messages":[{"role":"user","content":%b}]}' % content.encode()


WRONG_MESSAGES: dict[str, tuple[bytes, str]] = {
    **{
        f"message {value}": (b'{"messages":[%b]}' % value.encode(), "messages[0]")
        for value in ("null", "[]", '"hi"', "1")
    },
    **{
        f"role {role}": (b'{"messages":[{"role":%b,"content":"hi"}]}' % role.encode(), "messages[0].role")
        for role in ("null", '""', '"User"', '"bot"', "1", '["user"]', '{"user":1}', '"user "')
    },
    "no role": (b'{"messages":[{"content":"hi"}]}', "messages[0].role"),
    "no content": (b'{"messages":[{"role":"user"}]}', "messages[0].content"),
    **{
        f"content {value}": (with_content(value), "messages[0].content")
        for value in ("null", "1", "true", "{}", '{"type":"text","text":"hi"}')
    },
    **{
        f"part {value}": (with_content(f"[{value}]"), "messages[0].content[0]")
        for value in ("null", '"hi"', "1", "[]")
    },
    "part without type": (with_content('[{"text":"hi"}]'), "messages[0].content[0].type"),
    "part of a type that is no string": (with_content('[{"type":1}]'), "messages[0].content[0].type"),
    "part without text": (with_content('[{"type":"text"}]'), "messages[0].content[0].text"),
    "part whose text is none": (with_content('[{"type":"text","text":1}]'), "messages[0].content[0].text"),
    "second message": (
        b'{"messages":[{"role":"user","content":"hi"},{"role":"x","content":"hi"}]}',
        "messages[1].role",
    ),
}


@pytest.mark.parametrize(("body", "param"), WRONG_MESSAGES.values(), ids=WRONG_MESSAGES.keys())
def test_a_wrong_message_is_refused_by_its_place(gateway: GatewayUnderTest, body: bytes, param: str) -> None:
    with unharmed(gateway):
        assert_field_refused(ask(gateway.gateway_url, post(body)), param)


near_parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image_url", "input_audio", "refusal"]) | any_json},
    optional={"text": any_text | any_json, "image_url": any_json},
)
near_messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"]) | any_json,
        "content": any_text | st.lists(near_parts, max_size=3) | any_json,
    },
    optional={"name": any_json, "tool_calls": any_json, "tool_call_id": any_json, "refusal": any_json},
)


def test_no_json_value_as_messages_makes_the_gateway_fail(gateway: GatewayUnderTest) -> None:
    with sending(gateway) as statuses:

        @settings(drawing, max_examples=300)
        @given(st.lists(near_messages, min_size=1, max_size=3) | any_json, st.booleans())
        def send(messages: Any, stream: bool) -> None:
            statuses.send(CHAT, json.dumps({"messages": messages, "stream": stream}).encode())

        send()
    assert statuses.seen.keys() == {200, 400}
