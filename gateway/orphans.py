"""What calls cost whose worker died in the middle of them: as the provider says where it can be asked, else
by estimate."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from gateway.billing import MOST_USD, Usage, usage_estimated
from gateway.catalog import Model
from gateway.catalog_watch import CatalogWatch
from gateway.errors import UpstreamError
from gateway.ledger.entry import Entry
from gateway.ledger.journal import Record
from gateway.ledger.recovery import FoundBill
from gateway.prices import charge
from gateway.upstream import Upstream

# A request may still lie unread at its provider when its sender is dead for a moment only.
NEVER_CAME_SECONDS = 3.0
# How long a provider is asked that does not answer, or says that the call is running.
ASK_SECONDS = 600.0

logger = logging.getLogger(__name__)


@dataclass
class _Search:
    since: float
    unknown_since: float | None = None


class Orphans:
    """Finds the bills of such calls, each asked for as often as it takes."""

    def __init__(self, catalogs: CatalogWatch, upstream: Upstream) -> None:
        self._catalogs = catalogs
        self._upstream = upstream
        self._searches: dict[str, _Search] = {}

    def bill_of(self, call: str, record: Record) -> FoundBill | None:
        """See `BillOf`."""
        models = {model.name: model for model in self._catalogs.current}
        model = models.get(record["model"])
        if model is None:
            logger.error("a call cannot be billed: its model is gone", extra={"model": record["model"]})
            return FoundBill(None, stated=False)
        baseline = models.get(record["baseline"], model)
        if model.bill_path is None:
            # One that was still waiting for its budget was never made.
            return (
                FoundBill(None, stated=True)
                if record.get("reserving")
                else _estimate(model, baseline, record)
            )
        now = time.monotonic()
        search = self._searches.setdefault(call, _Search(now))
        found = self._ask(call, record, model, baseline, search)
        if found is None and now - search.since > ASK_SECONDS:
            found = _estimate(model, baseline, record)
        if found is not None:
            self._searches.pop(call, None)
        return found

    def _ask(
        self, call: str, record: Record, model: Model, baseline: Model, search: _Search
    ) -> FoundBill | None:
        now = time.monotonic()
        try:
            stated = self._upstream.bill_of(model, call)
        except UpstreamError:
            return None
        if stated is None:
            return _estimate(model, baseline, record)
        if "error" in stated:
            search.unknown_since = search.unknown_since or now
            never_came = now - search.unknown_since >= NEVER_CAME_SECONDS
            return FoundBill(None, stated=True) if never_came else None
        if stated.get("state") != "ended":
            return None
        try:
            entry = _entry(model, baseline, stated)
        except (LookupError, TypeError, ValueError, ArithmeticError):
            return _estimate(model, baseline, record)
        if entry is not None and record.get("held"):  # it was whole perhaps, but no client has got it
            entry = replace(entry, answered=False, baseline_cost=Decimal(0))
        return FoundBill(entry, stated=True)


def _entry(model: Model, baseline: Model, stated: Mapping[str, Any]) -> Entry | None:
    usage = Usage(
        int(stated["input_tokens"]), int(stated["cached_input_tokens"]), int(stated["output_tokens"])
    )
    cost, answered = Decimal(stated["cost_usd"]), bool(stated["calls"])
    if not cost.is_finite() or not 0 <= cost <= MOST_USD:
        raise ValueError
    if not answered and not cost:
        return None
    return Entry(
        model.name,
        answered=answered,
        failed=True,
        usage=usage,
        cost=cost,
        baseline_cost=_baseline_cost(model, baseline, usage, cost) if answered else Decimal(0),
    )


def _estimate(model: Model, baseline: Model, record: Record) -> FoundBill:
    """The prompt alone: what came of an answer died with the worker."""
    usage = usage_estimated(record["prompt_tokens"], 0)
    cost = charge(model.price, usage)
    entry = Entry(model.name, False, True, usage, cost, baseline_cost=Decimal(0))
    return FoundBill(entry, stated=False)


def _baseline_cost(model: Model, baseline: Model, usage: Usage, cost: Decimal) -> Decimal:
    return cost if baseline is model else charge(baseline.price, replace(usage, stated_cost=None))
