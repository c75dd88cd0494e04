"""Keys that can be recognised wherever they turn up, whole or in part, plain or escaped."""

from __future__ import annotations

import html
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

# The shortest part of a key that counts as found: longer than what a provider leaves when it masks one.
PART = 10
_UNICODE_ESCAPE = re.compile(r"\\u([0-9A-Fa-f]{4})")


@dataclass(frozen=True)
class Canary:
    """A key of somebody's, with the characters that some encoding or other escapes."""

    owner: str
    key: str

    @property
    def parts(self) -> set[str]:
        """All the stretches of its random middle that would give it away."""
        core = self.key.split("/")[1].split("+")[0]
        return {core[start : start + PART] for start in range(len(core) - PART + 1)}


def new_canary(owner: str) -> Canary:
    return Canary(owner, f"sk-canary/{secrets.token_hex(16)}+A==")


def found_in(text: str, canaries: Iterable[Canary]) -> list[str]:
    """The owners of the keys of which a part stands in `text`, as it is or once it is unescaped as JSON,
    as a URL or as HTML."""
    unescaped = _UNICODE_ESCAPE.sub(lambda code: chr(int(code[1], 16)), text)
    readings = {text, unescaped, unquote(text), html.unescape(text)}
    return [
        canary.owner
        for canary in canaries
        if any(part in reading for part in canary.parts for reading in readings)
    ]
