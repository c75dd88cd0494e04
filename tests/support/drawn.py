"""Bodies that hypothesis draws, sent to a gateway that must not fail whatever they are."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.conftest import GatewayUnderTest
from tests.support.refusals import COUNT_TOKENS, assert_error_shape, assert_serving

drawing = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
any_text = st.text(st.characters(), max_size=20)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)


any_objects = st.dictionaries(any_text, any_json, max_size=4)
BROKEN_OFF = (b'data: {"error"', b"event: error")


@st.composite
def spoiled(draw: st.DrawFn, good: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """A good object in which up to two places, and often none, hold something else, nothing, or more."""
    value: dict[str, Any] = copy.deepcopy(draw(good))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        holder, key = draw(st.sampled_from(list(places_in(value))))
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace":
            holder[key] = draw(any_json)
        elif change == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[draw(any_text)] = draw(any_json)
        else:
            holder.append(draw(any_json))
        if not value:
            break
    return value


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each object or list within a value, itself included, with each of its keys or indices."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in members:
        yield value, key
        yield from places_in(child)


class Statuses:
    """Sends bodies and counts how they were answered."""

    def __init__(self, gateway: GatewayUnderTest) -> None:
        self._session = requests.Session()
        self._url = gateway.gateway_url
        self.seen: Counter[int] = Counter()
        self.billed = 0

    def send(self, path: str, body: bytes) -> None:
        answer = self._session.post(f"{self._url}{path}", data=body, timeout=10)
        kind = answer.headers["Content-Type"]
        if answer.status_code == 200:
            assert kind in ("application/json", "text/event-stream; charset=utf-8")
            assert not any(mark in answer.content for mark in BROKEN_OFF), answer.text
            self.billed += path != COUNT_TOKENS
        else:
            assert 400 <= answer.status_code < 500, answer.text
            assert kind == "application/json"
            assert_error_shape(path, answer.json(), own="X-Gateway-Model" not in answer.headers)
        self.seen[answer.status_code] += 1


@contextmanager
def sending(gateway: GatewayUnderTest) -> Iterator[Statuses]:
    """Sends what the block draws, and counts in the end as many answers as the gateway."""
    before = int(gateway.counters().get("requests", 0))
    statuses = Statuses(gateway)
    yield statuses
    assert int(gateway.counters().get("requests", 0)) == before + statuses.billed
    assert_serving(gateway)
