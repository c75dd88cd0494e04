"""The models that can still be asked where one fails."""

from __future__ import annotations

import contextlib

from gateway.admission import Admissions
from gateway.errors import InvalidRequest
from gateway.passage import Passage
from gateway.router import Route, fallbacks


class Others:
    """Of one request whose first model is that of `first`; none where `fall_back` is false. With
    `has_better`, an answer is there already, and no failing call is the last resort."""

    def __init__(
        self, admissions: Admissions, first: Route, *, fall_back: bool, has_better: bool = False
    ) -> None:
        self._admissions = admissions
        self._first = first
        self._fall_back = fall_back
        self._has_better = has_better
        self._left: list[tuple[Route, Passage]] | None = None

    def begin_with(self, first: Route) -> None:
        """Another model is the first one after all."""
        self._first, self._left = first, None

    @property
    def left(self) -> list[tuple[Route, Passage]]:
        """Those that can still be asked instead, with the ways there, the next one first. Found out when the
        first one has failed."""
        if self._left is None:
            self._left = []
            routes = []
            if self._fall_back:
                routes = fallbacks(self._admissions.asked, self._admissions.catalog, self._first)
            for route in routes:
                with contextlib.suppress(InvalidRequest):  # its translation cannot say all of the request
                    self._left.append((route, self._admissions.way_of(route)))
        return self._left

    def __bool__(self) -> bool:
        """Whether a call that fails leaves anything to give to the client."""
        return self._has_better or bool(self.left)
