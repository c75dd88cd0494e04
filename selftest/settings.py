"""Where the stack is, read from the environment; nothing else in the self-test reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from selftest.verdicts import CannotRun

# What an operator may have switched off, so that it is not promised.
SWITCHES = ("CIRCUIT_BREAKER", "UPSTREAM_FALLBACKS", "UPSTREAM_RETRIES")
OFF = ("off", "0", "false", "no")
PATIENCE_SECONDS = 25.0


@dataclass(frozen=True)
class Settings:
    """`own_redis_url` is a Redis that is the stack's alone, so that it may be paused and stopped, and that
    comes back by itself. `gateway_pid` is the gateway's main process, None: the one that can be seen.
    `switched_off` are those of `SWITCHES` that are off. `patience` is how long to wait for what has to come
    right, in seconds."""

    gateway_url: str
    cheap_model_url: str
    expensive_model_url: str
    redis_url: str = field(repr=False)
    redis_key_prefix: str = "gateway"
    own_redis_url: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    provider_urls: str = ""
    gateway_budget: bool = False
    routing_policy: str = "prompt_length"
    share_is_held: bool = False
    threshold_chars: int = 150
    switched_off: frozenset[str] = frozenset()
    gateway_pid: int | None = None
    patience: float = PATIENCE_SECONDS

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process. An empty variable counts as not set.

        :raises CannotRun: where the stack is not named, or by what is no number
        """
        environ = os.environ if environ is None else environ

        def text(variable: str, default: str = "") -> str:
            return environ.get(variable, "").strip() or default

        def needed(variable: str) -> str:
            if not (value := text(variable).rstrip("/")):
                raise CannotRun(
                    f"{variable} is not set: run `docker compose run --rm selftest` or `make selftest`."
                )
            return value

        threshold, pid = text("ROUTING_THRESHOLD_CHARS", "150"), text("GATEWAY_PID", "0")
        if not (threshold.isdecimal() and pid.isdecimal()):
            raise CannotRun("ROUTING_THRESHOLD_CHARS and GATEWAY_PID must be whole numbers.")
        return cls(
            gateway_url=needed("GATEWAY_URL"),
            cheap_model_url=needed("CHEAP_MODEL_URL"),
            expensive_model_url=needed("EXPENSIVE_MODEL_URL"),
            redis_url=needed("REDIS_URL"),
            redis_key_prefix=text("REDIS_KEY_PREFIX", "gateway"),
            own_redis_url=text("OWN_REDIS_URL") or None,
            admin_key=text("GATEWAY_ADMIN_KEY") or None,
            provider_urls=text("PROVIDER_URLS"),
            gateway_budget=bool(text("GATEWAY_BUDGET_USD")),
            routing_policy=text("ROUTING_POLICY", "prompt_length"),
            share_is_held=bool(text("ROUTING_EXPENSIVE_SHARE") or text("ROUTING_DOLLARS_PER_DAY")),
            threshold_chars=int(threshold),
            switched_off=frozenset(name for name in SWITCHES if text(name).lower() in OFF),
            gateway_pid=int(pid) or None,
        )

    @property
    def redis_is_own(self) -> bool:
        """Whether the Redis may be paused and stopped."""
        return self.own_redis_url is not None and self.own_redis_url == self.redis_url
