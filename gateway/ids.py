"""Names for what comes up once."""

from __future__ import annotations

import random
import re

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/=+@-]{1,128}")  # that a client may choose


def new_id() -> str:
    """32 hexadecimal digits that nobody has had before. No secret: the system seeds the generator of each
    process, and is not asked for every name, which takes three times as long."""
    return f"{random.getrandbits(128):032x}"
