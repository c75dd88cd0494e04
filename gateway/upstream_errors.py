"""The one place that turns what can go wrong on the way to a provider into `UpstreamError` or
`UpstreamTimeout`. Foreign errors' texts hold addresses, so ours do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
import urllib3

from gateway.errors import UpstreamError, UpstreamTimeout

SLOW = "The provider took too long to answer."
FOREIGN_ERRORS = (urllib3.exceptions.HTTPError, OSError, RuntimeError)  # those of `requests` are OSErrors


@contextmanager
def translating_errors() -> Iterator[None]:
    """
    :raises UpstreamError: for a foreign error in the block
    """
    try:
        yield
    except FOREIGN_ERRORS as error:
        raise translated(error) from error


def translated(error: Exception) -> UpstreamError:
    """Ours for one of `FOREIGN_ERRORS`."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        return UpstreamTimeout(SLOW)
    if isinstance(error, requests.ConnectionError):
        # requests says ConnectionError for a time-out while a body is read.
        if "Read timed out" in str(error):
            return UpstreamTimeout(SLOW)
        return UpstreamError("The provider could not be reached or closed the connection.")
    return UpstreamError("The provider's answer broke off or could not be read.")
