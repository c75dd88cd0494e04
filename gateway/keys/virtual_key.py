"""Virtual keys: what clients of the gateway identify themselves with, in place of a provider's key."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from gateway.budget import Budget, OnBudget, Scope

PREFIX = "gw-"
ID = re.compile(r"[0-9a-f]{12}")
KEY = re.compile(rf"{PREFIX}({ID.pattern})-[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True)
class VirtualKey:
    """One key as it is stored: its secret only as a hash. Times are seconds since 1970, limits are per
    minute; None stands for no limit. `models` are the names that it may use, `policy` what chooses among
    them, None for the usual one."""

    id: str
    name: str
    secret_hash: str = field(repr=False)
    created_at: int
    owner: str | None = None
    budget: Budget | None = None
    on_budget: OnBudget = OnBudget.CLAMP
    rpm: int | None = None
    tpm: int | None = None
    models: frozenset[str] | None = None
    policy: str | None = None
    expires_at: int | None = None
    revoked_at: int | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def is_opened_by(self, text: str) -> bool:
        """Whether `text` is this key, compared in constant time."""
        return hmac.compare_digest(hash_of(text), self.secret_hash)


@dataclass(frozen=True)
class Tenant:
    """Who asks: the holder of a key, or anybody where `key` is None; and whose money that spends.
    `scopes` are all the budgets that apply, from the narrowest to the widest."""

    key: VirtualKey | None = None
    scopes: tuple[Scope, ...] = ()

    @property
    def models(self) -> frozenset[str] | None:
        """The names of the models that may be used; None for all."""
        return self.key.models if self.key else None


ANYBODY = Tenant()


def new_key(key_id: str | None = None) -> tuple[str, str]:
    """A fresh key's id, or the one given, and the key's text, which nothing stores."""
    key_id = key_id or secrets.token_hex(6)
    return key_id, f"{PREFIX}{key_id}-{secrets.token_urlsafe(32)}"


def hash_of(text: str) -> str:
    """What is stored of a key. It has 256 random bits, so that a slow hash would protect nothing more."""
    return hashlib.sha256(text.encode()).hexdigest()


def id_of(text: str) -> str | None:
    """The id within a key's text, or None for what cannot be a key."""
    match = KEY.fullmatch(text)
    return match[1] if match else None


def is_id(text: str) -> bool:
    """Whether `text` can be a key's id."""
    return ID.fullmatch(text) is not None
