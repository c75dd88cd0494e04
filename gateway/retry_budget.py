"""How many retries a worker may send, so that an outage is not made worse by them."""

from __future__ import annotations

# Enough for a burst of failures after a quiet time.
MOST_SAVED_RETRIES = 100
# A lone client's retry must not hang on the traffic of others.
ALWAYS_UNDER_WAY = 3


class RetryBudget:
    """Every request saves `percent` of a retry, up to a hundred retries; the budget begins with as many. A
    retry spends one. Beyond that, three may be under way at any time. With 0 there are no retries at all.

    Retries of requests that have another model to turn to are only granted from the upper half, so that the
    lower one is left to those that would fail without.
    """

    def __init__(self, percent: int) -> None:
        self._percent = percent
        self._full = MOST_SAVED_RETRIES * 100
        self._saved = self._full  # in hundredths of a retry
        self._under_way = 0

    def deposit(self) -> None:
        """Count a request, whatever becomes of it."""
        self._saved = min(self._full, self._saved + self._percent)

    def try_withdraw(self, last_chance: bool) -> bool:
        """Whether a retry may be sent; if so, `done` has to be called once it has ended, however it did.
        `last_chance` says that there is no other model to turn to."""
        if not self._percent:
            return False
        reserved = 0 if last_chance else self._full // 2
        if self._saved - 100 >= reserved:
            self._saved -= 100
        elif self._under_way >= ALWAYS_UNDER_WAY:
            return False
        self._under_way += 1
        return True

    def give_back(self) -> None:
        """A retry that was granted has not been sent."""
        self._saved = min(self._full, self._saved + 100)
        self._under_way -= 1

    def done(self) -> None:
        """A retry that was granted has ended."""
        self._under_way -= 1
