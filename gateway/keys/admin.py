"""The routes for those who hold the admin key: virtual keys and their owners' budgets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from gateway.errors import InvalidRequest, KeyNotFound
from gateway.keys.authentication import require_admin
from gateway.keys.key_fields import InvalidField, read_changes, read_name, read_new_key, read_owner_budget
from gateway.keys.key_view import Owner, key_view, key_views, new_key_view, owner_view
from gateway.ledger.key_store import KeyStore
from gateway.schema.base import parse_body
from gateway.wiring import gateway

USUAL_PAGE = 100
LONGEST_PAGE = 1000

admin = Blueprint("admin", __name__)


@admin.before_request
def authenticate_admin() -> None:
    """Before anything else of a request is looked at."""
    require_admin(g.incoming.headers, gateway().settings.admin_key)


@admin.after_request
def keep_out_of_caches(response: Response) -> Response:
    """An answer may hold a new key."""
    response.headers["Cache-Control"] = "no-store"
    return response


@admin.post("/admin/keys")
def create_key() -> Response:
    """A new key; its text is in this answer and in no other."""
    values = _body()
    with _naming_fields():
        fields = read_new_key(values, gateway().catalogs.current.names, time.time())
    key, text = _store().create(**fields)
    response = jsonify({**new_key_view(key), "key": text})
    response.status_code = 201
    return response


@admin.get("/admin/keys")
def list_keys() -> Response:
    """A page of all keys in the order of their creation, those revoked and expired among them."""
    limit = _limit(request.args.get("limit"))
    try:
        keys, has_more = _store().page(request.args.get("after") or None, limit)
    except KeyNotFound as error:
        raise InvalidRequest("'after' must be the id of a key.", param="after") from error
    return jsonify(
        {
            "object": "list",
            "data": key_views(_store(), keys),
            "has_more": has_more,
            "last_id": keys[-1].id if keys else None,
        }
    )


@admin.get("/admin/keys/<key_id>")
def show_key(key_id: str) -> Response:
    """One key."""
    return jsonify(key_view(_store(), _store().get(key_id)))


@admin.patch("/admin/keys/<key_id>")
def change_key(key_id: str) -> Response:
    """Change the fields that the body names; null takes a limit away."""
    values = _body()
    key = _store().get(key_id)
    with _naming_fields():
        fields = read_changes(values, key.budget, gateway().catalogs.current.names, time.time())
    return jsonify(key_view(_store(), _store().update(key, replace(key, **fields))))


@admin.post("/admin/keys/<key_id>/rotate")
def rotate_key(key_id: str) -> Response:
    """Exchange a key's secret; the key's new text is in this answer and in no other."""
    view = key_view(_store(), _store().get(key_id))
    _, text = _store().rotate(key_id)  # last, so that nothing can fail once there is a text to show
    return jsonify({**view, "key": text})


@admin.delete("/admin/keys/<key_id>")
def revoke_key(key_id: str) -> Response:
    """Refuse a key from now on; it stays in the list."""
    return jsonify(key_view(_store(), _store().revoke(key_id)))


@admin.put("/admin/owners/<path:name>")
def put_owner(name: str) -> Response:
    """Give all keys of an owner together a budget."""
    values = _body()
    with _naming_fields():
        owner = Owner(read_name("name", name), read_owner_budget(values))
    _store().set_owner_budget(owner.name, owner.budget)
    return jsonify(owner_view(_store(), owner))


@admin.get("/admin/owners/<path:name>")
def show_owner(name: str) -> Response:
    """An owner's budget, of which there may be none."""
    with _naming_fields():
        read_name("name", name)
    return jsonify(owner_view(_store(), Owner(name, _store().owner_budget(name))))


@admin.delete("/admin/owners/<path:name>")
def delete_owner(name: str) -> Response:
    """Take an owner's budget away; the keys stay."""
    with _naming_fields():
        owner = Owner(read_name("name", name), None)
    _store().set_owner_budget(owner.name, None)
    return jsonify(owner_view(_store(), owner))


def _store() -> KeyStore:
    return gateway().key_store


def _body() -> dict[str, Any]:
    """The body's values, amounts as they are written."""
    body = gateway().bodies.parsed(g.incoming, parse_body)
    values = dict(body.values)
    if isinstance(values.get("budget_usd"), float):
        start, end = body.spans["budget_usd"]
        values["budget_usd"] = Decimal(body.raw[start:end].decode())
    return values


def _limit(text: str | None) -> int:
    if text is None:
        return USUAL_PAGE
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= LONGEST_PAGE):
        raise InvalidRequest(f"'limit' must be a whole number from 1 to {LONGEST_PAGE}.", param="limit")
    return int(text)


@contextmanager
def _naming_fields() -> Iterator[None]:
    """
    :raises InvalidRequest: which names the field at fault
    """
    try:
        yield
    except InvalidField as error:
        raise InvalidRequest(f"'{error.field}' {error}.", param=error.field) from error
