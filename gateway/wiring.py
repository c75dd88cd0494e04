"""What the views need, one of each per worker."""

from __future__ import annotations

from dataclasses import dataclass, field

from flask import current_app

from gateway.body import Bodies
from gateway.cache_share import CacheShares
from gateway.catalog_watch import CatalogWatch
from gateway.circuits import Circuits
from gateway.config import Settings
from gateway.first_byte_times import FirstByteTimes
from gateway.keys.key_ring import KeyRing
from gateway.ledger.decision_log import DecisionLog
from gateway.ledger.key_store import KeyStore
from gateway.ledger.ledger import Ledger
from gateway.ledger.model_store import ModelStore
from gateway.orphans import Orphans
from gateway.overload import ModelSlots, Slots
from gateway.retry_budget import RetryBudget
from gateway.routing.model_watch import ModelWatch
from gateway.routing.routing import Routing
from gateway.routing.share_board import ShareBoard
from gateway.upstream import Upstream


@dataclass(frozen=True)
class Gateway:
    """The parts of a worker."""

    settings: Settings
    catalogs: CatalogWatch
    routing: Routing
    ledger: Ledger
    upstream: Upstream
    decisions: DecisionLog
    trained_models: ModelStore
    key_store: KeyStore
    keys: KeyRing
    bodies: Bodies
    slots: Slots
    model_slots: ModelSlots
    circuits: Circuits
    retry_budget: RetryBudget
    share_board: ShareBoard | None = None
    cache_shares: CacheShares = field(default_factory=CacheShares)
    first_byte_times: FirstByteTimes = field(default_factory=FirstByteTimes)
    without_probabilities: set[str] = field(default_factory=set)  # the models that refuse to tell them

    def start(self) -> None:
        """Begin what a worker does besides answering requests; needs its event loop."""
        self.catalogs.start()
        self.keys.start()
        ModelWatch(self.trained_models, self.routing).start()
        self.ledger.start(Orphans(self.catalogs, self.upstream).bill_of)
        self.circuits.start(lambda: self.catalogs.current.names)
        if self.share_board is not None:
            self.share_board.start()


def gateway() -> Gateway:
    found: Gateway = current_app.extensions["gateway"]
    return found
