"""The Lua scripts, each one atomic change of state; the files beside this one say what each does.

Every request waits for one or two of them, so their calls go over a connection that is kept, and not through
redis-py's commands, which take three times as long for one. Connections are its own: how they are opened and
pooled, how an answer is read, what goes wrong on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import hiredis
import redis
from redis.exceptions import NoScriptError, ResponseError

from gateway.readable import Readable

FOLDER = Path(__file__).with_name("lua")

Arguments: TypeAlias = "Sequence[str | int | float]"


class Script:
    """One script of the folder, loaded into Redis when it does not know it (any more)."""

    def __init__(self, client: redis.Redis, name: str) -> None:
        self._redis = client
        self._script = client.register_script((FOLDER / f"{name}.lua").read_text())
        self._kept: tuple[Any, Readable] | None = None  # the connection of the last round trip

    def __call__(self, keys: Sequence[str], args: Arguments) -> Any:
        """What the script returns.

        :raises redis.RedisError, OSError: where it may not have run; see `connection.translating_errors`
        """
        (answer,) = self.run_all([(keys, args)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run_all(self, calls: Sequence[tuple[Sequence[str], Arguments]]) -> list[Any]:
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

    def _send_all(self, calls: Sequence[tuple[Sequence[str], Arguments]]) -> list[Any]:
        packed = [
            hiredis.pack_command(("EVALSHA", self._script.sha, len(keys), *keys, *args))  # type: ignore[arg-type]
            for keys, args in calls
        ]
        connection, readable = self._connected()
        try:
            connection.send_packed_command([b"".join(packed)], check_health=False)
            answers = [_answer(connection) for _ in calls]
        except BaseException:
            # Nobody may read from it what still comes.
            connection.disconnect()
            self._redis.connection_pool.release(connection)
            raise
        if self._kept is None:
            self._kept = connection, readable
        else:
            self._redis.connection_pool.release(connection)
        return answers

    def _connected(self) -> tuple[Any, Readable]:
        """A connection that nobody else uses; the one that is kept, unless Redis has closed it."""
        kept, self._kept = self._kept, None
        if kept is not None:
            if not kept[1].now():
                return kept
            kept[0].disconnect()
            self._redis.connection_pool.release(kept[0])
        connection = self._redis.connection_pool.get_connection()
        return connection, Readable(connection._sock)


def _answer(connection: Any) -> Any:
    """The next answer on it, also one that says that the script failed."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
