"""Settings, read once from the environment; nothing else in the gateway reads it.

`Settings.from_env()` raises `InvalidSetting`, whose text is one line that names the variable.
Only the standard library is imported here, because gunicorn's configuration file uses this
module before gevent has patched it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_REDIS_URL = "redis://redis:6379/0"
# Where Docker Compose mounts the folder of the models file, so that changes reach a running container.
MOUNTED_MODELS_FILE = Path("/etc/llm-gateway/models.toml")
OWN_MODELS_FILE = Path(__file__).with_name("models.toml")
POLICIES = ("prompt_length",)
SWITCH = {"1": True, "on": True, "true": True, "yes": True} | {
    "0": False, "off": False, "false": False, "no": False
}  # fmt: skip
NOT_YET = ("GATEWAY_REQUIRE_KEYS", "GATEWAY_ADMIN_KEY", "ROUTING_EXPENSIVE_SHARE")


class InvalidSetting(ValueError):
    """A variable has a value that the gateway cannot work with."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")


class KeyOnNetwork(InvalidSetting):
    """The gateway would spend a provider's key for whoever reaches it."""

    def __init__(self, network_address: str) -> None:
        super().__init__(
            "GATEWAY_BIND",
            f"refusing to serve a provider's key to the network at {network_address} without client keys; "
            "use a loopback address",
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
    """All that can be set. Times are seconds, sizes are bytes."""

    model_overrides: tuple[ModelOverride, ...]
    models_file: Path
    last_good_models_file: Path | None
    routing_policy: str
    routing_threshold_chars: int
    redis_url: str = field(repr=False)
    redis_key_prefix: str
    redis_timeout: float
    web_concurrency: int
    listen: str
    network_address: str | None
    upstream_connect_timeout: float
    upstream_read_timeout: float
    request_body_timeout: float
    max_request_bytes: int
    shutdown_timeout: int
    client_keepalive: int
    client_stall_timeout: int
    forward_mock_faults: bool
    log_level: str
    environ: Mapping[str, str] = field(repr=False, compare=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process. An empty variable counts as not set.

        :raises InvalidSetting: for the first variable that is wrong
        """
        env = _Environment(os.environ if environ is None else environ)
        for variable in NOT_YET:
            if env.text(variable) and (
                variable != "GATEWAY_REQUIRE_KEYS" or env.switch(variable, default=False)
            ):
                raise InvalidSetting(variable, "not supported by this version; leave it unset")
        bind = env.host("GATEWAY_BIND", "127.0.0.1")
        port = env.integer("GATEWAY_PORT", 8080, 1, 65535)
        host = f"[{bind}]" if ":" in bind else bind
        listen = env.address("GATEWAY_LISTEN", f"{host}:{port}")
        # In a container the gateway listens to all, and GATEWAY_BIND says who can reach that.
        reachable = bind if env.text("GATEWAY_BIND") else listen.rpartition(":")[0].strip("[]")
        network_address = None if _is_loopback(reachable) else reachable
        model_overrides = (
            env.model("CheapModel", "CHEAP_MODEL"),
            env.model("ExpensiveModel", "EXPENSIVE_MODEL"),
        )
        if network_address and any(override.api_key for override in model_overrides):
            raise KeyOnNetwork(network_address)
        return cls(
            model_overrides=model_overrides,
            last_good_models_file=Path(env.text("LAST_GOOD_MODELS_FILE"))
            if env.text("LAST_GOOD_MODELS_FILE")
            else None,
            models_file=Path(env.text("MODELS_FILE") or _default_models_file()),
            routing_policy=env.choice("ROUTING_POLICY", POLICIES),
            routing_threshold_chars=env.integer("ROUTING_THRESHOLD_CHARS", 150, 0, 10**9),
            redis_url=env.redis_url(),
            redis_key_prefix=env.matching("REDIS_KEY_PREFIX", "gateway", r"[A-Za-z0-9_.{}-]{1,64}"),
            redis_timeout=env.number("REDIS_TIMEOUT_SECONDS", 1.0, 0.01, 60),
            web_concurrency=env.integer("WEB_CONCURRENCY", 2, 1, 256),
            listen=listen,
            network_address=network_address,
            upstream_connect_timeout=env.number("UPSTREAM_CONNECT_TIMEOUT_SECONDS", 5.0, 0.01, 600),
            upstream_read_timeout=env.number("UPSTREAM_READ_TIMEOUT_SECONDS", 300.0, 0.01, 3600),
            request_body_timeout=env.number("REQUEST_BODY_TIMEOUT_SECONDS", 30.0, 0.01, 3600),
            max_request_bytes=env.integer("MAX_REQUEST_BYTES", 32 * 2**20, 1, 2**31),
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
        key = _Environment(self.environ).api_key(variable)
        if key is None:
            raise InvalidSetting(variable, "is not set, though the models file names it")
        return key


class _Environment:
    """Typed reads of variables; each failure names its variable."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, variable: str) -> str:
        return self.environ.get(variable, "").strip()

    def integer(self, variable: str, default: int, low: int, high: int) -> int:
        text = self.text(variable)
        if not text:
            return default
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise InvalidSetting(variable, f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    def number(self, variable: str, default: float, low: float, high: float) -> float:
        text = self.text(variable)
        if not text:
            return default
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not low <= float(text) <= high:
            raise InvalidSetting(variable, f"must be a number from {low} to {high}, not {text!r}")
        return float(text)

    def choice(self, variable: str, choices: tuple[str, ...]) -> str:
        """One of `choices`, of which the first is the default."""
        text = self.text(variable).lower() or choices[0]
        if text not in choices:
            raise InvalidSetting(variable, f"must be one of: {', '.join(choices)}; not {text!r}")
        return text

    def switch(self, variable: str, *, default: bool) -> bool:
        text = self.text(variable).lower()
        if not text:
            return default
        if text not in SWITCH:
            raise InvalidSetting(variable, f"must be on or off, not {text!r}")
        return SWITCH[text]

    def matching(self, variable: str, default: str, pattern: str) -> str:
        text = self.text(variable) or default
        if not re.fullmatch(pattern, text):
            raise InvalidSetting(variable, f"must match {pattern}, not {text!r}")
        return text

    def host(self, variable: str, default: str) -> str:
        """A host's name or address, that of IPv6 without its brackets."""
        text = self.text(variable) or default
        if re.fullmatch(r"\[[^\[\]]*:[^\[\]]*\]", text):
            text = text[1:-1]
        if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*", text):
            raise InvalidSetting(variable, f"must be an address or a host name, not {text!r}")
        return text

    def address(self, variable: str, default: str) -> str:
        text = self.text(variable) or default
        port = text.rpartition(":")[2]
        if (
            not re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", text)
            or not 1 <= int(port) <= 65535
        ):
            raise InvalidSetting(variable, f"must be HOST:PORT, not {text!r}")
        return text

    def api_key(self, variable: str) -> str | None:
        api_key = self.text(variable) or None
        if api_key and not re.fullmatch(r"[!-~]+", api_key):
            raise InvalidSetting(variable, "must be visible ASCII characters without spaces")
        return api_key

    def redis_url(self) -> str:
        text = self.text("REDIS_URL") or DEFAULT_REDIS_URL
        url = checked_url("REDIS_URL", text, ("redis", "rediss", "unix"))
        parts = urlsplit(url)
        if parts.scheme != "unix" and not re.fullmatch(r"(/[0-9]{1,5})?", parts.path):
            raise InvalidSetting("REDIS_URL", "must name its database by a number")
        return url

    def model(self, name: str, prefix: str) -> ModelOverride:
        url = self.text(f"{prefix}_URL")
        return ModelOverride(
            name,
            prefix,
            base_url(f"{prefix}_URL", url) if url else None,
            self.text(f"{prefix}_NAME") or None,
            self.api_key(f"{prefix}_API_KEY") or self.api_key("LLM_GATEWAY_API_KEY"),
        )


def base_url(variable: str, text: str, *, called: str = "") -> str:
    """A provider's base URL without its trailing slash; `called` is what the message calls it.

    :raises InvalidSetting: naming `variable`
    """
    url = checked_url(variable, text, ("http", "https"), called=called)
    if "@" in urlsplit(url).netloc or "?" in url or "#" in url:
        raise InvalidSetting(variable, f"{called}must not hold credentials, a query or a fragment")
    return url


def checked_url(variable: str, text: str, schemes: tuple[str, ...], *, called: str = "") -> str:
    """A URL without its trailing slash. Its text is never repeated, since it may hold a password."""
    text = text.rstrip("/")
    wanted = f"{called}must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise InvalidSetting(variable, wanted) from None
    host = parts.path if parts.scheme == "unix" else parts.hostname
    if parts.scheme not in schemes or not host or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise InvalidSetting(variable, wanted)
    return text


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
