"""`/metrics` as text for Prometheus.

Every scrape makes a registry of its own: the counters are those in Redis, so that each worker says the same,
and only the gauges are the answering worker's. The library's process-wide registry is never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from werkzeug.datastructures import MIMEAccept

from gateway.errors import LedgerUnavailable
from gateway.ledger.ledger import Ledger
from gateway.ledger.totals import ModelTotals
from gateway.routing.scores import KEPT
from gateway.routing.share import HeldShare

JSON = "application/json"
OPENMETRICS = "application/openmetrics-text"
TEXT = "text/plain"
DEGRADED_REASONS = (LedgerUnavailable.code, "journal_unwritable")  # those that always have a series
EVERYWHERE = "over all workers, replicas and restarts"
ANSWERING = "the one worker that answered this scrape"


def wanted_media_type(accept: MIMEAccept) -> str:
    """`TEXT` or `OPENMETRICS` where the client would rather have it than JSON, which is all that others get.

    Parameters are not looked at: of each there is one version, and its `Content-Type` names it."""
    ranges = MIMEAccept([(media_range.partition(";")[0].strip(), quality) for media_range, quality in accept])
    return ranges.best_match([JSON, OPENMETRICS, TEXT], default=JSON)


def look_at(ledger: Ledger, models: Sequence[str], shares: Mapping[str, HeldShare] | None = None) -> Snapshot:
    """What this worker can say now, that of the `shares` included which are held, by the policy. A
    Redis that is known to be lost is not asked for the counters."""
    degraded = {reason.partition(":")[0] for reason in ledger.degraded()}
    totals = None
    if LedgerUnavailable.code not in degraded:
        try:
            totals = ledger.model_totals(models)
        except LedgerUnavailable:
            degraded.add(LedgerUnavailable.code)
    return Snapshot(totals, frozenset(degraded), ledger.backlog_bytes, shares or {})


def exposition(snapshot: Snapshot, media_type: str) -> tuple[bytes, str]:
    """The text, without the families that are not known, and its content type."""
    encode, content_type = choose_encoder(media_type)
    registry = CollectorRegistry()
    registry.register(snapshot)
    return encode(registry), content_type


@dataclass(frozen=True, eq=False)  # a registry hashes its collectors, and totals cannot be
class Snapshot(Collector):
    """All figures of one scrape. `totals` are None where they are not known; `degraded` are codes."""

    totals: ModelTotals | None
    degraded: frozenset[str]
    backlog_bytes: int
    shares: Mapping[str, HeldShare] = field(default_factory=dict)

    def collect(self) -> Iterator[Metric]:
        """The families, in the order of the text."""
        if self.totals is not None:
            yield from _counters(self.totals)
        yield self._degraded_gauge()
        yield GaugeMetricFamily(
            "llm_gateway_journal_backlog",
            f"What its journal still has to give to Redis, as {ANSWERING} sees it.",
            self.backlog_bytes,
            unit="bytes",
        )
        if self.shares:
            yield from _share_gauges(self.shares)

    def _degraded_gauge(self) -> Metric:
        gauge = GaugeMetricFamily(
            "llm_gateway_degraded",
            f"1 while something is not as it should be, else 0, as {ANSWERING} sees it: ledger_unavailable, "
            "Redis cannot be used; journal_unwritable, its journal takes no records.",
            labels=["reason"],
        )
        for reason in [*DEGRADED_REASONS, *sorted(self.degraded.difference(DEGRADED_REASONS))]:
            gauge.add_metric([reason], reason in self.degraded)
        return gauge


def _share_gauges(shares: Mapping[str, HeldShare]) -> Iterator[Metric]:
    lately = f"over all workers and replicas, as {ANSWERING} has heard it"
    target = GaugeMetricFamily(
        "llm_gateway_routing_share_target",
        "The share of a policy's choices that the dearest model is to have.",
        labels=["policy"],
    )
    share = GaugeMetricFamily(
        "llm_gateway_routing_share",
        f"The share that it has had of about the last {KEPT} choices, {lately}.",
        labels=["policy"],
    )
    threshold = GaugeMetricFamily(
        "llm_gateway_routing_threshold",
        f"The score that this share of those choices lies above, {lately}: it moves where the traffic does.",
        labels=["policy"],
    )
    for policy, held in shares.items():
        target.add_metric([policy], held.target)
        threshold.add_metric([policy], held.usual_threshold)
        if held.share is not None:
            share.add_metric([policy], held.share)
    yield from (target, share, threshold)


def _counters(totals: ModelTotals) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "llm_gateway_requests", f"Requests that a model answered with 2xx, {EVERYWHERE}.", labels=["model"]
    )
    errors = CounterMetricFamily(
        "llm_gateway_errors", f"Calls that a model failed or refused, {EVERYWHERE}.", labels=["model"]
    )
    cost = CounterMetricFamily(
        "llm_gateway_cost",
        f"What the providers bill for all calls, failed ones included, {EVERYWHERE}.",
        labels=["model"],
        unit="usd",
    )
    tokens = CounterMetricFamily(
        "llm_gateway_tokens",
        f"Tokens of all calls, failed ones included, {EVERYWHERE}. "
        "Those of type cached_input are among those of type input.",
        labels=["model", "type"],
        unit="tokens",
    )
    for model, figures in totals.models.items():
        requests.add_metric([model], figures.requests)
        errors.add_metric([model], figures.errors)
        cost.add_metric([model], float(figures.cost))
        tokens.add_metric([model, "input"], figures.input_tokens)
        tokens.add_metric([model, "output"], figures.output_tokens)
        tokens.add_metric([model, "cached_input"], figures.cached_input_tokens)
    yield from (requests, errors, cost, tokens)
    yield CounterMetricFamily(
        "llm_gateway_baseline_cost",
        f"What all calls would have cost at the dearest model, {EVERYWHERE}.",
        float(totals.baseline_cost),
        unit="usd",
    )
