"""Of a provider's headers a client gets what any HTTP client can read, and nothing that holds a key."""

from __future__ import annotations

import pytest

from gateway.headers import upstream_headers

KEY = "sk-5ecr3t5ecr3t5ecr3t"


def test_known_headers_are_passed_on_and_repeated_ones_joined() -> None:
    headers = [
        ("X-RateLimit-Limit", "1"),
        ("X-RateLimit-Limit", "2"),
        ("Retry-After", "3"),
        ("Set-Cookie", "a=b"),
    ]
    found = upstream_headers([*headers, ("Request-Id", "r1"), ("X-Request-Id", "r2")], KEY)
    assert found.passed == {"X-RateLimit-Limit": "1, 2", "Retry-After": "3"}
    assert found.request_id == "r1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-RateLimit-Limit", "a\r\nX-Evil: 1"),
        ("X-RateLimit-Limit", "a\x00"),
        ("X-RateLimit-Limit", "\xe9"),
        ("X-RateLimit-Limit", ""),
        ("X-RateLimit-Limit", "x" * 1025),
        ("X-RateLimit-Limit", f"of {KEY}"),
        ("X-RateLimit-a b", "1"),
        ("X-RateLimit-a\r\nX-Evil", "1"),
        ("X-RateLimit-\xe9", "1"),
        ("X-RateLimit-a:b", "1"),
    ],
)
def test_what_no_header_of_ours_could_hold_is_left_out(name: str, value: str) -> None:
    assert upstream_headers([(name, value)], KEY).passed == {}
