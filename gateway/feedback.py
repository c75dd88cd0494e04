"""What a client says about an earlier answer: how good it was."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import InvalidRequest
from gateway.ids import SANE_REQUEST_ID
from gateway.jsontext import JsonObject
from gateway.schema.base import parse_body, require

HEADER = "X-Gateway-Feedback"
SCORE = re.compile(r"0(\.[0-9]{1,17})?|1(\.0{1,17})?")


@dataclass(frozen=True)
class Feedback:
    """`score` is from 0 for useless to 1 for right."""

    request_id: str
    score: float


def parse_feedback(body: bytes) -> Feedback:
    """
    :raises InvalidRequest: where the body is not `{"id": ..., "score": ...}`
    """
    values = _object(body).values
    request_id, score = values["id"], values["score"]
    if not is_request_id(request_id):
        raise InvalidRequest("'id' must be the id of a request, as its X-Request-Id gave it.", param="id")
    # A boolean is a number to Python alone.
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        raise InvalidRequest("'score' must be a number from 0 to 1.", param="score")
    return Feedback(request_id, float(score))


def feedback_in(header: str) -> Feedback | None:
    """That in the header of a later request, `ID;score=0.5`; None where it cannot be read."""
    request_id, _, parameter = header.partition(";")
    name, _, text = parameter.partition("=")
    request_id, score = request_id.strip(), score_of_text(text.strip())
    if name.strip().lower() != "score" or not is_request_id(request_id) or score is None:
        return None
    return Feedback(request_id, score)


def score_of_text(text: str) -> float | None:
    """A score as a person writes it, None where that is none."""
    return float(text) if SCORE.fullmatch(text) else None


def is_request_id(value: object) -> bool:
    return isinstance(value, str) and SANE_REQUEST_ID.fullmatch(value) is not None


def _object(body: bytes) -> JsonObject:
    parsed = parse_body(body)
    require(parsed, "id")
    require(parsed, "score")
    return parsed
