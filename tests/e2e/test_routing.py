"""Which model answers: the characters of all user messages, up to and including 150, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.stack import Stack

FAMILY = "👨‍👩‍👧"  # five code points that show as one picture
ACCENT = "e\u0301"  # two code points that show as one letter
PIXEL = "data:image/png;base64,iVBORw0KGgo=" + "A" * 400


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}


@pytest.mark.parametrize(
    ("messages", "model"),
    [
        pytest.param([user("a" * 149)], "CheapModel", id="149"),
        pytest.param([user("a" * 150)], "CheapModel", id="150"),
        pytest.param([user("a" * 151)], "ExpensiveModel", id="151"),
        pytest.param([user("😀" * 149)], "CheapModel", id="149 emoji"),
        pytest.param([user("😀" * 150)], "CheapModel", id="150 emoji"),
        pytest.param([user("😀" * 151)], "ExpensiveModel", id="151 emoji"),
        pytest.param([user(FAMILY * 30)], "CheapModel", id="150 code points of joined emoji"),
        pytest.param([user(FAMILY * 30 + "!")], "ExpensiveModel", id="151 code points of joined emoji"),
        pytest.param([user(ACCENT * 74 + "e")], "CheapModel", id="149 with combining marks"),
        pytest.param([user(ACCENT * 75)], "CheapModel", id="150 with combining marks"),
        pytest.param([user(ACCENT * 75 + "e")], "ExpensiveModel", id="151 with combining marks"),
        pytest.param([user("日" * 150)], "CheapModel", id="450 bytes"),
        pytest.param([user("")], "CheapModel", id="empty"),
        pytest.param([user("a" * 75), user("b" * 75)], "CheapModel", id="two of 75"),
        pytest.param([user("a" * 75), user("b" * 76)], "ExpensiveModel", id="75 and 76"),
        pytest.param(
            [{"role": "system", "content": "s" * 5000}, user("hi")], "CheapModel", id="long system text"
        ),
        pytest.param(
            [{"role": "developer", "content": "s" * 5000}, user("hi")], "CheapModel", id="long developer text"
        ),
        pytest.param(
            [user("hi"), {"role": "assistant", "content": "a" * 5000}, user("go on")],
            "CheapModel",
            id="long assistant text",
        ),
        pytest.param([{"role": "system", "content": "s" * 5000}], "CheapModel", id="no user message"),
        pytest.param([user([text("a" * 150)])], "CheapModel", id="one part of 150"),
        pytest.param([user([text("a" * 75), text("b" * 75)])], "CheapModel", id="two parts of 75"),
        pytest.param([user([text("a" * 75), text("b" * 76)])], "ExpensiveModel", id="parts of 75 and 76"),
        pytest.param(
            [user([text("a" * 150), {"type": "image_url", "image_url": {"url": PIXEL}}])],
            "CheapModel",
            id="an image counts nothing",
        ),
        pytest.param(
            [user([text("a" * 100)]), user("b" * 51)], "ExpensiveModel", id="parts and a string add up"
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_the_length_of_the_user_messages_chooses_the_model(
    stack: Stack, messages: list[dict[str, Any]], model: str, stream: bool
) -> None:
    answer = stack.post({"messages": messages, "stream": stream})
    assert answer.status_code == 200
    assert answer.headers["X-Gateway-Model"] == model
    assert answer.headers["X-Gateway-Policy"] == "prompt_length"
