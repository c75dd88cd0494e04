"""What can be done about a call that gave no answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from gateway.errors import GatewayError, RequestTimeUp, UpstreamError, UpstreamTimeout, forget_frames
from gateway.incoming import Reply
from gateway.retries import RETRIED_STATUSES, retry_after


class Again(Enum):
    """Whether the same model is worth another call."""

    YES = auto()
    LAST_RESORT = auto()  # only where no other model can be asked
    NO = auto()


@dataclass(frozen=True)
class Unanswered:
    """A call that failed before the client got anything. `error` is what the client gets if it stays so, or
    `reply`, where the provider had words of its own. `wait` is how long the provider asks to be left
    alone, in seconds. `is_models_fault` is false for what says nothing about the model, such as a budget."""

    error: GatewayError
    again: Again = Again.NO
    wait: float | None = None
    is_models_fault: bool = True
    reply: Reply | None = None

    def __post_init__(self) -> None:
        forget_frames(self.error)


def unanswered(error: UpstreamError, reply: Reply | None = None) -> Unanswered:
    """A provider that failed. Who was silent for too long will hardly be quicker at once, and a call that has
    to be paid for all the same is not repeated where another model may do better."""
    is_paid_for = error.usage is not None or error.characters is not None
    if is_paid_for or isinstance(error, UpstreamTimeout):
        again = Again.LAST_RESORT
    elif error.provider_status is None or error.provider_status in RETRIED_STATUSES:
        again = Again.YES
    else:
        again = Again.NO
    is_models_fault = not isinstance(error, RequestTimeUp)
    return Unanswered(error, again, retry_after(error.headers), is_models_fault, reply)


def refused(status: int, reply: Reply) -> Unanswered:
    """A provider that refused for now, with its words. Of these statuses only that of one who has too much to
    do says something about the model."""
    error = UpstreamError(f"The provider answered with status {status}.")
    wait = retry_after(reply.headers)
    return Unanswered(error, Again.YES, wait, is_models_fault=status == 429, reply=reply)
