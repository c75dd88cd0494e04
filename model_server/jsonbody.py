"""Bytes of a request -> its JSON object, strictly read."""

import json
import math
from typing import NoReturn

from model_server.errors import InvalidRequest
from model_server.fields import Json, Object


def load_object(body: bytes) -> Object:
    """The JSON object in `body`; raise `InvalidRequest` for what is none or could not be repeated as text."""
    data = _load(body)
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return data


def _load(body: bytes) -> Json:
    try:
        data = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in body:
            # Half a surrogate pair is legal in JSON's escapes but is no text: nothing could answer it.
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise InvalidRequest("The body is not valid Unicode text.") from error
    except ValueError as error:
        raise InvalidRequest("The body is not valid JSON.") from error
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("the number is too large")
    return number
