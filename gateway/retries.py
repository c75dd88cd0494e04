"""Which failures of a provider are worth another call of the same model, and after what pause."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# What other clients of these providers retry too; 529 is Anthropic's "overloaded".
RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


def backoff(retries: int) -> float:
    """Seconds to wait before the next call after so many retries: anything up to a bound that doubles ("full
    jitter", Amazon's Builders' Library), so that those who failed together do not come back together."""
    bound = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(retries, 30))
    return random.uniform(0, bound)  # noqa: S311 - only spreads the calls


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds for which a provider asks to be left alone, or None where it does not say."""
    told = {name.lower(): value.strip() for name, value in headers.items()}
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", milliseconds := told.get("retry-after-ms", "")):
        return float(milliseconds) / 1000
    value = told.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
