"""The settings of a mock model server; the only place that reads its environment."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from model_server.profile import ModelProfile

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8081
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_LATENCY_SECONDS = 600.0


class SettingsError(Exception):
    """A setting is unusable; the message is one line that names the variable."""


@dataclass(frozen=True)
class Settings:
    """What an operator may choose; `None` leaves a latency to the model's profile.

    Latencies are in seconds. `first_token_seconds` (`FIRST_TOKEN_SECONDS`) passes before an answer or its
    first chunk, `token_interval_seconds` (`TOKEN_INTERVAL_SECONDS`) between the chunks of a stream.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    first_token_seconds: float | None = None
    token_interval_seconds: float | None = None
    max_body_bytes: int = MAX_BODY_BYTES

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; raise `SettingsError` for one that is not usable."""
        return cls(
            host=environ.get("HOST", "").strip() or DEFAULT_HOST,
            port=_port(environ),
            first_token_seconds=_seconds(environ, "FIRST_TOKEN_SECONDS"),
            token_interval_seconds=_seconds(environ, "TOKEN_INTERVAL_SECONDS"),
        )

    def latency(self, profile: ModelProfile) -> tuple[float, float]:
        """Seconds before the first token and between tokens, the profile filling what is not set."""
        first, interval = self.first_token_seconds, self.token_interval_seconds
        return (
            profile.first_token_seconds if first is None else first,
            profile.token_interval_seconds if interval is None else interval,
        )


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("PORT", "").strip()
    if not text:
        return DEFAULT_PORT
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise SettingsError(f"PORT must be a whole number from 1 to 65535, not {text!r}")
    return int(text)


def _seconds(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name, "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_LATENCY_SECONDS:
        raise SettingsError(
            f"{name} must be a number of seconds from 0 to {MAX_LATENCY_SECONDS:g}, not {text!r}"
        )
    return seconds
