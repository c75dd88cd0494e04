"""What a promise comes to when it is tried.

CannotRun       the stack cannot be tested at all
DoesNotHold     what was seen is not what was promised
NotTried        this stack is not set up for it; the text says what would be needed
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftest.stack import Stack


class CannotRun(Exception):
    """The self-test cannot say anything about this stack, or must not touch it."""


class DoesNotHold(Exception):
    """A promise is broken; the text is what was seen."""


class NotTried(Exception):
    """A promise cannot be tried here; the text says what would be needed."""


class Outcome(StrEnum):
    """How it ended."""

    HOLDS = "holds"
    BROKEN = "DOES NOT HOLD"
    NOT_TRIED = "not tried"


@dataclass
class Trial:
    """One promise being tried: how often by now."""

    times: int = 0

    def expect(self, holds: bool, otherwise: str) -> None:
        """
        :raises DoesNotHold: saying `otherwise`, where it does not hold
        """
        if not holds:
            raise DoesNotHold(otherwise)


@dataclass(frozen=True)
class Promise:
    """What the gateway promises, and how that is tried. `check` gives what was seen.

    `check` raises `DoesNotHold` or `NotTried`; that the gateway, a mock or Redis cannot be reached when it
    should be is seen as a broken promise too.
    """

    name: str
    text: str
    tried: str
    check: Callable[[Stack, Trial], str]


@dataclass(frozen=True)
class Verdict:
    """What became of a promise; `times` says how often it was tried, `seconds` how long that took."""

    promise: Promise
    outcome: Outcome
    times: int
    seen: str
    seconds: float
