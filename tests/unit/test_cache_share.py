"""What of a long prompt is likely to come from the cache, where nobody has said it."""

from __future__ import annotations

import pytest

from gateway.billing import Usage
from gateway.cache_share import CacheShares


def test_nothing_is_taken_to_be_cached_before_anything_was_stated() -> None:
    shares = CacheShares()
    shares.note("other", Usage(10_000, 9_000, 1))
    shares.note("m", Usage(10_000, 9_000, 1, estimated=True))
    assert shares.likely_cached("m", 10_000) == 0


def test_the_share_is_that_of_the_tokens_and_not_of_the_calls() -> None:
    shares = CacheShares()
    shares.note("m", Usage(98_000, 98_000, 1))
    shares.note("m", Usage(2_000, 0, 1))
    assert shares.likely_cached("m", 10_000) == pytest.approx(9_796, abs=5)


@pytest.mark.parametrize(("tokens", "cached"), [(0, 0), (1023, 0), (1024, 512), (100_000, 50_000)])
def test_short_prompts_are_not_cached_and_teach_nothing(tokens: int, cached: int) -> None:
    shares = CacheShares()
    shares.note("m", Usage(1023, 1023, 1))
    shares.note("m", Usage(1024, 512, 1))
    assert shares.likely_cached("m", tokens) == cached


def test_what_was_stated_long_ago_is_forgotten() -> None:
    shares = CacheShares()
    shares.note("m", Usage(1_000_000, 1_000_000, 1))
    for _ in range(500):
        shares.note("m", Usage(10_000, 0, 1))
    assert shares.likely_cached("m", 10_000) < 10
