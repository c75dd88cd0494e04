"""JSON of providers is read as Python reads it, by whatever."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.providers_json import read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def spelled(value: Any) -> str:
    """With the types of numbers, since 1 is 1.0 and NaN is not NaN."""
    return repr(value)


@pytest.mark.parametrize(
    "body",
    [
        b"9223372036854775807",
        b"-9223372036854775809",
        b"18446744073709551616",
        b'{"seed":100000000000000000000,"x":[-10000000000000000000]}',
        b"[0.0001234567890123456789, 1e5, 1E-7, -0, -0.0, 1e400]",
        b"0.10000000000000000000000000001",
        b"[NaN, Infinity, -Infinity]",
        b'"\\ud83d"',
        b'"\\u0000\\ud83d\\ude00"',
        b'{"a": 1, "a": 2}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": "é"}'.encode("utf-16"),
        b" [] \r\n",
    ],
)
def test_a_text_means_what_it_means_to_python(body: bytes) -> None:
    assert spelled(read_json(body)) == spelled(json.loads(body))


@given(VALUES, st.booleans())
@example(2**64, False)
@example(-(2**63) - 1, False)
def test_any_value_comes_back_as_python_reads_it(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert spelled(read_json(body)) == spelled(json.loads(body))


@pytest.mark.parametrize("body", [b"", b"{", b"[1,]", b"{}x", b"'a'", b'"\t"', b"\xff\xfe\xfd", b"01"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(body)


def test_what_is_nested_too_deep_is_refused_as_python_does() -> None:
    with pytest.raises(RecursionError):
        read_json(b"[" * 100_000)
