"""The Lua scripts, each one atomic change of state; the files beside this one say what each does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

FOLDER = Path(__file__).with_name("lua")


class Script:
    """One script of the folder, loaded into Redis when it does not know it (any more)."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._redis = client
        self._script = client.register_script((FOLDER / f"{name}.lua").read_text())

    def __call__(self, keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
        """What the script returns.

        :raises redis.RedisError, OSError: where it may not have run; see `connection.translating_errors`
        """
        return self._script(keys=list(keys), args=list(args))

    def run_all(self, calls: Sequence[tuple[Sequence[str], Sequence[str | int | float]]]) -> list[Any]:
        """What the script returns, or how it failed, for each of the calls' keys and arguments, in one round
        trip.

        :raises redis.RedisError, OSError: where any of them may or may not have run
        """
        answers = self._send_all(calls)
        unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            self._redis.script_load(self._script.script)
            again = self._send_all([calls[i] for i in unknown])
            for i, answer in zip(unknown, again, strict=True):
                answers[i] = answer
        return answers

    def _send_all(self, calls: Sequence[tuple[Sequence[str], Sequence[str | int | float]]]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for keys, args in calls:
                pipeline.evalsha(self._script.sha, len(keys), *keys, *args)
            return pipeline.execute(raise_on_error=False)
