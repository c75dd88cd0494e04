"""JSON that providers send, read by `orjson` where that reads the same as `json`, in half the time."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# Every digit becomes a zero and every other sign but the point a space, so that long numbers stand out.
_DIGITS = bytes(
    ord("0") if chr(sign) in "0123456789" else ord(".") if chr(sign) == "." else 32 for sign in range(256)
)
# An integer that is too long for 64 bits is no integer to orjson. Fractions have as many digits.
_LONG = b"0" * 19
_LONG_INTEGER = re.compile(rb"(?<![.0])0{19}")


def read_json(body: bytes) -> Any:
    """The value of a JSON text as `json.loads` gives it, which takes NaN, lone surrogates, UTF-16.

    :raises ValueError: for what is no JSON
    :raises RecursionError: for what is nested too deep
    """
    if has_long_integer(body):
        return json.loads(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


def has_long_integer(body: bytes) -> bool:
    """Whether an integer, or any other run of digits, is too long to be sure that `orjson` reads it right."""
    digits = body.translate(_DIGITS)
    return _LONG in digits and _LONG_INTEGER.search(digits) is not None
