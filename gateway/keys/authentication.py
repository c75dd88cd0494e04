"""Who a request comes from, by the key in its headers; nothing here repeats any part of one."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator

from gateway.errors import InvalidApiKey, UnknownPath
from gateway.incoming import RequestHeaders
from gateway.keys.key_ring import KeyRing
from gateway.keys.virtual_key import PREFIX, Tenant

MISSING = (
    "A virtual key is needed: send it as 'Authorization: Bearer gw-...', or in the header 'x-api-key' or "
    "'api-key'."
)


def authenticate(headers: RequestHeaders, ring: KeyRing, *, required: bool) -> Tenant:
    """The holder of the virtual key in `headers`; anybody where there is none and none is `required`. Other
    keys, which clients must often send, count as none.

    :raises InvalidApiKey: for a virtual key that is not valid, and for none that is required
    :raises LedgerUnavailable: when that cannot be known now
    """
    for text in _keys_in(headers):
        if text.startswith(PREFIX):
            return ring.tenant_of(text)
    if required:
        raise InvalidApiKey(MISSING)
    return ring.anybody()


def require_admin(headers: RequestHeaders, admin_key: str | None) -> None:
    """Let only those pass who bring the admin key.

    :raises UnknownPath: when there is no such key, so that there is nothing to pass to
    :raises InvalidApiKey: for any other key, and for none
    """
    if admin_key is None:
        raise UnknownPath("There is nothing at this path.")
    if not any(_is_same(text, admin_key) for text in _keys_in(headers)):
        raise InvalidApiKey("The admin key is needed: send it as 'Authorization: Bearer ...'.")


def _keys_in(headers: RequestHeaders) -> Iterator[str]:
    """The keys as OpenAI's clients send them, Anthropic's and Azure's."""
    scheme, _, credentials = (headers.get("authorization") or "").strip().partition(" ")
    if scheme.lower() == "bearer":
        yield credentials.strip()
    for name in ("x-api-key", "api-key"):
        if text := (headers.get(name) or "").strip():
            yield text


def _is_same(text: str, key: str) -> bool:
    # Of equal length, so that not even the key's own shows in the time.
    return hmac.compare_digest(hashlib.sha256(text.encode()).digest(), hashlib.sha256(key.encode()).digest())
