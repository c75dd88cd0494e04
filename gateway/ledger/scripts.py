"""The Lua scripts, each one atomic change of state; the files beside this one say what each does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

FOLDER = Path(__file__).with_name("lua")


class Script:
    """One script of the folder, loaded into Redis when it does not know it (any more)."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._script = client.register_script((FOLDER / f"{name}.lua").read_text())

    def __call__(self, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """What the script returns.

        :raises redis.RedisError, OSError: where it may not have run; see `connection.translating_errors`
        """
        return self._script(keys=list(keys), args=list(args))
