"""A provider's key is kept out of what comes back from it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from gateway.redaction import PLACEHOLDER, holds_key, without_key

KEY = "sk-ab/0123456789abcdef+xy=="


@pytest.mark.parametrize(
    "text",
    [KEY, f"Bearer {KEY}", f"req-{quote(KEY, safe='')}", KEY.replace("+", "&#43;"), KEY.replace("/", "\\/")],
)
def test_a_text_holds_a_key_however_its_signs_are_escaped(text: str) -> None:
    assert holds_key(text, KEY)


@pytest.mark.parametrize("text", ["", "sk-ab/", "0123456789abcde", "sk-...cdef", "req-1"])
def test_a_text_with_less_than_the_telling_part_holds_no_key(text: str) -> None:
    assert not holds_key(text, KEY)


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_nothing_holds_it(key: str | None) -> None:
    assert not holds_key("anything", key)
    assert without_key(b'{"a": 1}', {"a": 1}, key) == b'{"a": 1}'


def test_a_short_key_is_found_as_a_whole_alone() -> None:
    assert holds_key("no access with sk-1/x", "sk-1/x")
    assert not holds_key("no access with sk-1%2Fx, sk-1 or x", "sk-1/x")


def cleaned(body: bytes, key: str = KEY) -> Any:
    return json.loads(without_key(body, json.loads(body), key))


def test_a_body_without_the_key_keeps_its_bytes() -> None:
    body = b'{ "error" : {"message":"caf\\u00e9 \\/ 1.0", "n": 1.00}}'
    assert without_key(body, json.loads(body), KEY) == body


@pytest.mark.parametrize("escape", [False, True], ids=["plain", "escaped"])
def test_a_key_in_any_value_or_name_is_replaced(escape: bool) -> None:
    spelled = "".join(f"\\u{ord(letter):04x}" for letter in KEY) if escape else KEY
    body = '{"error": {"message": "no KEY, no KEY", "KEY": [1, null, {"deep": "KEY"}]}}'.replace(
        "KEY", spelled
    )
    assert cleaned(body.encode()) == {
        "error": {
            "message": f"no {PLACEHOLDER}, no {PLACEHOLDER}",
            PLACEHOLDER: [1, None, {"deep": PLACEHOLDER}],
        }
    }


def test_a_key_in_a_field_that_is_there_twice_is_removed_with_it() -> None:
    body = json.dumps({"message": KEY})[:-1].encode() + b', "message": "x"}'
    assert without_key(body, json.loads(body), KEY) == b'{"message": "x"}'


def test_half_of_a_surrogate_pair_beside_a_key_does_no_harm() -> None:
    assert cleaned(b'{"error": "\\ud800 %s"}' % KEY.encode()) == {"error": f"\ud800 {PLACEHOLDER}"}
