"""What is being tried just now, on standard error: one line that changes, or a line for each where that is no
terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.status import Status

from selftest.verdicts import Promise, Verdict


class Progress:
    """Tells of a run of so many promises."""

    def __init__(self, number: int) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status = Status("", console=self._console)
        self._number = number
        self._done = 0

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def tell(self, promise: Promise, verdict: Verdict | None) -> None:
        """A promise is begun, or has its verdict."""
        self._done += verdict is None
        place = f"{self._done:>2}/{self._number} {promise.name}"
        if self._console.is_terminal:
            self._status.update(f"{place}: {promise.tried}")
        elif verdict is not None:
            self._console.print(f"{place}: {verdict.outcome} ({verdict.seconds:.1f} s)", markup=False)
