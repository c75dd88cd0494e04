"""Settings, read once from the environment; nothing else in the gateway reads it.

`Settings.from_env()` raises `InvalidSetting`, whose text is one line that names the variable.
Nothing but the standard library is imported here, because gunicorn's configuration file uses this
module before gevent has patched it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from gateway.budget import Budget, OnBudget
from gateway.cascade.rules import CHECKS, CascadeRules
from gateway.circuit import CircuitRules
from gateway.environment import Environment, InvalidSetting, base_url
from gateway.routing.exploration import MOST_EXPLORATION
from gateway.routing.policy import POLICIES

# Where Docker Compose mounts the folder of the models file, so that changes reach a running container.
MOUNTED_MODELS_FILE = Path("/etc/llm-gateway/models.toml")
OWN_MODELS_FILE = Path(__file__).with_name("models.toml")
UPSTREAM_TRANSPORTS = ("lean", "urllib3")
# What the log of decisions has of a prompt: what its policy made of it, or all of its signals.
ROUTING_LOGS = ("decisions", "features")
# Where the image has a place for it, and Docker Compose a volume.
OWN_JOURNAL_DIRECTORY = Path("/var/lib/llm-gateway")


class KeyOnNetwork(InvalidSetting):
    """The gateway would spend a provider's key for whoever reaches it."""

    def __init__(self, network_address: str) -> None:
        super().__init__(
            "GATEWAY_BIND",
            f"refusing to serve a provider's key to the network at {network_address} without client keys; "
            "use a loopback address, or set GATEWAY_REQUIRE_KEYS=on",
        )


@dataclass(frozen=True)
class ModelOverride:
    """What the environment says about the model `name`; None where it says nothing."""

    name: str
    variable_prefix: str
    url: str | None
    upstream_name: str | None
    api_key: str | None = field(repr=False)


@dataclass(frozen=True)
class Settings:
    """All that can be set. Times are seconds, sizes are bytes. `network_address` is where others could spend
    a provider's key, None where they cannot."""

    model_overrides: tuple[ModelOverride, ...]
    models_file: Path
    last_good_models_file: Path | None
    routing_policy: str
    routing_threshold_chars: int
    routing_threshold_difficulty: float | None
    routing_expensive_share: float | None
    routing_dollars_per_day: Decimal | None
    routing_explore: float
    routing_log: str
    routing_log_size: int
    cascade_rules: CascadeRules
    redis_url: str = field(repr=False)
    redis_key_prefix: str
    redis_timeout: float
    journal_directory: Path | None
    require_keys: bool
    admin_key: str | None = field(repr=False)
    gateway_budget: Budget | None
    on_budget: OnBudget
    budget_hold: int
    budget_wait: float
    budget_min_output_tokens: int
    budgets_need_redis: bool
    ready_without_redis: bool
    web_concurrency: int
    http_server: str
    listen: str
    network_address: str | None
    upstream_connect_timeout: float
    upstream_read_timeout: float
    upstream_first_byte_timeout: float
    upstream_idle_timeout: float
    request_timeout: float
    max_request_cost: Decimal | None
    upstream_retries: int
    fallbacks: bool
    hedging: bool
    upstream_transport: str
    request_body_timeout: float
    circuit_rules: CircuitRules
    retry_budget_percent: int
    max_request_bytes: int
    max_body_bytes_in_work: int
    max_requests_in_work: int
    max_queued_requests: int
    queue_timeout: float
    shutdown_timeout: int
    client_keepalive: int
    client_stall_timeout: int
    forward_mock_faults: bool
    log_level: str
    environ: Mapping[str, str] = field(repr=False, compare=False)

    @property
    def ledger_directory(self) -> Path | None:
        """Where this gateway keeps its journals, apart from those of gateways that count elsewhere."""
        if self.journal_directory is None:
            return None
        url = urlsplit(self.redis_url)
        place = f"{url.hostname or ''}-{url.port or 6379}{url.path or '/0'}-{self.redis_key_prefix}"
        return self.journal_directory / re.sub(r"[^A-Za-z0-9._-]", "_", place)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process. An empty variable counts as not set.

        :raises InvalidSetting: for the first variable that is wrong
        """
        env = Environment(os.environ if environ is None else environ)
        bind = env.host("GATEWAY_BIND", "127.0.0.1")
        port = env.integer("GATEWAY_PORT", 8080, 1, 65535)
        host = f"[{bind}]" if ":" in bind else bind
        listen = env.address("GATEWAY_LISTEN", f"{host}:{port}")
        # In a container the gateway listens to all, and GATEWAY_BIND says who can reach that.
        reachable = bind if env.text("GATEWAY_BIND") else listen.rpartition(":")[0].strip("[]")
        read_timeout = env.number("UPSTREAM_READ_TIMEOUT_SECONDS", 300.0, 0.01, 3600)
        max_request_bytes = env.integer("MAX_REQUEST_BYTES", 32 * 2**20, 1, 2**31)
        require_keys = env.switch("GATEWAY_REQUIRE_KEYS", default=False)
        network_address = None if require_keys or _is_loopback(reachable) else reachable
        model_overrides = (
            _model_override(env, "CheapModel", "CHEAP_MODEL"),
            _model_override(env, "ExpensiveModel", "EXPENSIVE_MODEL"),
        )
        if network_address and any(override.api_key for override in model_overrides):
            raise KeyOnNetwork(network_address)
        if env.text("ROUTING_EXPENSIVE_SHARE") and env.text("ROUTING_DOLLARS_PER_DAY"):
            raise InvalidSetting(
                "ROUTING_DOLLARS_PER_DAY", "cannot be held beside ROUTING_EXPENSIVE_SHARE; set one of them"
            )
        if env.number("ROUTING_EXPLORE", 0.0, 0, 1) and env.text("ROUTING_LOG_SIZE") == "0":
            raise InvalidSetting("ROUTING_EXPLORE", "explores for nothing with ROUTING_LOG_SIZE=0")
        return cls(
            model_overrides=model_overrides,
            last_good_models_file=Path(env.text("LAST_GOOD_MODELS_FILE"))
            if env.text("LAST_GOOD_MODELS_FILE")
            else None,
            models_file=Path(env.text("MODELS_FILE") or _default_models_file()),
            routing_policy=env.choice("ROUTING_POLICY", POLICIES),
            routing_threshold_chars=env.integer("ROUTING_THRESHOLD_CHARS", 150, 0, 10**9),
            routing_threshold_difficulty=env.fraction("ROUTING_THRESHOLD_DIFFICULTY"),
            routing_expensive_share=env.fraction("ROUTING_EXPENSIVE_SHARE"),
            routing_dollars_per_day=env.usd("ROUTING_DOLLARS_PER_DAY"),
            routing_explore=env.number("ROUTING_EXPLORE", 0.0, 0, MOST_EXPLORATION),
            routing_log=env.choice("ROUTING_LOG", ROUTING_LOGS),
            routing_log_size=env.integer("ROUTING_LOG_SIZE", 10_000, 0, 1_000_000),
            cascade_rules=_cascade_rules(env),
            redis_url=env.redis_url("REDIS_URL"),
            redis_key_prefix=env.matching("REDIS_KEY_PREFIX", "gateway", r"[A-Za-z0-9_.{}-]{1,64}"),
            redis_timeout=env.number("REDIS_TIMEOUT_SECONDS", 0.1, 0.01, 60),
            journal_directory=env.directory("JOURNAL_DIR", OWN_JOURNAL_DIRECTORY),
            require_keys=require_keys,
            admin_key=env.api_key("GATEWAY_ADMIN_KEY"),
            gateway_budget=env.budget("GATEWAY_BUDGET_USD", "GATEWAY_BUDGET_PERIOD"),
            on_budget=OnBudget(env.choice("GATEWAY_ON_BUDGET", tuple(OnBudget))),
            budget_hold=env.integer("BUDGET_HOLD_SECONDS", 300, 1, 86400),
            budget_wait=env.number("BUDGET_WAIT_SECONDS", 30.0, 0, 600),
            budget_min_output_tokens=env.integer("BUDGET_MIN_OUTPUT_TOKENS", 16, 1, 10**6),
            budgets_need_redis=env.choice("BUDGETS_WITHOUT_REDIS", ("refuse", "allow")) == "refuse",
            ready_without_redis=env.switch("READY_WITHOUT_REDIS", default=False),
            http_server=env.choice("HTTP_SERVER", ("lean", "gunicorn")),
            web_concurrency=env.integer("WEB_CONCURRENCY", 2, 1, 256),
            listen=listen,
            network_address=network_address,
            upstream_connect_timeout=env.number("UPSTREAM_CONNECT_TIMEOUT_SECONDS", 5.0, 0.01, 600),
            upstream_read_timeout=read_timeout,
            upstream_first_byte_timeout=env.number(
                "UPSTREAM_FIRST_BYTE_TIMEOUT_SECONDS", read_timeout, 0.01, 3600
            ),
            upstream_idle_timeout=env.number("UPSTREAM_IDLE_TIMEOUT_SECONDS", read_timeout, 0.01, 3600),
            request_timeout=env.number("REQUEST_TIMEOUT_SECONDS", 600.0, 0.01, 86400),
            max_request_cost=env.usd("MAX_REQUEST_COST_USD"),
            upstream_retries=env.integer("UPSTREAM_RETRIES", 3, 0, 10),
            fallbacks=env.switch("UPSTREAM_FALLBACKS", default=True),
            hedging=env.switch("UPSTREAM_HEDGING", default=False),
            upstream_transport=env.choice("UPSTREAM_TRANSPORT", UPSTREAM_TRANSPORTS),
            request_body_timeout=env.number("REQUEST_BODY_TIMEOUT_SECONDS", 30.0, 0.01, 3600),
            circuit_rules=CircuitRules(
                is_on=env.switch("CIRCUIT_BREAKER", default=True),
                failures=env.integer("CIRCUIT_FAILURES", 10, 1, 10**6),
                error_percent=env.integer("CIRCUIT_ERROR_PERCENT", 50, 1, 100),
                slow_seconds=env.number("CIRCUIT_SLOW_SECONDS", 60.0, 0.01, 3600),
                open_seconds=env.number("CIRCUIT_OPEN_SECONDS", 2.0, 0.01, 600),
            ),
            retry_budget_percent=env.integer("RETRY_BUDGET_PERCENT", 20, 0, 100),
            max_request_bytes=max_request_bytes,
            max_body_bytes_in_work=env.integer(
                "MAX_BODY_BYTES_IN_WORK", max(256 * 2**20, max_request_bytes), max_request_bytes, 2**40
            ),
            max_requests_in_work=env.integer("MAX_REQUESTS_IN_WORK", 2000, 1, 100_000),
            max_queued_requests=env.integer("MAX_QUEUED_REQUESTS", 100, 0, 100_000),
            queue_timeout=env.number("QUEUE_TIMEOUT_SECONDS", 1.0, 0.01, 600),
            shutdown_timeout=env.integer("SHUTDOWN_TIMEOUT_SECONDS", 30, 5, 3600),
            forward_mock_faults=env.switch("FORWARD_MOCK_FAULTS", default=False),
            client_keepalive=env.integer("CLIENT_KEEPALIVE_SECONDS", 20, 1, 3600),
            client_stall_timeout=env.integer("CLIENT_STALL_TIMEOUT_SECONDS", 60, 1, 3600),
            log_level=env.choice("LOG_LEVEL", ("info", "debug", "warning", "error")),
            environ=env.environ,
        )

    def api_key(self, variable: str) -> str:
        """The provider's key in the variable that the models file names.

        :raises InvalidSetting: where there is none, or what cannot be sent as one
        """
        key = Environment(self.environ).api_key(variable)
        if key is None:
            raise InvalidSetting(variable, "is not set, though the models file names it")
        return key


def _model_override(env: Environment, name: str, prefix: str) -> ModelOverride:
    url = env.text(f"{prefix}_URL")
    return ModelOverride(
        name,
        prefix,
        base_url(f"{prefix}_URL", url) if url else None,
        env.text(f"{prefix}_NAME") or None,
        env.api_key(f"{prefix}_API_KEY") or env.api_key("LLM_GATEWAY_API_KEY"),
    )


def _cascade_rules(env: Environment) -> CascadeRules:
    usual, judge = CascadeRules(), env.text("CASCADE_JUDGE_MODEL") or None
    checks = env.choices("CASCADE_CHECKS", CHECKS) or usual.checks
    if "judge" in checks and judge is None:
        raise InvalidSetting("CASCADE_CHECKS", "lists judge, whose model CASCADE_JUDGE_MODEL has to name")
    if "judge" not in checks and judge is not None:
        raise InvalidSetting("CASCADE_JUDGE_MODEL", "is of no use, as CASCADE_CHECKS does not list judge")
    return CascadeRules(
        checks=checks,
        min_mean_probability=env.number("CASCADE_MIN_MEAN_PROBABILITY", usual.min_mean_probability, 0, 1),
        min_token_probability=env.number("CASCADE_MIN_TOKEN_PROBABILITY", usual.min_token_probability, 0, 1),
        max_seconds=env.number("CASCADE_MAX_SECONDS", usual.max_seconds, 0, 86400),
        judge_model=judge,
    )


def _default_models_file() -> Path:
    # os.path, unlike Path, takes a folder that may not be looked into for one without the file.
    return MOUNTED_MODELS_FILE if os.path.isfile(MOUNTED_MODELS_FILE) else OWN_MODELS_FILE


def _is_loopback(bind: str) -> bool:
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False
