"""Names for what comes up once."""

from __future__ import annotations

import random


def new_id() -> str:
    """32 hexadecimal digits that nobody has had before. No secret: the system seeds the generator of each
    process, and is not asked for every name, which takes three times as long."""
    return f"{random.getrandbits(128):032x}"
