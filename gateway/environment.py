"""Typed reads of environment variables, each failure naming its variable in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from gateway.budget import MOST_BUDGET_USD, Budget, Period

DEFAULT_REDIS_URL = "redis://redis:6379/0"
SWITCH = {"1": True, "on": True, "true": True, "yes": True} | {
    "0": False, "off": False, "false": False, "no": False
}  # fmt: skip


class InvalidSetting(ValueError):
    """A variable has a value that the gateway cannot work with."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable}: {problem}")


class Environment:
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

    def fraction(self, variable: str) -> float | None:
        text = self.text(variable)
        if not text:
            return None
        if not re.fullmatch(r"[0-9](\.[0-9]{1,9})?", text) or float(text) > 1:
            raise InvalidSetting(variable, f"must be a number from 0 to 1, such as 0.2, not {text!r}")
        return float(text)

    def choice(self, variable: str, choices: tuple[str, ...]) -> str:
        """One of `choices`, of which the first is the default."""
        text = self.text(variable).lower() or choices[0]
        if text not in choices:
            raise InvalidSetting(variable, f"must be one of: {', '.join(choices)}; not {text!r}")
        return text

    def choices(self, variable: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `choices` that are listed, separated by commas; none where it is not set."""
        text = self.text(variable).lower()
        listed = [each.strip() for each in text.split(",")] if text else []
        for each in listed:
            if each not in choices:
                raise InvalidSetting(variable, f"must list some of: {', '.join(choices)}; not {each!r}")
        return tuple(dict.fromkeys(listed))

    def directory(self, variable: str, default: Path) -> Path | None:
        """A directory that is set, or the default one where it exists."""
        if text := self.text(variable):
            if not os.path.isabs(text):
                text = os.path.abspath(text)
            return Path(text)
        return default if os.path.isdir(default) else None

    def budget(self, variable: str, period_variable: str) -> Budget | None:
        period = Period(self.choice(period_variable, tuple(Period)))
        usd = self.usd(variable)
        if usd is None and self.text(period_variable):
            raise InvalidSetting(period_variable, f"is the period of {variable}, which is not set")
        return None if usd is None else Budget(usd, period)

    def usd(self, variable: str) -> Decimal | None:
        text = self.text(variable)
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,12})?", text) or Decimal(text) > MOST_BUDGET_USD:
            raise InvalidSetting(variable, f"must be an amount in USD, such as 12.50, not {text!r}")
        return Decimal(text)

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

    def redis_url(self, variable: str) -> str:
        text = self.text(variable) or DEFAULT_REDIS_URL
        url = checked_url(variable, text, ("redis", "rediss", "unix"))
        parts = urlsplit(url)
        if parts.scheme != "unix" and not re.fullmatch(r"(/[0-9]{1,5})?", parts.path):
            raise InvalidSetting(variable, "must name its database by a number")
        return url


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
