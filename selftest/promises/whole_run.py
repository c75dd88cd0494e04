"""What must hold after all that was done to the stack."""

from __future__ import annotations

from selftest.books import await_agreement
from selftest.stack import Stack
from selftest.verdicts import NotTried, Promise, Trial


def whole_run_is_billed(stack: Stack, trial: Trial) -> str:
    if stack.books_at_start is None:
        raise NotTried("the totals at the start are not known")
    trial.times = 1
    return await_agreement(stack, stack.books_at_start, all_whole=False)


PROMISES = (
    Promise(
        "bill",
        "After all of this every cent is accounted for",
        "the totals since the start against the models' bills",
        whole_run_is_billed,
    ),
)
