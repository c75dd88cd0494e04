"""Names for what comes up once."""

from __future__ import annotations

import random


def new_id() -> str:
    """32 hexadecimal digits that nobody has had before. No secret: the generator is seeded by the system in each
    process, but asking that for every name takes three times as long."""
    return f"{random.getrandbits(128):032x}"
