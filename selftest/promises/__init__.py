"""The promises in the order in which they are tried: what is gentle first, what kills last."""

from selftest.promises import budgets, faults, outages, privacy, serving, whole_run

PROMISES = (
    *serving.PROMISES,
    *privacy.PROMISES,
    *faults.PROMISES,
    *budgets.PROMISES,
    *outages.PROMISES,
    *whole_run.PROMISES,
)
